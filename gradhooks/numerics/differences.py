"""Central differences with an error bar.

The central quotient `(J(+h) - J(-h)) / (2h)` has two errors: truncation, which
falls with the step size `h`, and rounding, which grows as `h` shrinks. For most
correct derivatives one quotient is enough. For the others a sequence of step
sizes gives the best estimate, its error bar and the one-sided slopes.

"Precision" of a step means here how many times the rounding noise of its
quotient fits into `threshold * |slope|`, the relative difference that the
verdict allows. A larger precision needs a larger step.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gradhooks._types import Floats
from gradhooks.numerics.probe import DerivativeEstimate

# Half width of an error bar, in standard deviations of the rounding noise. Four is a choice; that
# it covers the true error often enough is measured by tests/checking/test_calibration.py.
DEVIATIONS = 4.0
# Step sizes in units of the first step: a free choice of about one per factor of three near the
# first step and one per decade far from it. A larger sequence costs evaluations, no correctness.
STEP_FACTORS = (1e-3, 1e-2, 1e-1, 0.3, 3.0, 10.0, 100.0)
# A failure is measured again at these. Also a free choice, with one condition: no step size of the
# first sequence occurs, so that the second estimate is made of new evaluations.
FINE_STEP_FACTORS = (3e-4, 3e-3, 2e-2, 5e-2, 0.2, 0.5, 2.0, 5.0, 30.0)
# Precision of the first step: its noise is a tenth of `threshold * |slope|`. A free choice: more
# crosses more kinks, and less leaves more quotients undecided.
_FIRST_PRECISION = 10.0
# Precisions of the smaller steps, round by round, for probes whose first step crossed a kink.
REFINEMENTS = (
    (1.0,),
    (0.1,),
    (0.01,),
    (1e-3,),
)
# The same where most probes crossed kinks: the first round takes the smallest worthwhile step of
# several. Measured once on a ResNet50 at 32 probes: steps of precision 1 are accepted for 14, those
# of 0.1, 0.01 and 0.001 for 17, 27 and 32.
REFINEMENTS_AMONG_KINKS = (
    (1.0, 0.1, 0.01),
    (1e-3,),
)
# Precisions that the fine sequence adds below its smallest step: a derivative of a chaotic loss may
# hold only over a distance below all the others. Half a decade apart, a free choice.
FINE_REFINEMENTS = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4)
# A smaller step is not tried if its rounding error exceeds this fraction of the derivative. A free
# choice, far below the resolution of 0.03 that a verdict needs: where no step is tried, the full
# sequence decides.
_MOST_ROUNDING = 3e-4
# Largest step in units of the length scale. Beyond it a loss is no curve of low order any more; a
# free choice, since the sequence finds the truncation error of whatever step it takes.
_LARGEST_STEP = 0.15
# The length over which a loss changes its shape, in units of the length scale. Below one, because
# networks bend over distances smaller than their weights; a half is a free choice, which enters
# the error bar of a single quotient only.
_CURVATURE_LENGTH = 0.5
# A first step may be this many times smaller than the one that balances rounding and truncation.
# The optimum is flat, so that the value matters little. A free choice.
_BELOW_BALANCE = 3
# One parameter among many sees less curvature than all of them together, so that its step may grow
# to this many times the fourth root of the noise. A free choice; truncation is bounded anyway.
_ABOVE_BALANCE = 10


def first_step(
    slope: float,
    loss: float,
    noise_level: float,
    length_scale: float,
    threshold: float,
) -> float:
    """Chooses the step size of the first quotient.

    The smallest step whose rounding noise is a tenth of what the threshold
    allows for a slope of this size, between limits that follow from the noise:
    `(noise/loss)^(1/3)` balances rounding and truncation for a loss of ordinary
    curvature (Press et al., "Numerical Recipes", section 5.7), and ten times
    `(noise/loss)^(1/4)` is the largest step for one parameter among many.

    Args:
        slope: Expected derivative along the probe; its sign does not matter.
        loss: Loss at the point.
        noise_level: Standard deviation of the loss' rounding noise.
        length_scale: Typical size of the parameters, per unit of offset.
        threshold: Relative difference that the verdict allows.

    Returns:
        An offset > 0.
    """
    relative_noise = float(np.finfo(float).eps)
    if noise_level:
        size = max(abs(loss), noise_level, np.finfo(float).tiny)
        relative_noise = noise_level / size
    lowest = length_scale * relative_noise ** (1 / 3) / _BELOW_BALANCE
    highest = min(
        _ABOVE_BALANCE * length_scale * relative_noise**0.25,
        _LARGEST_STEP * length_scale,
    )
    wanted = highest
    if slope and math.isfinite(slope):
        wanted = _FIRST_PRECISION * noise_level / (threshold * abs(slope))
    return float(min(max(wanted, lowest), highest))


def step_for_precision(
    slope: float,
    noise_level: float,
    threshold: float,
    precision: float,
) -> float:
    """Returns the step size of a given precision; a small precision avoids kinks.

    Args:
        slope: Expected derivative along the probe.
        noise_level: Standard deviation of the loss' rounding noise.
        threshold: Relative difference that the verdict allows.
        precision: How many times the noise of the quotient fits into
            `threshold * |slope|`.

    Returns:
        An offset; infinite where rounding would blur the quotient too much to
        be worth an evaluation.
    """
    if not slope or not math.isfinite(slope):
        return math.inf
    step = precision * noise_level / threshold / abs(slope)
    if step and rounding_error(noise_level, step) <= _MOST_ROUNDING * abs(slope):
        return step
    return math.inf


def step_precision(
    slope: float,
    step: float,
    noise_level: float,
    threshold: float,
) -> float:
    """Returns the precision of a step: the inverse of `step_for_precision`."""
    return step * threshold * abs(slope) / noise_level


def step_sequence(
    step: float,
    length_scale: float,
    factors: Sequence[float] | Floats = STEP_FACTORS,
) -> Floats:
    """Returns the step sizes around a first step, none above the largest that the scale permits.

    Args:
        step: The first step.
        length_scale: Typical size of the parameters, per unit of offset.
        factors: Step sizes in units of the first one, ascending.

    Returns:
        float64, shape (S,), ascending.
    """
    steps = step * np.asarray(factors)
    return steps[steps <= max(_LARGEST_STEP * length_scale, step)]


def rounding_error(noise_level: float, step: float) -> float:
    """Returns the error bar of a central difference due to rounding.

    Its two losses are rounded independently, which gives
    `DEVIATIONS * noise_level / (sqrt(2) h)`.
    """
    return DEVIATIONS * noise_level / (math.sqrt(2.0) * step)


def central(
    base: float,
    plus: float,
    minus: float,
    step: float,
    noise_level: float,
    length_scale: float,
) -> DerivativeEstimate:
    """Returns the `DerivativeEstimate` of a single central difference.

    Truncation is made of the third derivative, which two losses cannot measure.
    It is bounded by what they do show, with `L = length_scale / 2` as the length
    over which the loss changes its shape: `(h/L)^2 |slope| + (h/L) |right - left|`.

    Args:
        base: Loss at the point.
        plus: Loss at `+step`.
        minus: Loss at `-step`.
        step: The step size actually taken.
        noise_level: Standard deviation of the loss' rounding noise.
        length_scale: Typical size of the parameters, per unit of offset.

    Example:

    >>> round(central(1.0, 1.1, 0.9, 0.1, 0.0, 1.0).slope, 12)
    1.0
    """
    slope = (plus - minus) / (2 * step)
    left = (base - minus) / step
    right = (plus - base) / step
    ratio = step / (_CURVATURE_LENGTH * length_scale)
    opening = abs(right - left)
    truncation = ratio**2 * abs(slope) + ratio * opening
    error = rounding_error(noise_level, step) + truncation
    return DerivativeEstimate(
        slope,
        error,
        step,
        left,
        right,
        truncation=truncation,
    )


def select_estimate(
    base: float,
    steps: ArrayLike,
    plus: ArrayLike,
    minus: ArrayLike,
    noise_level: float,
) -> DerivativeEstimate:
    """Returns the best `DerivativeEstimate` among the central differences of several step sizes.

    The error of each quotient is bounded by its rounding error plus its
    truncation error, see `truncation_errors`. The least bound wins.

    Args:
        base: Loss at the point.
        steps: float64, shape (S,), ascending. Step sizes actually taken.
        plus: float64, shape (S,). Losses at `+steps`.
        minus: float64, shape (S,). Losses at `-steps`.
        noise_level: Standard deviation of the loss' rounding noise.

    Returns:
        A `DerivativeEstimate`; its slope is NaN and its error infinite where
        fewer than two steps gave finite losses.
    """
    steps = np.asarray(steps, dtype=np.float64)
    plus = np.asarray(plus, dtype=np.float64)
    minus = np.asarray(minus, dtype=np.float64)
    is_finite = np.isfinite(plus) & np.isfinite(minus)
    steps = steps[is_finite]
    plus = plus[is_finite]
    minus = minus[is_finite]
    evaluations = 2 * len(steps)
    if len(steps) < 2:
        return DerivativeEstimate(
            slope=math.nan,
            error=math.inf,
            step_size=math.nan,
            left=math.nan,
            right=math.nan,
            evaluations=evaluations,
        )

    slopes = (plus - minus) / (2 * steps)
    left = (base - minus) / steps
    right = (plus - base) / steps
    openings = np.abs(right - left)
    rounding = np.array([rounding_error(noise_level, h) for h in steps])
    # The largest step has no larger one to be compared with, so its truncation is unknown.
    truncation = truncation_errors(slopes, rounding)
    bounds = (rounding + truncation)[:-1]
    best = int(np.argmin(bounds))
    return DerivativeEstimate(
        slope=float(slopes[best]),
        error=float(bounds[best]),
        step_size=float(steps[best]),
        left=float(left[best]),
        right=float(right[best]),
        is_kink=is_kink(steps, openings, rounding),
        evaluations=evaluations,
        truncation=float(bounds[best] - rounding[best]),
    )


def truncation_errors(
    slopes: Floats,
    rounding: Floats,
) -> Floats:
    """Returns a bound on the truncation error of each quotient: float64, shape (S,).

    The bound is the difference to the quotient of the next larger step; a kink
    that lies between the two steps shows in it. Across many kinks two steps may
    agree by chance, but then they disagree with smaller ones. So the difference
    to each smaller step counts too, as far as rounding does not explain it (the
    idea of O. Lepskii, "On a problem of adaptive estimation in Gaussian white
    noise", 1990).

    Args:
        slopes: float64, shape (S,). The quotient at each step, steps ascending.
        rounding: float64, shape (S,). Error bar of each that is due to rounding.
    """
    differences = np.abs(slopes[:, None] - slopes)
    to_next = np.append(np.diagonal(differences, 1), 0.0)
    unexplained = differences - rounding[:, None] - rounding
    below = np.tril(unexplained, -1)
    to_smaller = np.max(below, axis=1, initial=0.0)
    return np.maximum(to_next, to_smaller)


def is_kink(
    steps: Floats,
    openings: Floats,
    rounding: Floats,
) -> bool:
    """Whether the one-sided slopes fail to meet as the step shrinks.

    For a smooth loss the opening between them is `h |J''|`, proportional to the
    step size `h`. At a kink it does not shrink. The two smallest steps whose
    opening exceeds the noise decide: it is a kink unless the opening shrinks at
    least by the square root of their ratio, halfway between the two laws.

    Args:
        steps: float64, shape (S,), ascending.
        openings: float64, shape (S,). `|right - left|` at each step.
        rounding: float64, shape (S,). Error bar of a central difference at each step.
    """
    # An opening is `(plus + minus - 2 base) / h`: its noise is sqrt(6) / h times that of a loss, or
    # 3.5 times that of a central difference; four is the next integer.
    visible = np.flatnonzero(openings > 4.0 * rounding)
    if len(visible) < 2:
        return False
    small, large = visible[0], visible[1]
    shrinkage = math.sqrt(steps[small] / steps[large])
    return bool(openings[small] > openings[large] * shrinkage)
