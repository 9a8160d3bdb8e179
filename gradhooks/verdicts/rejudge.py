"""A finished report under another threshold: judged again by its own numbers, without the model."""

import dataclasses
import math
from collections.abc import Sequence

from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Comparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.verdicts import declared, judge

# Reasons that the threshold has decided. Every other one has a cause that no threshold changes.
_DECIDED_BY_THRESHOLD = (Reason.AGREES, Reason.MISMATCH)


def rejudge(report: CheckReport, threshold: float) -> CheckReport:
    """Returns a report as it reads under another threshold.

    A comparison that agreed or mismatched is judged again by the rule of the check itself,
    `judge.judge`, on the stored numbers. The others keep their verdict: no threshold changes a
    kink, noise or a blocked gradient, and a declared mismatch stays declared. Comparisons of the
    optimizer gradient keep theirs too: their tolerance belongs to the precision of training.

    A larger threshold only ever softens a verdict. A smaller one may fail a measurement that was
    good enough for the stored one: a check would take finer steps and replicates before it fails.

    Measured numbers stay as they are, `relative_difference` and `coverage` among them. A diagnosis
    stays while anything it describes still fails.

    Args:
        report: A `CheckReport` as the check made it.
        threshold: float above 0. Relative difference above which a comparison can fail.

    Returns:
        A `CheckReport`; equal to `report` under its own threshold.

    Raises:
        ValueError: If `threshold` is not a finite number above 0.

    Example:

    >>> from gradhooks.reports.records import DerivativeComparison
    >>> numbers = (1.0, 1.001, 1e-9, 1e-5, 5e-4)
    >>> judged = (Verdict.FAIL, Reason.MISMATCH)
    >>> off = DerivativeComparison("w", (0,), "total", *numbers, *judged, left=1.001, right=1.001)
    >>> report = CheckReport(
    ...     7, Verdict.FAIL, Reason.MISMATCH, {"total": 5e-4}, (off,), threshold=1e-6
    ... )
    >>> str(rejudge(report, 1e-2).verdict), str(rejudge(report, 1e-4).verdict)
    ('PASS', 'FAIL')
    """
    _check_threshold(threshold)
    if not report.comparisons:  # the check met an obstacle, which no threshold changes
        return dataclasses.replace(report, threshold=threshold)
    expect = [(pattern, kind) for pattern, kind in report.expect if kind in declared.KINDS]
    judged = [_rejudge_comparison(c, threshold) for c in report.comparisons]
    judged = declared.mark_declared(judged, expect)
    comparisons = tuple(declared.mark_as_before(judged, report.comparisons))
    verdict, reason = judge.judge_check(comparisons)
    return dataclasses.replace(
        report,
        verdict=verdict,
        reason=reason,
        comparisons=comparisons,
        threshold=threshold,
        diagnoses=_select_standing(report.diagnoses, comparisons),
    )


def _check_threshold(threshold: float) -> None:
    if not math.isfinite(threshold) or threshold <= 0:
        raise ValueError(
            f"`threshold` is a relative difference. Received: threshold={threshold!r}. "
            "Expected a float above 0. Try 1e-7, the default where everything is computed in "
            "float64."
        )


def _rejudge_comparison(comparison: Comparison, threshold: float) -> Comparison:
    c = comparison
    # `allowed` is 0 where the loss moves in steps only, and no threshold was applied.
    if isinstance(c, GradientComparison) or not c.allowed:
        return c
    truncation = c.error if math.isnan(c.truncation) else c.truncation
    estimate = DerivativeEstimate(
        slope=c.numeric,
        error=c.error,
        step_size=c.step_size,
        left=c.left,
        right=c.right,
        left_error=math.inf if math.isnan(c.left_error) else c.left_error,
        right_error=math.inf if math.isnan(c.right_error) else c.right_error,
        truncation=truncation,
    )
    allowed = judge.allowed_gap(c.analytic, estimate, threshold, c.magnitude)
    if c.reason not in _DECIDED_BY_THRESHOLD:
        return dataclasses.replace(c, allowed=allowed)
    verdict, reason = judge.judge(c.analytic, estimate, threshold, c.magnitude)
    return dataclasses.replace(c, allowed=allowed, verdict=verdict, reason=reason)


def _select_standing(
    diagnoses: Sequence[Diagnosis], comparisons: Sequence[Comparison]
) -> tuple[Diagnosis, ...]:
    """The diagnoses of variables of which a term that they describe still fails."""
    failed: dict[str, set[str]] = {}
    for c in comparisons:
        if c.verdict is Verdict.FAIL:
            failed.setdefault(c.path, set()).add(c.term)
    standing: list[Diagnosis] = []
    for d in diagnoses:
        terms = failed.get(d.path)
        if terms and (not d.terms or terms.intersection(d.terms)):
            standing.append(d)
    return tuple(standing)
