"""Central differences with an error bar.

The central quotient `(J(+h) - J(-h)) / (2h)` has two errors: truncation, which
falls with the step size `h`, and rounding, which grows as `h` shrinks. For most
correct derivatives one quotient is enough. For the others a sequence of step
sizes gives the best estimate, its error bar and the one-sided slopes.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from gradhooks._types import Floats
from gradhooks.numerics.probe import DerivativeEstimate

# Half width of an error bar, in standard deviations of the rounding noise. Four is a choice; that
# it covers the true error often enough is measured by tests/checking/test_calibration.py.
DEVIATIONS = 4.0
# The length over which a loss changes its shape, in units of the length scale. Below one, because
# networks bend over distances smaller than their weights; a half is a free choice, which enters
# the error bar of a single quotient only.
_CURVATURE_LENGTH = 0.5


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
