"""Measures the derivatives along probes at given steps: one for each probe, or whole sequences."""

import math
from collections.abc import Sequence

import numpy as np

from gradhooks._types import Losses
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
from gradhooks.numerics import differences
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.reports.reasons import Reason
from gradhooks.verdicts import judge


def from_stencil(
    at: EvaluationPoint,
    layout: Layout,
    probe: Probe,
    window: np.ndarray,
    spacing: float,
    magnitude: Magnitudes,
    threshold: float,
) -> Measurement:
    """Returns the `Measurement` along the screening probe, from the losses of its noise stencil.

    Args:
        at: The `EvaluationPoint`.
        layout: The `Layout` of the parameters.
        probe: The screening probe.
        window: float64, shape (POINTS, T). Losses of the stencil.
        spacing: Spacing of the stencil.
        magnitude: Per term, the size of the slope before its parts cancel.
        threshold: Relative difference that the verdict allows.
    """
    step = REACH * spacing
    losses = window[-1], window[0]
    return compare_pair(at, layout, probe, step, losses, magnitude, threshold)


def refine(
    oracle: Oracle,
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    threshold: float,
    is_fine: bool = False,
    repeats: int = 1,
) -> list[Measurement]:
    """Measures again at a sequence of step sizes, for what single quotients did not decide.

    Args:
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        measurements: What is measured again.
        threshold: Relative difference that the verdict allows.
        is_fine: Whether to take the fine sequence, see `steps.step_sequence`.
        repeats: How often each loss is evaluated. The mean of several has less
            noise, if it comes from jitter.
    """
    if not measurements:
        return []
    sequences = [plan_sequence(at, m.probe, threshold, is_fine) for m in measurements]
    losses = evaluate_pairs(oracle, at, [m.probe for m in measurements], sequences, repeats)
    return judge_sequences(oracle, at, measurements, sequences, losses, threshold, repeats)


def plan_sequence(
    at: EvaluationPoint, probe: Probe, threshold: float, is_fine: bool
) -> list[float]:
    """Returns the steps of a sequence as actually taken, ascending: see `steps.step_sequence`."""
    planned = steps.step_sequence(at, probe, threshold, is_fine)
    return [steps.actual_step(at, probe, step) for step in planned]


def evaluate_pairs(
    oracle: Oracle,
    at: EvaluationPoint,
    probes: Sequence[Probe],
    sequences: Sequence[Sequence[float]],
    repeats: int = 1,
) -> list[Losses]:
    """Returns the losses at every step of a sequence and opposite: shape (S, 2, T) per probe."""
    pairs: list[tuple[int, float]] = []
    for k, taken in enumerate(sequences):
        for step in taken:
            pairs += [(k, step), (k, -step)]
    losses = np.empty((0, len(at.base)))
    if pairs:
        losses = _evaluate_mean(oracle, at, probes, pairs, repeats)
    each: list[Losses] = []
    start = 0
    for taken in sequences:
        stop = start + 2 * len(taken)
        each.append(losses[start:stop].reshape(len(taken), 2, len(at.base)))
        start = stop
    return each


def judge_sequences(
    oracle: Oracle,
    at: EvaluationPoint,
    measurements: Sequence[Measurement],
    sequences: Sequence[Sequence[float]],
    losses: Sequence[Losses],
    threshold: float,
    repeats: int = 1,
) -> list[Measurement]:
    """Returns a `Measurement` for each sequence of steps, from its losses."""
    noise_level = at.noise / math.sqrt(repeats)
    refined: list[Measurement] = []
    for measurement, taken, values in zip(measurements, sequences, losses, strict=True):
        plus, minus = values[:, 0], values[:, 1]
        estimates: list[DerivativeEstimate] = []
        for t, level in enumerate(noise_level):
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
                analytic_errors=at.analytic_errors(measurement.probe, oracle.layout),
            )
        )
    return refined


def combine(
    at: EvaluationPoint,
    layout: Layout,
    quotients: Sequence[Measurement],
    threshold: float,
) -> Measurement:
    """Returns the `Measurement` that several quotients of one probe give together.

    Args:
        at: The `EvaluationPoint`.
        layout: The `Layout` of the parameters.
        quotients: A `Measurement` of one quotient for each step.
        threshold: Relative difference that the verdict allows.
    """
    first = quotients[0]
    estimates: list[DerivativeEstimate] = []
    for t, level in enumerate(at.noise):
        estimates.append(differences.combine([m.estimates[t] for m in quotients], level))
    return judge_estimates(
        first.probe,
        first.analytic,
        tuple(estimates),
        first.magnitude,
        is_accepted=False,
        threshold=threshold,
        analytic_errors=at.analytic_errors(first.probe, layout),
    )


def would_averaging_help(measurement: Measurement, repeats: int) -> bool:
    """Whether the mean of repeated evaluations may decide what noise hides.

    It divides the rounding part of an error bar by the square root of `repeats`.

    Args:
        measurement: The `Measurement`.
        repeats: How often each loss would be evaluated.
    """
    is_noisy = False
    for t, (_, reason) in enumerate(measurement.judgements):
        if reason is not Reason.NOISE:
            continue
        comparand = measurement.comparand(t)
        estimate = comparand.estimate
        rounding = estimate.error - estimate.truncation
        reduced = estimate.truncation + rounding / math.sqrt(repeats)
        if not reduced <= judge.RESOLUTION * comparand.size:
            return False
        is_noisy = True
    return is_noisy


def _evaluate_mean(
    oracle: Oracle,
    at: EvaluationPoint,
    probes: Sequence[Probe],
    pairs: Sequence[tuple[int, float]],
    repeats: int,
) -> Losses:
    """Returns the mean of repeated evaluations: float64, shape (len(pairs), T)."""
    losses = np.asarray(oracle.losses(at.point, probes, [*pairs] * repeats))
    if repeats == 1:
        return losses
    # The differences from the first are small, so that their mean is rounded less.
    first = losses[: len(pairs)]
    each = losses.reshape(repeats, len(pairs), -1)
    return first + np.mean(each - first, axis=0)


def measure_at_steps(
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
            compare_pair(
                at, oracle.layout, probes[k], taken[k], (plus, minus), magnitudes[k], threshold
            )
        )
    return measurements
