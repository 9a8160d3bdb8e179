"""Measures the derivatives along probes at one point, in as few evaluations as it takes.

An adaptive step controller in three stages:

1. `first_estimates`: one quotient a probe. It is accepted if it agrees with
   backpropagation to within the threshold and its rounding error.
2. `refine_steps`: for the others, one quotient more in each round, at smaller
   steps, which cross fewer kinks.
3. `refine`: a sequence of step sizes for those that are still unresolved.

`measure` runs the first two. Of many probes it measures a pilot sample first: if
most of that meets kinks, the others start at the steps that the sample needed.
"""

import math
from collections.abc import Sequence

import numpy as np

from gradhooks.checking import steps
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.measurement import (
    Magnitudes,
    Measurement,
    compare_pair,
    judge_estimates,
)
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.stencil import REACH
from gradhooks.numerics import differences, step_sizes
from gradhooks.numerics.probe import DerivativeEstimate, Probe

# Size of the pilot sample. A free choice that changes how many evaluations are made: a third of the
# sample may show no signal, see `steps.is_among_kinks`.
_PILOT = 12


def from_stencil(
    at: EvaluationPoint,
    probe: Probe,
    window: np.ndarray,
    spacing: float,
    magnitude: Magnitudes,
    threshold: float,
) -> Measurement:
    """Returns the `Measurement` along the screening probe, from the losses of its noise stencil.

    Args:
        at: The `EvaluationPoint`.
        probe: The screening probe.
        window: float64, shape (POINTS, T). Losses of the stencil.
        spacing: Spacing of the stencil.
        magnitude: Per term, the size of the slope before its parts cancel.
        threshold: Relative difference that the verdict allows.
    """
    step = REACH * spacing
    return compare_pair(at, probe, step, (window[-1], window[0]), magnitude, threshold)


def measure(
    oracle: Oracle,
    at: EvaluationPoint,
    probes: Sequence[Probe],
    threshold: float,
    magnitudes: Sequence[Magnitudes] | None = None,
) -> list[Measurement]:
    """Measures probes with two evaluations each, and refines the steps of those not accepted.

    Args:
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        probes: The `Probe`s.
        threshold: Relative difference that the verdict allows.
        magnitudes: Per probe and term, the size of the slope before its parts
            cancel; zeros if None.

    Returns:
        A `Measurement` for each probe.
    """
    if magnitudes is None:
        magnitudes = _no_magnitudes(at, probes)
    if len(probes) < 2 * _PILOT:
        estimates = first_estimates(oracle, at, probes, threshold, magnitudes)
        return refine_steps(oracle, at, estimates, threshold)

    # The pilot sample comes from all over the model.
    pilot: list[int] = np.linspace(0, len(probes) - 1, _PILOT, dtype=int).tolist()
    others = sorted(set(range(len(probes))) - set(pilot))
    measured: dict[int, Measurement] = {}
    precision = math.inf
    for numbers in (pilot, others):
        some = first_estimates(
            oracle,
            at,
            [probes[k] for k in numbers],
            threshold,
            [magnitudes[k] for k in numbers],
            precision,
        )
        if numbers is pilot and steps.is_among_kinks(some):
            some = refine_steps(oracle, at, some, threshold)
            precision = steps.median_precision(at, some, threshold)
        measured |= dict(zip(numbers, some, strict=True))
    return refine_steps(oracle, at, [measured[k] for k in range(len(probes))], threshold)


def first_estimates(
    oracle: Oracle,
    at: EvaluationPoint,
    probes: Sequence[Probe],
    threshold: float,
    magnitudes: Sequence[Magnitudes] | None = None,
    precision: float = math.inf,
) -> list[Measurement]:
    """Measures probes with two evaluations each.

    Args:
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        probes: The `Probe`s.
        threshold: Relative difference that the verdict allows.
        magnitudes: As for `measure`.
        precision: Largest precision of the steps, see `step_sizes`; infinite for
            those of `step_sizes.first_step`.
    """
    if magnitudes is None:
        magnitudes = _no_magnitudes(at, probes)
    if at.has_dense_kinks:
        precision = min(precision, step_sizes.REFINEMENTS[0][0])
    sizes = [steps.first_step(at, probe, threshold) for probe in probes]
    if math.isfinite(precision):
        smaller = [steps.step_for_precision(at, p, threshold, precision) for p in probes]
        sizes = np.minimum(sizes, smaller).tolist()
    return _measure_at_steps(oracle, at, probes, sizes, threshold, magnitudes)


def refine_steps(
    oracle: Oracle,
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    threshold: float,
) -> list[Measurement]:
    """Measures what is not accepted again, round by round, at smaller steps.

    Where most probes have met kinks, the intermediate steps would meet them too
    and are left out.

    Returns:
        The measurements; a later one replaces the first if it is accepted.
    """
    refined = list(measurements)
    if all(m.is_accepted for m in refined):
        return refined
    rounds = step_sizes.REFINEMENTS
    if steps.is_among_kinks(refined):
        rounds = step_sizes.REFINEMENTS_AMONG_KINKS

    for precisions in rounds:
        remeasured = _measure_closer(oracle, at, refined, threshold, precisions)
        for k, measurement in remeasured.items():
            if measurement.is_accepted:
                refined[k] = measurement
    return refined


def refine(
    oracle: Oracle,
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    threshold: float,
    is_fine: bool = False,
) -> list[Measurement]:
    """Measures again at a sequence of step sizes, for what single quotients did not decide.

    Args:
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        measurements: What is measured again.
        threshold: Relative difference that the verdict allows.
        is_fine: Whether to take the fine sequence, see `steps.step_sequence`.
    """
    if not measurements:
        return []
    sequences: list[list[float]] = []
    pairs: list[tuple[int, float]] = []
    for k, measurement in enumerate(measurements):
        probe = measurement.probe
        planned = steps.step_sequence(at, probe, threshold, is_fine)
        taken = [steps.actual_step(at, probe, step) for step in planned]
        sequences.append(taken)
        for step in taken:
            pairs += [(k, step), (k, -step)]
    losses = np.asarray(oracle.losses(at.point, [m.probe for m in measurements], pairs))

    refined: list[Measurement] = []
    start = 0
    for measurement, taken in zip(measurements, sequences, strict=True):
        stop = start + 2 * len(taken)
        plus, minus = losses[start:stop:2], losses[start + 1 : stop : 2]
        start = stop
        estimates: list[DerivativeEstimate] = []
        for t, level in enumerate(at.noise):
            estimates.append(
                differences.select_estimate(at.base[t], taken, plus[:, t], minus[:, t], level)
            )
        refined.append(
            judge_estimates(
                measurement.probe,
                measurement.analytic,
                tuple(estimates),
                measurement.magnitude,
                is_accepted=False,
                threshold=threshold,
            )
        )
    return refined


def _no_magnitudes(at: EvaluationPoint, probes: Sequence[Probe]) -> list[Magnitudes]:
    return [(0.0,) * len(at.base)] * len(probes)


def _measure_closer(
    oracle: Oracle,
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    threshold: float,
    precisions: Sequence[float],
) -> dict[int, Measurement]:
    """Measures those again for which one of the precisions is worthwhile; by their numbers."""
    sizes: dict[int, float] = {}
    for k, measurement in enumerate(measurements):
        if measurement.is_accepted:
            continue
        for precision in precisions:
            step = steps.step_for_precision(at, measurement.probe, threshold, precision)
            if steps.is_worthwhile(at, measurement, step, threshold):
                sizes[k] = min(step, sizes.get(k, math.inf))
    again = _measure_at_steps(
        oracle,
        at,
        [measurements[k].probe for k in sizes],
        list(sizes.values()),
        threshold,
        [measurements[k].magnitude for k in sizes],
    )
    return dict(zip(sizes, again, strict=True))


def _measure_at_steps(
    oracle: Oracle,
    at: EvaluationPoint,
    probes: Sequence[Probe],
    sizes: Sequence[float],
    threshold: float,
    magnitudes: Sequence[Magnitudes],
) -> list[Measurement]:
    """Measures each probe at one step size, with two evaluations."""
    if not probes:
        return []
    taken: list[float] = []
    pairs: list[tuple[int, float]] = []
    for k, (probe, size) in enumerate(zip(probes, sizes, strict=True)):
        step = steps.actual_step(at, probe, size)
        taken.append(step)
        pairs += [(k, step), (k, -step)]
    losses = oracle.losses(at.point, probes, pairs).reshape(len(probes), 2, -1)
    measurements: list[Measurement] = []
    for k, (plus, minus) in enumerate(losses):
        measurements.append(
            compare_pair(at, probes[k], taken[k], (plus, minus), magnitudes[k], threshold)
        )
    return measurements
