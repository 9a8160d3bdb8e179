"""Who is not to be blamed: variables that training differentiates rightly, whatever the trace of the check says.

The derivative that is measured is the judge. Where what the optimizer receives
agrees with it and the check's own backpropagation does not, the fault is with
the trace: the check could not follow the variable into the code that uses it.
"""

import dataclasses
import math

import numpy as np

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import optimizer_gradient

# A blocked gradient is seen over a long way, on which the slope itself changes.
_FAR = 0.3


def withdraw_untraced(settling, comparisons, directions, finding):
    """Takes back what only the check's own trace speaks for.

    Args:
        settling: The `Settling`, with the oracle.
        comparisons: All numeric comparisons.
        directions: The `Measured` directions among them.
        finding: The `received.Finding` about the trained gradient.

    Returns:
        The comparisons, the finding, and notes.
    """
    layout = settling.layout
    compiled = {layout.paths[v] for v in settling.oracle.bypassed}
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL]
    right, are_directions_right = set(), False
    if failed and finding.gradient is not None:
        judge = _Judge(settling, finding.gradient)
        by_path = {}
        for c in failed:
            if c.index is not None and c.term == "total":
                by_path.setdefault(c.path, []).append(c)
        right = {path for path, own in by_path.items() if all(map(judge.is_right_at, own))}
        are_directions_right = all(
            map(judge.is_right_along, [m for m in directions if m.has_failed])
        )
        others = {c.path for c in failed if c.index is not None} - right - compiled
        if not others and are_directions_right:
            # What differs from the trace is what the directions have found.
            right |= {c.path for c in finding.comparisons if c.verdict is Verdict.FAIL}
    innocent = right | compiled
    if not innocent:
        return comparisons, finding, ()
    local = [c for c in comparisons if c.path in innocent]
    spoiled = {id(c) for c in local}
    if not any(
        c.verdict is Verdict.FAIL and c.index is not None and id(c) not in spoiled
        for c in comparisons
    ):
        spoiled |= {
            id(c) for c in comparisons if c.index is None and (are_directions_right or compiled)
        }
    comparisons = [_untraced(c) if id(c) in spoiled else c for c in comparisons]
    told = tuple(_untraced(c) if c.path in innocent else c for c in finding.comparisons)
    guilty = {c.path for c in told if c.verdict is Verdict.FAIL}
    finding = dataclasses.replace(
        finding, comparisons=told, diagnoses=tuple(d for d in finding.diagnoses if d.path in guilty)
    )
    # Code that gives NaN has been followed; `received` tells of it.
    followed = {c.path for c in local if not math.isfinite(c.analytic)}
    return (
        comparisons,
        finding,
        tuple(_notes(sorted(right - compiled - followed), sorted(compiled))),
    )


def _notes(right, compiled):
    if right:
        yield (
            f"of {', '.join(right)} the optimizer receives a gradient that agrees with the numeric derivative; the "
            "check's own trace does not, for it could not follow these variables into the code that uses them"
        )
    if compiled:
        yield (
            f"{', '.join(compiled)}: read by code that was compiled before the check (a concrete function?), in which "
            "no other values can stand; not checked"
        )


def _untraced(comparison):
    if comparison.verdict is not Verdict.FAIL:
        return comparison
    is_whole = isinstance(comparison, GradientComparison)
    analytic = comparison.analytic_norm if is_whole else comparison.analytic
    reason = Reason.UNTRACED if math.isfinite(analytic) else Reason.NON_FINITE_GRADIENT
    return dataclasses.replace(comparison, verdict=Verdict.INCONCLUSIVE, reason=reason)


class _Judge:
    """Holds a trained gradient against what was measured."""

    def __init__(self, settling, gradient):
        dtype = settling.oracle.training_dtype
        self._gradient, self._tolerance = gradient, optimizer_gradient.tolerance(dtype)
        self._floor = optimizer_gradient.floor(gradient, dtype)

    def is_right_at(self, comparison):
        """Whether the trained entry agrees with the numeric one, and the analytic one differs from it."""
        c = comparison
        trained = float(self._gradient[c.position])
        error = c.error + (_FAR * abs(c.numeric) if c.reason is Reason.BLOCKED else 0.0)
        return self._agrees(trained, c.numeric, error) and not self._agrees(
            trained, c.analytic, 0.0
        )

    def is_right_along(self, measured):
        """The same for a direction over many parameters."""
        with np.errstate(invalid="ignore", over="ignore"):
            trained = measured.probe.slope_of(np.asarray(self._gradient, np.float64))
        total, analytic = measured.estimates[0], measured.analytic[0]
        floor = self._tolerance * measured.magnitude[0]
        return self._agrees(trained, total.slope, total.error, floor) and not self._agrees(
            trained, analytic, 0.0, floor
        )

    def _agrees(self, one, other, error, floor=0.0):
        if not np.isfinite(one) or not np.isfinite(other):
            return False
        size = self._tolerance * (abs(one) + abs(other))
        return abs(one - other) <= error + max(size, floor, self._floor)
