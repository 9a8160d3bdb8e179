"""Step control: which probes are decided by how many quotients, and at which steps.

It changes what a check costs and never what it says, for every quotient that it
accepts agrees with backpropagation to within the threshold and its rounding
error, every failure that it holds for clear is replicated, and all others are
measured at whole sequences of steps (`measure.refine`):

1. `first_quotients`: one quotient a probe. Of many probes it measures a pilot
   sample first: if most of that meets kinks, the others start at the steps that
   the sample needed, and in later checks of the run all of them do.
2. `refine_steps`: for those not accepted, one quotient more in each round, at
   smaller steps, which cross fewer kinks, until they are accepted or fail clearly.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from gradhooks.checking import clear_failures, steps
from gradhooks.checking import measure as measuring
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.measurement import Magnitudes, Measurement
from gradhooks.checking.oracle import Oracle
from gradhooks.numerics import step_sizes
from gradhooks.numerics.probe import Probe

# Step sizes with a smaller relative difference are the same step, rounded. Any value between the
# rounding of a step (1e-16 of its parameter) and the ratio of two steps of a sequence would do.
_SAME_STEP = 1e-6
# Size of the pilot sample. A free choice that changes how many evaluations are made: a third of the
# sample may show no signal, see `steps.is_among_kinks`.
_PILOT = 12


def first_quotients(
    oracle: Oracle,
    at: EvaluationPoint,
    probes: Sequence[Probe],
    threshold: float,
    magnitudes: Sequence[Magnitudes] | None = None,
) -> list[Measurement]:
    """Measures probes with two evaluations each, and a pilot sample of many further if it must.

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
    if len(probes) < 2 * _PILOT or math.isfinite(at.kink_precision):
        return first_estimates(oracle, at, probes, threshold, magnitudes, at.kink_precision)

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
            if oracle.known_noise is not None:
                oracle.known_noise = dataclasses.replace(
                    oracle.known_noise, kink_precision=precision
                )
        measured |= dict(zip(numbers, some, strict=True))
    return [measured[k] for k in range(len(probes))]


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
        magnitudes: As for `first_quotients`.
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
    return measuring.measure_at_steps(oracle, at, probes, sizes, threshold, magnitudes)


def refine_steps(
    oracle: Oracle,
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    threshold: float,
    is_among_kinks: bool | None = None,
) -> list[Measurement]:
    """Measures what is not accepted again, round by round, at smaller steps.

    Where most probes have met kinks, the intermediate steps would meet them too
    and are left out.

    Args:
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        measurements: What is measured again.
        threshold: Relative difference that the verdict allows.
        is_among_kinks: Whether most have met kinks; None if these themselves say it.

    Returns:
        The measurements; a later one replaces the first if it is accepted, and the
        estimate of all of them together if it fails clearly or shows a kink.
    """
    refined = list(measurements)
    if all(m.is_settled for m in refined):
        return refined
    if is_among_kinks is None:
        is_among_kinks = steps.is_among_kinks(refined)
    rounds = step_sizes.REFINEMENTS
    if is_among_kinks:
        rounds = step_sizes.REFINEMENTS_AMONG_KINKS

    seen = [[measurement] for measurement in refined]
    for precisions in rounds:
        remeasured = _measure_closer(oracle, at, refined, threshold, precisions)
        for k, measurement in remeasured.items():
            seen[k].append(measurement)
            if measurement.is_accepted:
                refined[k] = measurement
                continue
            clear = clear_failures.combine_if_clear(at, oracle.layout, seen[k], threshold)
            if clear is not None:
                refined[k] = clear
    for k, quotients in enumerate(seen):
        if not refined[k].is_settled and _reach_as_near(at, quotients, threshold):
            combined = measuring.combine(at, oracle.layout, quotients, threshold)
            if combined.is_on_kink:
                refined[k] = combined
    return refined


def _reach_as_near(
    at: EvaluationPoint,
    quotients: Sequence[Measurement],
    threshold: float,
) -> bool:
    """Whether several quotients come as near to the point as a whole sequence would."""
    if len(quotients) < 2:
        return False
    nearest = steps.step_sequence(at, quotients[0].probe, threshold, is_fine=False)[0]
    smallest = min(m.estimates[0].step_size for m in quotients)
    return smallest <= (1 + _SAME_STEP) * nearest


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
        if measurement.is_settled:
            continue
        for precision in precisions:
            step = steps.step_for_precision(at, measurement.probe, threshold, precision)
            if steps.is_worthwhile(at, measurement, step, threshold):
                sizes[k] = min(step, sizes.get(k, math.inf))
    again = measuring.measure_at_steps(
        oracle,
        at,
        [measurements[k].probe for k in sizes],
        list(sizes.values()),
        threshold,
        [measurements[k].magnitude for k in sizes],
    )
    return dict(zip(sizes, again, strict=True))


def _no_magnitudes(at: EvaluationPoint, probes: Sequence[Probe]) -> list[Magnitudes]:
    return [(0.0,) * len(at.base)] * len(probes)
