"""Step control: which step sizes are evaluated for a probe.

`numerics.step_sizes` has the formulas; here they are applied to the slope, the
loss and the noise level of one evaluation point.
"""

import math
from collections.abc import Sequence

import numpy as np

from gradhooks._types import Floats
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.measurement import Measurement, accepts
from gradhooks.numerics import differences, step_sizes
from gradhooks.numerics.probe import Probe
from gradhooks.verdicts import judge

# A step is worth two evaluations if it is smaller than this fraction of the last one. A free
# choice: steps of the next round are ten times as small, those in between cross the same kinks.
_SMALLER = 0.3
# How many probes of a sample must show a signal before it says anything of the others. A free
# choice: it changes how many evaluations are made.
_ENOUGH = 8
# A smaller step is tried if the gap seen so far exceeds what it would allow by this factor. A free
# choice above one, at which the gap could just pass for agreement.
_DETECTABLE = 2


def first_step(at: EvaluationPoint, probe: Probe, threshold: float) -> float:
    """Returns the step size of the first quotient, see `step_sizes.first_step`."""
    return step_sizes.first_step(
        probe.slope_of(at.gradients["total"]),
        at.base[0],
        at.noise[0],
        probe.length_scale,
        threshold,
    )


def step_for_precision(
    at: EvaluationPoint,
    probe: Probe,
    threshold: float,
    precision: float,
) -> float:
    """Returns the step size of a given precision, see `step_sizes.step_for_precision`."""
    slope = probe.slope_of(at.gradients["total"])
    return step_sizes.step_for_precision(slope, at.noise[0], threshold, precision)


def step_sequence(
    at: EvaluationPoint,
    probe: Probe,
    threshold: float,
    is_fine: bool,
) -> Floats:
    """Returns the step sizes that are tried where a single quotient did not decide.

    Args:
        at: The `EvaluationPoint`.
        probe: The `Probe`.
        threshold: Relative difference that the verdict allows.
        is_fine: Whether to take the fine sequence, which has other steps and goes
            down to where few digits of the derivative are left.

    Returns:
        float64, shape (S,), ascending.
    """
    first = first_step(at, probe, threshold)
    factors = np.array(step_sizes.FINE_STEP_FACTORS if is_fine else step_sizes.STEP_FACTORS)
    if at.has_dense_kinks:
        # Where a smaller step is precise enough, larger ones than the first only cross more kinks.
        precise = step_for_precision(at, probe, threshold, step_sizes.REFINEMENTS[0][0])
        if precise < first:
            factors = factors[factors < 1]
    steps = step_sizes.step_sequence(first, probe.length_scale, factors)
    if not is_fine:
        return steps
    smaller: list[float] = []
    for precision in step_sizes.FINE_REFINEMENTS:
        step = step_for_precision(at, probe, threshold, precision)
        if step < steps[0]:
            smaller.append(step)
    return np.union1d(np.array(smaller), steps)


def actual_step(at: EvaluationPoint, probe: Probe, step: float) -> float:
    """Returns the step that floating point really takes from here.

    For a coordinate `theta + h` is rounded; a direction moves many parameters,
    whose rounding averages out.
    """
    if not probe.is_coordinate:
        return step
    value = at.point[probe.start]
    return float(((value + step) - (value - step)) / 2)


def is_among_kinks(measurements: Sequence[Measurement]) -> bool:
    """Whether most of what shows a signal is not accepted; a few probes do not say."""
    accepted = [m.is_accepted for m in measurements if not m.is_vacuous]
    return len(accepted) >= _ENOUGH and 2 * sum(accepted) < len(accepted)


def median_precision(
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    threshold: float,
) -> float:
    """Returns the median precision of the accepted steps with a signal; infinite without any."""
    noise_level = at.noise[0]
    precisions: list[float] = []
    for m in measurements:
        if m.is_accepted and not m.is_vacuous and noise_level:
            step = m.estimates[0].step_size
            precisions.append(
                step_sizes.step_precision(m.analytic[0], step, noise_level, threshold)
            )
    return float(np.median(precisions)) if precisions else math.inf


def is_worthwhile(
    at: EvaluationPoint,
    measurement: Measurement,
    step: float,
    threshold: float,
) -> bool:
    """Whether a smaller step may decide: it would still show the gaps seen so far.

    A quotient so imprecise that it would accept them decides nothing.
    """
    if not step < _SMALLER * measurement.estimates[0].step_size:
        return False
    for t, level in enumerate(at.noise):
        analytic, estimate = measurement.analytic[t], measurement.estimates[t]
        magnitude = measurement.magnitude[t]
        if accepts(measurement.probe, analytic, estimate, level, threshold, magnitude):
            continue
        rounding = differences.rounding_error(level, step)
        accepted = judge.accepted_gap(analytic, estimate, rounding, threshold, magnitude)
        if not abs(analytic - estimate.slope) > _DETECTABLE * accepted:
            return False
    return True
