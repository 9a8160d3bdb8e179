"""A finished report under another threshold: judged anew from its own numbers, without the model."""

import dataclasses
import math

from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import declared, judge

# What the threshold has decided. Every other reason says why it is not a matter of the threshold.
_FOLLOWING = (Reason.AGREES, Reason.MISMATCH)


def rejudge(report, threshold):
    """Returns a report as it reads under another threshold.

    A comparison that agreed or mismatched is judged again by the rule of the
    check itself, `verdict.judge`, on the stored numbers. The others keep their
    verdict: a kink, noise or a blocked gradient is none of the threshold's
    making, and what is declared stays declared. So does the term `"trained"`,
    whose tolerance belongs to the precision of training.

    A larger threshold only ever softens a verdict. A smaller one may accuse on
    the strength of a measurement that was good enough for the stored threshold:
    no finer ladder and no second opinion stand behind it.

    The measured numbers stay as they are, `relative_difference` and `coverage`
    among them. A diagnosis stays while anything it speaks of still fails.

    Args:
        report: A `CheckReport` as the check made it.
        threshold: float above 0. Relative difference above which a comparison
            can fail.

    Returns:
        A `CheckReport`; equal to `report` under its own threshold.

    Raises:
        ValueError: If `threshold` is not a finite number above 0.

    Example:

    >>> from gradhooks.reports.records import CheckReport, DerivativeComparison, Verdict
    >>> off = DerivativeComparison("w", (0,), "total", 1.0, 1.001, 1e-9, 1e-5, 5e-4, Verdict.FAIL, Reason.MISMATCH, 1.001, 1.001)
    >>> report = CheckReport(7, Verdict.FAIL, Reason.MISMATCH, {"total": 5e-4}, (off,), threshold=1e-6)
    >>> str(rejudged(report, 1e-2).verdict), str(rejudged(report, 1e-4).verdict)
    ('PASS', 'FAIL')
    """
    if not math.isfinite(threshold) or threshold <= 0:
        raise ValueError(
            f"`threshold` is a relative difference. Received: threshold={threshold!r}. "
            "Expected a float above 0. Try 1e-7, the default where everything is computed in float64."
        )
    if not report.comparisons:
        # The check met an obstacle, which has nothing to do with any threshold.
        return dataclasses.replace(report, threshold=threshold)
    meant = [(pattern, kind) for pattern, kind in report.expect if kind in declared.KINDS]
    comparisons = tuple(
        declared.excuse([_comparison(c, threshold) for c in report.comparisons], meant)
    )
    overall, reason = judge.overall(comparisons)
    return dataclasses.replace(
        report,
        verdict=overall,
        reason=reason,
        comparisons=comparisons,
        threshold=threshold,
        diagnoses=_standing(report.diagnoses, comparisons),
    )


def _comparison(comparison, threshold):
    c = comparison
    # Where the loss moves in steps alone, there was no tolerance to begin with.
    if isinstance(c, GradientComparison) or not c.allowed:
        return c
    truncation = c.error if math.isnan(c.truncation) else c.truncation
    estimate = DerivativeEstimate(
        c.numeric, c.error, c.step_size, c.left, c.right, c.is_kink, truncation=truncation
    )
    allowed = judge.allowed_gap(c.analytic, estimate, threshold, c.magnitude)
    if c.reason not in _FOLLOWING:
        return dataclasses.replace(c, allowed=allowed)
    judged, reason = judge.judge(c.analytic, estimate, threshold, c.magnitude)
    return dataclasses.replace(c, allowed=allowed, verdict=judged, reason=reason)


def _standing(diagnoses, comparisons):
    """The diagnoses of variables of which something that they speak of still fails."""
    failed = {(c.path, c.term) for c in comparisons if c.verdict is Verdict.FAIL}
    paths = {path for path, _ in failed}
    return tuple(
        d
        for d in diagnoses
        if d.path in paths and (not d.terms or failed & {(d.path, t) for t in d.terms})
    )
