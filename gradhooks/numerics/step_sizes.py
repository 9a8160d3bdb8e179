"""Step sizes of difference quotients: the first one, smaller ones, and whole sequences.

"Precision" of a step means here how many times the rounding noise of its
quotient fits into `threshold * |slope|`, the relative difference that the
verdict allows. A larger precision needs a larger step.
"""

import math
from collections.abc import Sequence

import numpy as np

from gradhooks._types import Floats
from gradhooks.numerics.differences import rounding_error

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
