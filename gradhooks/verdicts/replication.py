"""Whether a gradient that failed at one point fails at a nudged one: replicates of a measurement.

A kink that parameters sit on is gone at a nudged point, and rounding is another
there; a wrong gradient stays wrong.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge

# Relative errors within this factor of each other are one error. A free choice: at native precision
# the median of five varies by less, and errors of rounding differ in sign.
_SAME_FACTOR = 1.5
# An error bar wider than this fraction of the estimate is imprecise. A free choice: for imprecise
# estimates the gradient along the step is examined, which only ever softens a failure.
_IMPRECISE = 0.1
# Points along a step, in units of the step, at which the gradient is evaluated. A free choice: both
# sides, near and far; the first one that shows a large change ends the search.
POINTS_ALONG_STEP = (0.5, -0.5, 0.9, -0.9, 0.2, -0.3)
# A change along the step of this fraction of the gap explains the gap. A free choice: half a step
# away a gradient that varies evenly has changed by half of what it does over the step.
_LARGE_CHANGE = 0.5


class Measured(Protocol):
    """What is known of one probe: analytic derivative, estimate and judgement of each loss term."""

    @property
    def analytic(self) -> Sequence[float]:
        """Derivative by backpropagation, per term."""
        ...

    @property
    def estimates(self) -> Sequence[DerivativeEstimate]:
        """Numeric estimate, per term."""
        ...

    @property
    def magnitude(self) -> Sequence[float]:
        """Size of the derivative if nothing cancelled, per term; 0 for a coordinate."""
        ...

    @property
    def judgements(self) -> Sequence[tuple[Verdict, Reason]]:
        """Verdict and reason, per term."""
        ...

    @property
    def is_vacuous(self) -> bool:
        """Whether every term is vacuous."""
        ...


def is_beside_kink(measured: Measured) -> bool:
    """Whether a term failed where the one-sided slopes do not meet."""
    return any(measured.estimates[t].is_kink for t in _failed_terms(measured))


def is_imprecise(measured: Measured) -> bool:
    """Whether a term failed by an estimate with a wide error bar."""
    for t in _failed_terms(measured):
        estimate = measured.estimates[t]
        if estimate.error > _IMPRECISE * abs(estimate.slope):
            return True
    return False


def varies_along_step(measured: Measured, along: ArrayLike) -> bool:
    """Whether the analytic gradient changes along the step by as much as the gap.

    A quotient is the mean of the derivative over its step. Where the derivative
    changes that much within the step, as in a network that multiplies the
    smallest difference, no step in reach shows the derivative at one point. A
    wrong gradient is wrong by about as much half a step away. A NaN gradient
    along the step gives no evidence.

    Args:
        measured: `Measured` that failed.
        along: float64, shape (K, T). Slope of each term at K points along the
            step.

    Returns:
        True if no term that failed has a change smaller than half its gap.
    """
    slopes = np.asarray(along, dtype=np.float64)
    changes = np.max(np.abs(slopes - np.asarray(measured.analytic)), axis=0)
    for t in _failed_terms(measured):
        gap = abs(measured.analytic[t] - measured.estimates[t].slope)
        if changes[t] < _LARGE_CHANGE * gap:
            return False
    return True


def is_withdrawn_by(
    replicate: Measured,
    first: Measured,
    threshold: float,
) -> bool:
    """Whether a replicate passes and is precise enough to have detected the gaps of the first.

    It may be less precise than a measurement that proves something by itself.

    Args:
        replicate: `Measured` of the same probe at a nudged point.
        first: `Measured` that failed.
        threshold: Relative difference that the verdict allows.
    """
    if replicate.is_vacuous:
        return False
    for verdict, reason in replicate.judgements:
        if verdict is not Verdict.PASS and reason not in (Reason.VACUOUS, Reason.NOISE):
            return False
    for t in _failed_terms(first):
        analytic, estimate = replicate.analytic[t], replicate.estimates[t]
        magnitude = replicate.magnitude[t]
        if not estimate.error <= judge.fraction_of_size(_IMPRECISE, analytic, estimate, magnitude):
            return False
        gap = abs(first.analytic[t] - first.estimates[t].slope)
        if not judge.allowed_gap(analytic, estimate, threshold, magnitude) < gap:
            return False
    return True


def is_replicated(
    first: Measured,
    replicates: Sequence[Measured],
    threshold: float,
) -> bool:
    """Whether replicates confirm, in the median, the error of a first measurement that failed.

    At native precision no replicate is precise: steps are so large that they
    cross kinks, and the analytic gradient is rounded, which no error bar covers.
    Both are different at every point. A wrong gradient is wrong by the same
    relative error everywhere, and the median does not mind a few outliers.

    Args:
        first: `Measured` that failed.
        replicates: `Measured` of the same probe at nudged points.
        threshold: Relative difference that the verdict allows.

    Returns:
        True if, for a term that failed, most replicates have a gap beyond their
        error bars, and the median relative error is beyond the threshold and
        about the first one's, its sign included.
    """
    errors = np.array([_relative_errors(replicate) for replicate in replicates])
    detected = np.array([_has_gaps(replicate) for replicate in replicates])
    medians = np.median(errors, axis=0)
    detection_rates = np.mean(detected, axis=0)
    first_errors = _relative_errors(first)
    for t in _failed_terms(first):
        if not first_errors[t]:
            continue
        is_same = 1 / _SAME_FACTOR <= medians[t] / first_errors[t] <= _SAME_FACTOR
        if detection_rates[t] > 0.5 and abs(medians[t]) > threshold and is_same:
            return True
    return False


def may_be_replicated(
    first: Measured,
    replicates: Sequence[Measured],
    count: int,
) -> bool:
    """Whether `is_replicated` may still hold once there are `count` replicates.

    It may as long as, for a term that failed, less than half of them have no gap.

    Args:
        first: `Measured` that failed.
        replicates: The replicates so far.
        count: Number of replicates in the end.
    """
    gaps = [_has_gaps(replicate) for replicate in replicates]
    for t in _failed_terms(first):
        without_gap = sum(not has_gap[t] for has_gap in gaps)
        if 2 * without_gap < count:
            return True
    return False


def _failed_terms(measured: Measured) -> list[int]:
    """The numbers of the terms that failed."""
    terms: list[int] = []
    for t, (verdict, _) in enumerate(measured.judgements):
        if verdict is Verdict.FAIL:
            terms.append(t)
    return terms


def _relative_errors(measured: Measured) -> list[float]:
    """Per term, the signed gap in units of the size that the verdict compares it with.

    A wrong factor gives the same number at any point.
    """
    errors: list[float] = []
    terms = zip(measured.analytic, measured.estimates, measured.magnitude, strict=True)
    for analytic, estimate, magnitude in terms:
        errors.append(_relative_error(analytic, estimate, magnitude))
    return errors


def _relative_error(
    analytic: float,
    estimate: DerivativeEstimate,
    magnitude: float,
) -> float:
    size = judge.fraction_of_size(1.0, analytic, estimate, magnitude)
    if not size or not math.isfinite(size):
        return 0.0
    larger = max(analytic, estimate.slope, key=abs)
    return (analytic - estimate.slope) / math.copysign(size, larger)


def _has_gaps(measured: Measured) -> list[bool]:
    """Per term, whether the gap is beyond the error bar."""
    has_gap: list[bool] = []
    for analytic, estimate in zip(measured.analytic, measured.estimates, strict=True):
        gap = abs(analytic - estimate.slope)
        has_gap.append(gap > estimate.error)
    return has_gap
