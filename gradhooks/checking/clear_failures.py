"""Measures failures until they are clear, with as few quotients as that takes.

See `judge.is_clear_failure`. What does not become clear costs no more than without.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gradhooks._types import Losses
from gradhooks.checking import measure
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.measurement import Measurement, compare_pair
from gradhooks.checking.oracle import Oracle
from gradhooks.numerics import differences
from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Verdict


def combine_if_clear(
    at: EvaluationPoint,
    layout: Layout,
    quotients: Sequence[Measurement],
    threshold: float,
) -> Measurement | None:
    """Returns what several quotients give together if that fails clearly; None if it does not.

    A term that does not fail keeps the most precise of its quotients.
    """
    combined = measure.combine(at, layout, quotients, threshold)
    if not combined.is_clear_failure:
        return None
    estimates = list(combined.estimates)
    for t, judgement in enumerate(combined.judgements):
        for quotient in quotients:
            is_alike = quotient.judgements[t] == judgement and judgement[0] is not Verdict.FAIL
            if is_alike and quotient.estimates[t].error < estimates[t].error:
                estimates[t] = quotient.estimates[t]
    return dataclasses.replace(combined, estimates=tuple(estimates))


def refine_until_clear(
    oracle: Oracle,
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    threshold: float,
) -> list[Measurement]:
    """Measures at one step of a sequence first, and at the others what that does not make clear.

    Args:
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        measurements: What is measured again.
        threshold: Relative difference that the verdict allows.
    """
    refined = list(measurements)
    numbers = [k for k, m in enumerate(measurements) if not m.is_clear_failure]
    probes = [measurements[k].probe for k in numbers]
    sequences = [measure.plan_sequence(at, probe, threshold, is_fine=False) for probe in probes]
    nearest: list[list[float]] = []
    for k, taken in zip(numbers, sequences, strict=True):
        nearest.append(_find_nearest(measurements[k], taken))
    pairs = measure.evaluate_pairs(oracle, at, probes, nearest)

    unclear: list[int] = []
    rest: list[list[float]] = []
    for j, k in enumerate(numbers):
        clear = _combine_with(oracle, at, measurements[k], nearest[j], pairs[j], threshold)
        if clear is None:
            unclear.append(j)
            rest.append([step for step in sequences[j] if step not in nearest[j]])
        else:
            refined[k] = clear
    further = measure.evaluate_pairs(oracle, at, [probes[j] for j in unclear], rest)
    losses: list[Losses] = []
    for j, values in zip(unclear, further, strict=True):
        losses.append(_merge(sequences[j], nearest[j], pairs[j], values))
    judged = measure.judge_sequences(
        oracle,
        at,
        [measurements[numbers[j]] for j in unclear],
        [sequences[j] for j in unclear],
        losses,
        threshold,
    )
    for j, measured in zip(unclear, judged, strict=True):
        refined[numbers[j]] = measured
    return refined


def _combine_with(
    oracle: Oracle,
    at: EvaluationPoint,
    measured: Measurement,
    near: Sequence[float],
    losses: Losses,
    threshold: float,
) -> Measurement | None:
    """Returns a quotient and another one together if they fail clearly; None if not."""
    if not near:
        return None
    ((plus, minus),) = losses
    pair = compare_pair(
        at, oracle.layout, measured.probe, near[0], (plus, minus), measured.magnitude, threshold
    )
    return combine_if_clear(at, oracle.layout, [measured, pair], threshold)


def _find_nearest(measurement: Measurement, taken: Sequence[float]) -> list[float]:
    """Returns the largest step far enough below the only one that was measured, if there is one."""
    estimate = measurement.estimates[0]
    if estimate.evaluations > 2:
        return []
    smaller = [step for step in taken if differences.is_much_smaller(step, estimate.step_size)]
    return smaller[-1:]


def _merge(taken: Sequence[float], near: Sequence[float], first: Losses, further: Losses) -> Losses:
    """Returns the losses of a sequence of which one step was evaluated before the others."""
    if not near:
        return further
    return np.insert(further, taken.index(near[0]), first[0], axis=0)
