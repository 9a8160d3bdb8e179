"""What the numbers mean: the relative difference, the verdict on a comparison and on a check."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Comparison
from gradhooks.verdicts import proof

# A smooth loss may bend this many times as sharply as the size of its parameters says, and one
# quotient is still enough. A free choice: what bends more is measured at a sequence of steps.
_SHARPEST = 10.0
# Rounding in a gradient that the optimizer receives counts against a check from this relative
# difference on. A free choice: a relative difference of 0.1 still points every step downhill.
_SMALL_ROUNDING = 0.1
# An interval wider than this fraction of `|a| + |n|` on either side proves nothing. Derived: a
# factor of 1.1 makes a gap of 0.1 / 2.1 = 0.048 of `|a| + |n|`; error bar and threshold together
# must stay below it, at native precision too, where the threshold is 0.01.
RESOLUTION = 0.03
# A failure is clear if its gap is this many times its error bar. A free choice: bars from two steps
# hold less surely than those of a whole sequence, and a bar would have to be ten times too narrow.
_CLEAR = 10.0
# A bound of the truncation error may be wider, up to this fraction, where the gap itself is small:
# truncation does not vary at random, so it does not cancel a wrong derivative by chance. A free
# choice: twice the gap that a factor of 1.1 makes.
_TRUNCATION_RESOLUTION = 0.1


def relative_difference(analytic: ArrayLike, numeric: ArrayLike) -> float:
    """Returns `||a - n|| / (||a|| + ||n||)`, and 0 where both vanish.

    The classic measure of gradient checking (A. Ng, "Gradient checking",
    deeplearning.ai course notes): 0 for equal vectors, 1 for opposite ones.

    Args:
        analytic: float64, shape (K,) or scalar.
        numeric: float64, same shape.

    Returns:
        float in [0, 1]; NaN if an entry is not finite.

    Example:

    >>> relative_difference([3.0, 4.0], [3.0, 4.0])
    0.0
    >>> relative_difference(0.0, 0.0), relative_difference(1.0, -1.0)
    (0.0, 1.0)
    """
    if isinstance(analytic, float) and isinstance(numeric, float):
        return _scalar_relative_difference(analytic, numeric)
    a = np.atleast_1d(np.asarray(analytic, dtype=np.float64))
    n = np.atleast_1d(np.asarray(numeric, dtype=np.float64))
    # Scaling first keeps the squares of huge and tiny gradients inside float64.
    both = np.abs(np.concatenate([a.ravel(), n.ravel()]))
    if not np.isfinite(both).all():
        return math.nan
    largest = np.max(both, initial=0.0)
    if largest == 0.0:
        return 0.0
    a = a / largest
    n = n / largest
    return float(np.linalg.norm(a - n) / (np.linalg.norm(a) + np.linalg.norm(n)))


def _scalar_relative_difference(analytic: float, numeric: float) -> float:
    """The same for two numbers, without NumPy: it is slow for the many single ones of a check."""
    if not (math.isfinite(analytic) and math.isfinite(numeric)):
        return math.nan
    largest = max(abs(analytic), abs(numeric))
    if largest == 0.0:
        return 0.0
    a = analytic / largest
    n = numeric / largest
    return float(abs(a - n) / (abs(a) + abs(n)))


def fraction_of_size(
    fraction: float,
    analytic: float,
    estimate: DerivativeEstimate,
    magnitude: float,
) -> float:
    """Returns `fraction * max(|a| + |n|, magnitude)`.

    Each part is multiplied by itself, because the sum of two huge ones is infinite.
    """
    size = fraction * abs(analytic) + fraction * abs(estimate.slope)
    return max(size, fraction * magnitude)


def allowed_gap(
    analytic: float,
    estimate: DerivativeEstimate,
    threshold: float,
    magnitude: float = 0.0,
) -> float:
    """Returns the largest gap that passes: `threshold * max(|a| + |n|, magnitude) + error`."""
    return fraction_of_size(threshold, analytic, estimate, magnitude) + estimate.error


def accepted_gap(
    analytic: float,
    estimate: DerivativeEstimate,
    rounding: float,
    threshold: float,
    magnitude: float = 0.0,
) -> float:
    """Returns the largest gap at which one quotient is accepted.

    That is `threshold * max(|a| + |n|, magnitude) + rounding`, since a single
    quotient has no estimate of its truncation error.
    """
    return fraction_of_size(threshold, analytic, estimate, magnitude) + rounding


def is_accepted(
    analytic: float,
    estimate: DerivativeEstimate,
    rounding: float,
    threshold: float,
    magnitude: float = 0.0,
    ratio: float = 0.0,
) -> bool:
    """Whether one quotient is enough.

    It is if the gap is within threshold and rounding, and either both derivatives
    vanish in the rounding, or rounding is small enough to resolve a wrong
    derivative, and so is the opening between the one-sided slopes, beside what
    the slope changes over the step: at a kink the central quotient may agree with
    a subgradient by chance.

    Args:
        analytic: Derivative by backpropagation.
        estimate: The quotient as a `DerivativeEstimate`.
        rounding: Rounding error of the quotient, in the unit of the slope.
        threshold: Allowed relative difference.
        magnitude: As for `judge`.
        ratio: The step in units of the length over which the loss changes its
            shape, see `differences.curvature_ratio`.
    """
    if not all(map(math.isfinite, (analytic, estimate.slope, magnitude, rounding))):
        return False
    gap = abs(analytic - estimate.slope)
    if gap > accepted_gap(analytic, estimate, rounding, threshold, magnitude):
        return False
    resolution = fraction_of_size(RESOLUTION, analytic, estimate, magnitude)
    opening = estimate.opening
    # The opening has twice the rounding error of a one-sided quotient.
    if max(abs(analytic), abs(estimate.slope)) <= rounding:
        return opening <= 4 * rounding
    bend = fraction_of_size(RESOLUTION + _SHARPEST * ratio, analytic, estimate, magnitude)
    return rounding <= resolution and opening <= bend + 4 * rounding


def is_clear_failure(analytic: float, estimate: DerivativeEstimate) -> bool:
    """Whether a derivative that failed is wrong by far more than could be an error of measuring.

    The quotient must be precise for its own size, too, or rounding alone: where a
    loss is steeper than every step is short, quotients fall like `1 / h`, and are
    far from a derivative however small they are.

    A single quotient does not know the error bars of its one-sided slopes. Its gap
    must exceed their opening as well: beside one kink it is at most half of that.

    Args:
        analytic: Derivative by backpropagation.
        estimate: The `DerivativeEstimate`.
    """
    if not (math.isfinite(analytic) and estimate.do_slopes_meet):
        return False
    bar = estimate.error
    if not math.isfinite(estimate.left_error + estimate.right_error):
        bar += estimate.opening
    size, rounding = abs(estimate.slope), estimate.error - estimate.truncation
    if size < _CLEAR * estimate.error and size > rounding:
        return False
    return abs(analytic - estimate.slope) >= _CLEAR * bar


def judge(
    analytic: float,
    estimate: DerivativeEstimate,
    threshold: float,
    magnitude: float = 0.0,
) -> tuple[Verdict, Reason]:
    """Judges an analytic derivative by the interval in which the numeric one lies.

    The one statistic is the distance of the analytic value from the interval, in
    units of `threshold * max(|a| + |n|, magnitude)`. Above 1 it is a failure.
    Below, it passes if the interval is narrow enough to prove something. Wider
    intervals and larger thresholds only ever soften a verdict.

    Args:
        analytic: Derivative by backpropagation, in loss per unit of offset.
        estimate: A `DerivativeEstimate`, same unit.
        threshold: Allowed relative difference.
        magnitude: Natural size of the derivative where cancellation may hide it
            (a direction over many parameters), same unit; 0 for a coordinate.

    Returns:
        (Verdict, Reason).
    """
    if not math.isfinite(estimate.slope):
        return Verdict.INCONCLUSIVE, Reason.NON_FINITE_LOSS
    if not math.isfinite(analytic):
        return Verdict.FAIL, Reason.NON_FINITE_GRADIENT
    if math.isnan(estimate.error):
        return Verdict.INCONCLUSIVE, Reason.NOISE

    allowed = fraction_of_size(threshold, analytic, estimate, magnitude)
    if estimate.distance_to(analytic) > allowed:
        return Verdict.FAIL, Reason.BLOCKED if analytic == 0 else Reason.MISMATCH
    if not estimate.do_slopes_meet and estimate.opening > 2 * allowed:
        return Verdict.INCONCLUSIVE, Reason.KINK if estimate.is_kink else Reason.NOISE
    if max(abs(analytic), abs(estimate.slope), magnitude) <= estimate.error:
        return Verdict.INCONCLUSIVE, Reason.VACUOUS
    if _is_precise(analytic, estimate, magnitude):
        return Verdict.PASS, Reason.AGREES
    return Verdict.INCONCLUSIVE, Reason.NOISE


def _is_precise(
    analytic: float,
    estimate: DerivativeEstimate,
    magnitude: float,
) -> bool:
    """Whether the error bar is narrow enough that a wrong derivative would not agree as well."""
    resolution = fraction_of_size(RESOLUTION, analytic, estimate, magnitude)
    if estimate.error <= resolution:
        return True
    rounding = estimate.error - estimate.truncation
    if max(abs(analytic - estimate.slope), rounding) > resolution:
        return False
    widest = fraction_of_size(_TRUNCATION_RESOLUTION, analytic, estimate, magnitude)
    return estimate.error <= widest


def judge_check(comparisons: Sequence[Comparison]) -> tuple[Verdict, Reason]:
    """Returns the (Verdict, Reason) of a whole check.

    A single failure fails it. A gradient that is wrong at exactly this point is none, but it
    never lets a check pass. Otherwise it passes if a measurement passed, no less passed
    than stayed undecided, and noise hides the gradient of no variable: that
    gradient may be the wrong one. Vacuous, declared and known comparisons count
    for neither side, and neither does small rounding as long as something else
    passed. Agreement of the optimizer gradient with backpropagation proves
    nothing about backpropagation, so it never passes a check alone.

    Args:
        comparisons: All comparisons of the check.
    """
    for c in comparisons:
        if c.verdict is Verdict.FAIL:
            return Verdict.FAIL, c.reason
    if any(c.reason is Reason.ONLY_HERE for c in comparisons):
        return Verdict.INCONCLUSIVE, Reason.ONLY_HERE

    undecided = proof.find_undecided(comparisons)
    open_ones = [c for c in undecided if not _is_small_rounding(c)]
    passed = [c for c in comparisons if c.verdict is Verdict.PASS]
    passed_measurements = sum(map(proof.is_numeric, passed))
    open_measurements = sum(map(proof.is_numeric, open_ones))
    hidden = proof.paths_hidden_by_noise(comparisons)

    is_measured = passed_measurements > 0 and passed_measurements >= open_measurements
    if is_measured and hidden:
        return Verdict.INCONCLUSIVE, Reason.NOISE
    if is_measured and len(passed) >= len(open_ones):
        return Verdict.PASS, Reason.AGREES
    if undecided:
        return Verdict.INCONCLUSIVE, (open_ones or undecided)[0].reason
    for c in comparisons:
        if c.reason in (Reason.DECLARED, Reason.KNOWN):
            return Verdict.INCONCLUSIVE, c.reason
    return Verdict.INCONCLUSIVE, Reason.NOTHING_SAMPLED


def _is_small_rounding(comparison: Comparison) -> bool:
    return (
        comparison.reason is Reason.ROUNDING and comparison.relative_difference <= _SMALL_ROUNDING
    )
