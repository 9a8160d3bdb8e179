"""Difference quotients with error bars.

A quotient has two errors: truncation, which falls with the step size `h`, and
rounding, which grows as `h` shrinks. For most correct derivatives one central
quotient `(J(+h) - J(-h)) / (2h)` is enough. For the others a sequence of step
sizes gives three numbers by one rule, each with its error bar: the derivative
from both sides, from the left and from the right. See `select_estimate`.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradhooks._types import Floats
from gradhooks.numerics.probe import DerivativeEstimate

# Half width of an error bar, in standard deviations of the rounding noise. Four is a choice; that
# it covers the true error often enough is measured by tests/checking/test_calibration.py.
DEVIATIONS = 4.0
# The length over which a loss changes its shape, in units of the length scale. Below one, because
# networks bend over distances smaller than their weights; a half is a free choice, which enters
# the error bar of a single quotient only.
_CURVATURE_LENGTH = 0.5
# Truncation is seen in the difference to a step at least this many times as large. Derived:
# truncation grows like a power of the step, of order one or more, so that at twice the step it has
# at least doubled, and the difference is at least the truncation itself.
_LARGER = 2.0
# Steps of a sequence are rounded, so that one which is meant to be twice as large may be a little
# less. Any value between the rounding of a step (1e-16 of its parameter) and 1 would do.
_ROUNDED = 1.0 - 1e-6


def rounding_error(noise_level: float, step: float) -> float:
    """Returns the error bar of a central difference due to rounding.

    Its two losses are rounded independently, which gives
    `DEVIATIONS * noise_level / (sqrt(2) h)`.
    """
    return DEVIATIONS * noise_level / (math.sqrt(2.0) * step)


def curvature_ratio(step: float, length_scale: float) -> float:
    """Returns a step in units of the length over which a loss changes its shape."""
    return step / (_CURVATURE_LENGTH * length_scale)


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
    ratio = curvature_ratio(step, length_scale)
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
    """Returns the `DerivativeEstimate` that the quotients of several step sizes give.

    The central quotient and the two one-sided ones are each estimated by the
    same rule: the error of a quotient is bounded by its rounding error plus its
    truncation error, see `truncation_errors`, and the least bound wins. The loss
    has a kink where the one-sided slopes differ by more than both error bars.

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
    lefts = (base - minus) / steps
    rights = (plus - base) / steps
    return _select_each(steps, slopes, lefts, rights, noise_level)


def combine(
    estimates: Sequence[DerivativeEstimate],
    noise_level: float,
) -> DerivativeEstimate:
    """Returns the `DerivativeEstimate` that several single quotients give together.

    Args:
        estimates: One `DerivativeEstimate` for each step, of `central`; in any order.
        noise_level: Standard deviation of the loss' rounding noise.
    """
    ordered = sorted(estimates, key=lambda estimate: estimate.step_size)
    quotients = np.array([(e.step_size, e.slope, e.left, e.right) for e in ordered])
    steps, slopes, lefts, rights = quotients.T
    return _select_each(steps, slopes, lefts, rights, noise_level)


def is_much_smaller(step: float, other: float) -> bool:
    """Whether one step is so much smaller than another that their difference shows truncation."""
    return other >= _ROUNDED * _LARGER * step


def _select_each(
    steps: Floats,
    slopes: Floats,
    lefts: Floats,
    rights: Floats,
    noise_level: float,
) -> DerivativeEstimate:
    """Selects the best central, left and right quotient: float64, shape (S,) each, steps ascending.

    The three selections are independent of each other.
    """
    rounding = np.array([rounding_error(noise_level, h) for h in steps])
    larger = _number_of_larger(steps)
    slope, error, best = _select(slopes, rounding, larger)
    # A one-sided quotient has half the step, and so twice the rounding error.
    left, left_error, _ = _select(lefts, 2 * rounding, larger)
    right, right_error, _ = _select(rights, 2 * rounding, larger)
    return DerivativeEstimate(
        slope=slope,
        error=error,
        step_size=float(steps[best]),
        left=left,
        right=right,
        left_error=left_error,
        right_error=right_error,
        evaluations=2 * len(steps),
        truncation=float(error - rounding[best]),
    )


def _select(
    slopes: Floats,
    rounding: Floats,
    larger: NDArray[np.intp],
) -> tuple[float, float, int]:
    """Returns the quotient with the least error bound, that bound, and its number.

    Args:
        slopes: float64, shape (S,). The quotient at each step, steps ascending.
        rounding: float64, shape (S,). Error bar of each that is due to rounding.
        larger: int, shape (S,). As of `_number_of_larger`.
    """
    bounds = rounding + truncation_errors(slopes, rounding, larger)
    # The largest steps have no larger one to be compared with, so their truncation is unknown.
    bounds[larger == np.arange(len(slopes))] = math.inf
    best = int(np.argmin(bounds))
    return float(slopes[best]), float(bounds[best]), best


def _number_of_larger(steps: Floats) -> NDArray[np.intp]:
    """Returns for each step the number of the next one at least twice as large; its own if none."""
    numbers = np.searchsorted(steps, _ROUNDED * _LARGER * steps)
    return np.where(numbers < len(steps), numbers, np.arange(len(steps)))


def truncation_errors(
    slopes: Floats,
    rounding: Floats,
    larger: NDArray[np.intp],
) -> Floats:
    """Returns a bound on the truncation error of each quotient: float64, shape (S,).

    The bound is the difference to the quotient of a step at least twice as large;
    a kink that lies between the two steps shows in it. Across many kinks two
    steps may agree by chance, but then they disagree with smaller ones. So the
    difference to each smaller step counts too, as far as rounding does not
    explain it (the idea of O. Lepskii, "On a problem of adaptive estimation in
    Gaussian white noise", 1990).

    Args:
        slopes: float64, shape (S,). The quotient at each step, steps ascending.
        rounding: float64, shape (S,). Error bar of each that is due to rounding.
        larger: int, shape (S,). The number of a larger step for each; its own
            number if there is none.
    """
    to_larger = np.abs(slopes[larger] - slopes)
    differences = np.abs(slopes[:, None] - slopes)
    unexplained = differences - rounding[:, None] - rounding
    below = np.tril(unexplained, -1)
    to_smaller = np.max(below, axis=1, initial=0.0)
    return np.maximum(to_larger, to_smaller)
