"""What the numbers mean: relative difference, comparison, the verdict on a whole check."""

import math

import numpy as np

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import proof

# What optimizers receive may be off by this share through rounding, and still be the gradient.
_ROUNDED = 0.1
# An error bar wider than this share of `|a| + |n|` proves nothing: a factor of 1.1 makes a gap of
# 0.048 of that, and error bar and tolerance together must stay below it (at native precision, where
# the tolerance is 0.01, too).
RESOLUTION = 0.03
# A bound of the truncation error may be wider, up to this share, where the gap is seen to be small:
# no chance makes it so, as it may make a gap of rounding.
_WIDEST = 0.1
# Gaps up to this many openings of the one-sided slopes are put down to the corner; one alone leaves
# half of one.
_CORNER = 2.0
# One-sided slopes are rounded, and bend: a subgradient may lie outside of them by this share of
# their opening.
_BEYOND = 0.05


def relative_difference(analytic, numeric):
    """Returns `||a - n|| / (||a|| + ||n||)`, 0 where both vanish.

    The classic measure of gradient checking (A. Ng, "Gradient checking",
    deeplearning.ai course notes): 0 for equal vectors, 1 for opposite ones.

    Args:
        analytic: float64, shape (K,) or scalar.
        numeric: float64, same shape.

    Returns:
        float in [0, 1]; NaN if an entry is NaN.

    Example:

    >>> relative_difference([3.0, 4.0], [3.0, 4.0]), relative_difference(0.0, 0.0), relative_difference(1.0, -1.0)
    (0.0, 0.0, 1.0)
    """
    if isinstance(analytic, float) and isinstance(numeric, float):
        return _of_numbers(analytic, numeric)
    analytic = np.atleast_1d(np.asarray(analytic, dtype=np.float64))
    numeric = np.atleast_1d(np.asarray(numeric, dtype=np.float64))
    # Scaling first keeps squares of huge and tiny gradients inside float64.
    both = np.abs(np.concatenate([analytic.ravel(), numeric.ravel()]))
    if not np.isfinite(both).all():
        return math.nan
    largest = np.max(both, initial=0.0)
    if largest == 0.0:
        return 0.0
    analytic, numeric = analytic / largest, numeric / largest
    return float(
        np.linalg.norm(analytic - numeric) / (np.linalg.norm(analytic) + np.linalg.norm(numeric))
    )


def _of_numbers(analytic, numeric):
    """The same for two numbers: a check has some for every parameter, and NumPy is slow with single ones."""
    largest = max(abs(analytic), abs(numeric))
    if not (math.isfinite(analytic) and math.isfinite(numeric)):
        return math.nan
    if largest == 0.0:
        return 0.0
    analytic, numeric = analytic / largest, numeric / largest
    return float(abs(analytic - numeric) / (abs(analytic) + abs(numeric)))


def is_accepted(analytic, estimate, rounding, tolerance, magnitude=0.0):
    """Whether one quotient is enough: it agrees, or both vanish, to within tolerance and rounding alone."""
    if not all(map(math.isfinite, (analytic, estimate.slope, magnitude, rounding))):
        return False
    agrees = abs(analytic - estimate.slope) <= accepted_gap(
        analytic, estimate, rounding, tolerance, magnitude
    )
    is_zero = max(abs(analytic), abs(estimate.slope)) <= rounding
    return agrees and (is_zero or rounding <= of_size(RESOLUTION, analytic, estimate, magnitude))


def accepted_gap(analytic, estimate, rounding, tolerance, magnitude=0.0):
    """Returns the largest gap that one quotient settles: `tolerance * max(|a| + |n|, magnitude) + rounding`."""
    return of_size(tolerance, analytic, estimate, magnitude) + rounding


def of_size(share, analytic, estimate, magnitude):
    """Returns `share * max(|a| + |n|, magnitude)`.

    Each part by itself, because the sum of two huge ones is infinite.
    """
    return max(share * abs(analytic) + share * abs(estimate.slope), share * magnitude)


def allowed_gap(analytic, estimate, tolerance, magnitude=0.0):
    """Returns the largest gap that passes: `tolerance * max(|a| + |n|, magnitude) + error`."""
    return of_size(tolerance, analytic, estimate, magnitude) + estimate.error


def judge(analytic, estimate, tolerance, magnitude=0.0):
    """Judges an analytic derivative by its numeric estimate.

    FAIL needs the gap to exceed error bar and tolerance together, at a point
    without a kink that could explain it. Larger error bars and tolerances only
    ever soften a verdict.

    Args:
        analytic: Derivative by backpropagation.
        estimate: A `DerivativeEstimate`.
        tolerance: Allowed relative difference.
        magnitude: Natural size of the derivative where cancellation may hide
            it (a direction over many parameters); 0 for a coordinate.

    Returns:
        (Verdict, Reason).
    """
    if not math.isfinite(estimate.slope):
        return Verdict.INCONCLUSIVE, Reason.NON_FINITE_LOSS
    if not math.isfinite(analytic):
        return Verdict.FAIL, Reason.NON_FINITE_GRADIENT
    if math.isnan(estimate.error):
        return Verdict.INCONCLUSIVE, Reason.NOISE
    if max(abs(analytic), abs(estimate.slope), magnitude) <= estimate.error:
        # Under a kink "both below the error" only says that the error bar is wide.
        return Verdict.INCONCLUSIVE, Reason.KINK if estimate.is_kink else Reason.VACUOUS
    if abs(analytic - estimate.slope) <= allowed_gap(analytic, estimate, tolerance, magnitude):
        if _is_sharp(analytic, estimate, magnitude):
            return Verdict.PASS, Reason.AGREES
        return Verdict.INCONCLUSIVE, Reason.KINK if estimate.is_kink else Reason.NOISE
    if _is_between_slopes(analytic, estimate) or (
        estimate.is_kink and _is_corner_enough(analytic, estimate)
    ):
        return Verdict.INCONCLUSIVE, Reason.KINK
    return Verdict.FAIL, Reason.BLOCKED if analytic == 0 else Reason.MISMATCH


def _is_sharp(analytic, estimate, magnitude):
    """Whether a wrong derivative could not agree as well."""
    resolution = of_size(RESOLUTION, analytic, estimate, magnitude)
    if estimate.error <= resolution:
        return True
    seen = max(abs(analytic - estimate.slope), estimate.error - estimate.truncation)
    return seen <= resolution and estimate.error <= of_size(_WIDEST, analytic, estimate, magnitude)


def _is_between_slopes(analytic, estimate):
    """Whether the value is a subgradient for all that the one-sided slopes can tell.

    They open by `h |J''|` for a smooth loss, which at the steps in use hides
    nothing of interest, and by the whole jump where a kink lies inside the step.
    """
    low, high = sorted((estimate.left, estimate.right))
    beyond = _BEYOND * high - _BEYOND * low
    return low - beyond <= analytic <= high + beyond


def _is_corner_enough(analytic, estimate):
    """Whether the corners that were seen could explain the gap.

    A corner that opens the one-sided slopes by some amount moves the central
    quotient by half of it, and a subgradient lies between them. Networks of
    many ReLUs have tiny corners everywhere, which excuse no large gap.
    """
    return (
        abs(analytic - estimate.slope)
        <= _CORNER * abs(estimate.right - estimate.left) + estimate.error
    )


def overall(comparisons):
    """Returns the (Verdict, Reason) of a whole check.

    A single failure fails it. It passes if something was proved by measurement,
    most of what showed any signal was decided, nothing failed, and the gradient
    of no variable drowned in noise: it may be what is wrong. Vacuous
    comparisons count for neither side, and neither does what was seen to be
    rounding while it leaves something to agree with. That the optimizer receives
    what backpropagation computes proves nothing about backpropagation.
    """
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL]
    if failed:
        return Verdict.FAIL, failed[0].reason
    undecided = proof.open_comparisons(comparisons)
    open_ones = [c for c in undecided if not _is_small_rounding(c)]
    measured, others = (
        [c for c in comparisons if proof.is_numeric(c) is is_measured]
        for is_measured in (True, False)
    )
    passed = sum(c.verdict is Verdict.PASS for c in measured)
    is_most = passed >= sum(map(proof.is_numeric, open_ones))
    drowned = proof.paths_hidden_by_noise(comparisons)
    if (
        passed
        and is_most
        and not drowned
        and passed + sum(c.verdict is Verdict.PASS for c in others) >= len(open_ones)
    ):
        return Verdict.PASS, Reason.AGREES
    if drowned and passed and is_most:
        return Verdict.INCONCLUSIVE, Reason.NOISE
    if undecided:
        return Verdict.INCONCLUSIVE, (open_ones or undecided)[0].reason
    return Verdict.INCONCLUSIVE, Reason.NOTHING_SAMPLED


def _is_small_rounding(comparison):
    return comparison.reason is Reason.ROUNDING and comparison.relative_difference <= _ROUNDED
