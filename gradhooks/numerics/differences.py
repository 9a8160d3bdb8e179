"""Central differences with an error bar.

`(J(+h) - J(-h)) / (2h)` errs by truncation, which falls with the step, and by
rounding, which grows as it shrinks. A healthy derivative is settled by one
such quotient. Where it is not, a ladder of steps gives the best estimate, its
error bar and the one-sided slopes.
"""

import math

import numpy as np

from gradhooks.numerics.probe import DerivativeEstimate

# An error bar is this many standard deviations of the rounding noise wide.
DEVIATIONS = 4.0
# Steps of the ladder in units of the first step; the finer one re-measures before anybody is
# accused.
STEP_FACTORS = (1e-3, 1e-2, 1e-1, 0.3, 3.0, 10.0, 100.0)
FINE_STEP_FACTORS = (3e-4, 3e-3, 2e-2, 5e-2, 0.2, 0.5, 2.0, 5.0, 30.0)
# The noise of the first quotient is one part in so many of what the tolerance allows; its error
# bar, one in seven.
_SHARPNESS = 10.0
# Sharpness of the steps that follow where kinks lie within the first one, look by look. Where most
# probes meet kinks, the first look takes the closest of several steps: in a ResNet50, where steps
# of sharpness 1 settle 14 of 32 probes, those of 0.1, 0.01 and 0.001 settle 17, 27 and 32.
REFINEMENTS, REFINEMENTS_AMONG_KINKS = (
    ((1.0,), (0.1,), (0.01,), (1e-3,)),
    ((1.0, 0.1, 0.01), (1e-3,)),
)
# The same for the finer ladder: a derivative that holds over so short a way may lie below all its
# other steps.
FINE_REFINEMENTS = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4)
# A step whose rounding error is more than this share of the derivative blurs too much to be worth a
# try.
_BLURRED = 3e-4
# Steps stay below this share of the parameter scale, where a loss still looks like a curve of low
# order.
_LARGEST = 0.15
# A loss changes its shape over this share of the parameter scale: networks bend faster than their
# weights are large.
_LENGTH = 0.5


def first_step(slope, loss, noise, scale, tolerance):
    """Chooses the step of the first quotient.

    The smallest step whose rounding noise is a tenth of what the tolerance
    allows for a slope of this size, within limits that follow from the noise:
    `(noise/loss)^(1/3)` balances rounding and truncation for a loss of ordinary
    curvature (Press et al., "Numerical Recipes", section 5.7); one parameter
    among many sees less curvature, so steps may grow to ten times the fourth root.

    Args:
        slope: Expected derivative along the probe (its sign does not matter).
        loss: Loss at the point.
        noise: Standard deviation of the loss' rounding noise.
        scale: Typical size of what is varied, per unit of offset.
        tolerance: Relative difference that the verdict allows.

    Returns:
        float > 0, an offset.
    """
    relative_noise = (
        noise / max(abs(loss), noise, np.finfo(float).tiny) if noise else np.finfo(float).eps
    )
    lowest = scale * relative_noise ** (1 / 3) / 3
    highest = min(10 * scale * relative_noise**0.25, _LARGEST * scale)
    wanted = (
        _SHARPNESS * noise / (tolerance * abs(slope)) if slope and math.isfinite(slope) else highest
    )
    return float(min(max(wanted, lowest), highest))


def step_for_precision(slope, noise, tolerance, sharpness):
    """Returns a step that gets by with fewer digits, and so meets fewer kinks than `first_step`.

    Args:
        slope: Expected derivative along the probe.
        noise: Standard deviation of the loss' rounding noise.
        tolerance: Relative difference that the verdict allows.
        sharpness: The step's noise is one part in so many of what the tolerance
            allows.

    Returns:
        float, an offset; infinite where there is none that sees sharply.
    """
    if not slope or not math.isfinite(slope):
        return math.inf
    step = sharpness * noise / tolerance / abs(slope)
    return step if step and rounding_error(noise, step) <= _BLURRED * abs(slope) else math.inf


def step_precision(slope, step, noise, tolerance):
    """Returns the sharpness of which `closer_step` makes this step."""
    return step * tolerance * abs(slope) / noise


def step_sequence(step, scale, factors=STEP_FACTORS):
    """Returns the steps of the ladder around a first step: float64, ascending, none above the scale's limit."""
    steps = step * np.asarray(factors)
    return steps[steps <= max(_LARGEST * scale, step)]


def rounding_error(noise, step):
    """Error bar of a central difference that comes from rounding: `DEVIATIONS * noise / (sqrt(2) h)`."""
    return DEVIATIONS * noise / (math.sqrt(2.0) * step)


def central(base, plus, minus, step, noise, scale):
    """Returns the `DerivativeEstimate` of a single central difference.

    Two values cannot measure the third derivative that truncation is made of.
    It is bounded by what they do show, taking `L = scale / 2` for the length
    over which the loss changes its shape: `(h/L)^2 |slope| + (h/L) |right - left|`.

    Args:
        base: Loss at the point.
        plus: Loss at `+step`.
        minus: Loss at `-step`.
        step: The step actually taken.
        noise: Standard deviation of the loss' rounding noise.
        scale: Typical size of what is varied, per unit of offset.

    Example:

    >>> round(central(1.0, 1.1, 0.9, 0.1, 0.0, 1.0).slope, 12)
    1.0
    """
    slope = (plus - minus) / (2 * step)
    left, right = (base - minus) / step, (plus - base) / step
    ratio = step / (_LENGTH * scale)
    truncation = ratio**2 * abs(slope) + ratio * abs(right - left)
    error = rounding_error(noise, step) + truncation
    return DerivativeEstimate(slope, error, step, left, right, truncation=truncation)


def select_estimate(base, steps, plus, minus, noise):
    """Returns the best `DerivativeEstimate` that a ladder of central differences supports.

    Each quotient's error is bounded by its rounding error plus its truncation,
    see `truncation_errors`. The quotient with the least bound wins.

    Args:
        base: Loss at the point.
        steps: float64, shape (S,), ascending, S > 1. Steps actually taken.
        plus: float64, shape (S,). Losses at `+steps`.
        minus: float64, shape (S,). Losses at `-steps`.
        noise: Standard deviation of the loss' rounding noise.

    Returns:
        A `DerivativeEstimate`; its error is infinite where no two steps gave
        finite losses.
    """
    steps, plus, minus = (np.asarray(a, dtype=np.float64) for a in (steps, plus, minus))
    finite = np.isfinite(plus) & np.isfinite(minus)
    steps, plus, minus = steps[finite], plus[finite], minus[finite]
    if len(steps) < 2:
        return DerivativeEstimate(
            math.nan, math.inf, math.nan, math.nan, math.nan, False, 2 * len(steps)
        )
    slopes = (plus - minus) / (2 * steps)
    rounding = np.array([rounding_error(noise, h) for h in steps])
    bound = (rounding + truncation_errors(slopes, rounding))[:-1]
    best = int(np.argmin(bound))
    left, right = (base - minus) / steps, (plus - base) / steps
    return DerivativeEstimate(
        float(slopes[best]),
        float(bound[best]),
        float(steps[best]),
        float(left[best]),
        float(right[best]),
        is_kink(steps, np.abs(right - left), rounding),
        2 * len(steps),
        float(bound[best] - rounding[best]),
    )


def truncation_errors(slopes, rounding):
    """Returns a bound of the truncation error of each quotient on a ladder: float64, shape (S,).

    The difference to the next larger step is the one measure that a kink
    between the two cannot fool. Across many kinks two steps may agree by
    chance, but not with the smaller ones: what rounding does not explain of the
    difference to those counts too (the idea of O. Lepskii, "On a problem of
    adaptive estimation in Gaussian white noise", 1990).

    Args:
        slopes: float64, shape (S,). The quotient at each step, steps ascending.
        rounding: float64, shape (S,). Error bar of each that comes from rounding.
    """
    difference = np.abs(slopes[:, None] - slopes)
    to_next = np.append(np.diagonal(difference, 1), 0.0)
    to_smaller = np.max(np.tril(difference - rounding[:, None] - rounding, -1), axis=1, initial=0.0)
    return np.maximum(to_next, to_smaller)


def is_kink(steps, opening, rounding):
    """Whether the one-sided slopes fail to meet as the step shrinks.

    For a smooth loss the opening between them is `h |J''|`, proportional to the
    step. At a kink it stays. The two smallest steps that show an opening above
    the noise decide: it must shrink by less than the square root of their ratio.

    Args:
        steps: float64, shape (S,), ascending.
        opening: float64, shape (S,). `|right - left|` at each step.
        rounding: float64, shape (S,). Error bar of a central difference at each step.
    """
    # A one-sided slope is twice as noisy as a central one, and the opening is the difference of
    # two.
    seen = np.flatnonzero(opening > 4.0 * rounding)
    if len(seen) < 2:
        return False
    small, large = seen[0], seen[1]
    return bool(opening[small] > opening[large] * math.sqrt(steps[small] / steps[large]))
