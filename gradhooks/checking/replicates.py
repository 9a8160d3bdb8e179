"""Replicates: failures measured again at perturbed points of the same batch.

`confirm` measures there as at the point itself. Of a clear failure `confirm_clear` takes
a single quotient at a larger step: quotients at the point have told of truncation and of
kinks nearby, and farther away shows a loss that stands still and jumps.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking import measure, step_control
from gradhooks.checking.baseline import EvaluationPoint, estimate_baseline
from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.numerics import sampling, step_sizes
from gradhooks.verdicts import replication
from gradhooks.verdicts.replication import Vote

# How far a replicate lies from the point, in units of each variable's scale: off any exact zero,
# still the same network, and farther than the steps, which would reach back to the kink otherwise.
# At native precision the steps are larger. Between these limits the values are a free choice.
_NUDGE, _NUDGE_NATIVE = 1e-2, 1e-1
# The same for clear failures in float64: an error of a few percent keeps its sign there, and what
# is wrong at exactly this point is right. A free choice between the steps and the other nudge.
_NUDGE_CLEAR = 1e-3
# Replicates in float64, where each is precise, and at native precision, where none is. Free
# choices: a majority of five survives two bad ones.
REPLICATES, REPLICATES_NATIVE = 1, 5
# The step of a clear failure's replicate, in units of its own: the largest of these that the scale
# permits. A free choice, as for the largest of the finer sequence.
_FARTHER = (1.0, 3.0, 10.0, 30.0)
# Points along a step, in units of the step, at which the gradient of clear failures is evaluated,
# and further ones where the loss may be a wave. A free choice: both sides, near and far, and not
# multiples of one distance, at which a wave may look the same.
_WITHIN_STEP = (0.5, -0.37, 0.9, -0.71)
_WITHIN_WAVE = (0.23, -0.13, 0.053, -0.019)


def confirm(
    context: CheckContext,
    failures: Sequence[Measurement],
    meets: Sequence[bool],
) -> list[bool]:
    """Returns which failures stand after they were measured again at perturbed points.

    Args:
        failures: The `Measurement`s that failed.
        meets: Whether the one-sided slopes of each meet within their bars.
    """
    if not context.oracle.has_gradient_elsewhere:
        return list(meets)

    def vote(numbers: Sequence[int], replicate: int) -> list[Vote]:
        selected = [failures[k] for k in numbers]
        replicates = _measure_replicate(context, selected, replicate)
        votes: list[Vote] = []
        for first, second in zip(selected, replicates, strict=True):
            votes.append(first.vote(second, context.threshold))
        return votes

    is_native = context.spacing.is_native
    is_doubtful = [is_native or not smooth for smooth in meets]
    return replication.confirm(is_doubtful, _count(context), vote)


def confirm_clear(context: CheckContext, failures: Sequence[Measurement]) -> list[bool]:
    """Returns which clear failures are repeated at perturbed points by single quotients.

    A replicate must have the same error, and a numeric derivative of the same size, or
    the same part of the gradient: where steps are too long for a loss, quotients at
    larger ones are smaller. And the gradient must stay about the same within the step.
    """
    if not context.oracle.has_gradient_elsewhere or not failures:
        return [False] * len(failures)

    holds = _holds_within_step(context, failures)
    if not any(holds):
        return holds

    def vote(numbers: Sequence[int], replicate: int) -> list[Vote]:
        selected = [failures[k] for k in numbers if holds[k]]
        replicates = iter(_measure_farther(context, selected, replicate))
        votes: list[Vote] = []
        for k in numbers:
            is_repeated = holds[k] and _is_repeated(failures[k], next(replicates), context)
            votes.append(Vote.REPEATED if is_repeated else Vote.SILENT)
        return votes

    return replication.confirm([True] * len(failures), _count(context), vote)


def _is_repeated(first: Measurement, second: Measurement, context: CheckContext) -> bool:
    """Whether a replicate repeats a failure, by a numeric derivative that is alike."""
    if first.vote(second, context.threshold) is not Vote.REPEATED:
        return False
    failed = first.failed_comparands.items()
    return all(c.is_as_steep_as(second.comparand(t)) for t, c in failed)


def _holds_within_step(context: CheckContext, failures: Sequence[Measurement]) -> list[bool]:
    """Whether backpropagation gives about the same derivative within the step of each failure.

    All move at once.
    """
    holds = _holds_at(context, failures, _WITHIN_STEP)
    waves: list[int] = []
    for k, failure in enumerate(failures):
        if holds[k] and any(c.may_be_wave for c in failure.failed_comparands.values()):
            waves.append(k)
    if waves:
        further = _holds_at(context, [failures[k] for k in waves], _WITHIN_WAVE)
        for k, is_same in zip(waves, further, strict=True):
            holds[k] = is_same
    return holds


def _holds_at(
    context: CheckContext,
    failures: Sequence[Measurement],
    fractions: Sequence[float],
) -> list[bool]:
    """Whether backpropagation gives about the same derivative at these fractions of the steps."""
    slopes: list[list[list[float]]] = []
    for fraction in fractions:
        point = np.array(context.baseline.point)
        for failure in failures:
            step, probe = _step_of(failure), failure.probe
            point[probe.entries] += fraction * step * probe.weights
        gradients = context.oracle.gradients(point).terms.values()
        slopes.append([[f.probe.slope_of(g) for g in gradients] for f in failures])
    holds = [True] * len(failures)
    for at_point in slopes:
        for k, failure in enumerate(failures):
            for t, comparand in failure.failed_comparands.items():
                change = at_point[k][t] - comparand.analytic
                holds[k] = holds[k] and comparand.stands_beside(change)
    return holds


def _step_of(failure: Measurement) -> float:
    """Returns the largest step at which a term that failed was measured."""
    return max(c.estimate.step_size for c in failure.failed_comparands.values())


def _count(context: CheckContext) -> int:
    return REPLICATES_NATIVE if context.spacing.is_native else REPLICATES


def _measure_farther(
    context: CheckContext,
    failures: Sequence[Measurement],
    number: int,
) -> list[Measurement]:
    """Measures the probes of failures at a perturbed point, by one quotient at a larger step."""
    at = _nudge_lightly(context, number)
    sizes: list[float] = []
    for failure in failures:
        step = _step_of(failure)
        permitted = step_sizes.step_sequence(step, failure.probe.length_scale, _FARTHER)
        sizes.append(float(permitted[-1]))
    return measure.measure_at_steps(
        context.oracle,
        at,
        [m.probe for m in failures],
        sizes,
        context.threshold,
        [m.magnitude for m in failures],
    )


def _nudge_lightly(context: CheckContext, number: int) -> EvaluationPoint:
    """Returns a perturbed point with the noise of the baseline, far below clear failures."""
    known = context.confirmed.perturbed
    if number not in known:
        point = _nudge(context, number, _NUDGE_CLEAR)
        gradients = context.oracle.gradients(point).terms
        still = context.coordinate(0)
        base = np.asarray(context.oracle.losses(point, [still], [(0, 0.0)]))[0]
        # A point is as large as the model, and so is its gradient.
        known.clear()
        known[number] = dataclasses.replace(
            context.baseline, point=point, gradients=gradients, base=base
        )
    return known[number]


def _nudge(context: CheckContext, number: int, size: float) -> Vector:
    if context.spacing.is_native:
        size = _NUDGE_NATIVE
    return context.nudge(sampling.Stream.REPLICATE, number, size)


def _measure_replicate(
    context: CheckContext,
    failures: Sequence[Measurement],
    number: int,
) -> list[Measurement]:
    """Measures the probes of failures at a perturbed point, another one for each number."""
    at = _nudge_point(context, number)
    replicates = step_control.first_estimates(
        context.oracle,
        at,
        [m.probe for m in failures],
        context.threshold,
        [m.magnitude for m in failures],
    )
    unresolved = [k for k, m in enumerate(replicates) if not m.is_accepted]
    refined = measure.refine(
        context.oracle, at, [replicates[k] for k in unresolved], context.threshold
    )
    for k, measurement in zip(unresolved, refined, strict=True):
        replicates[k] = measurement
    return replicates


def _nudge_point(context: CheckContext, number: int) -> EvaluationPoint:
    """Returns the baseline at a perturbed point."""
    assert context.screening is not None
    point = _nudge(context, number, _NUDGE)
    gradients = context.oracle.gradients(point)
    perturbed, _ = estimate_baseline(
        context.oracle,
        point,
        gradients.terms,
        context.screening,
        context.spacing,
        has_steps=bool(context.oracle.precision.step_operations),
    )
    # A nudge does not change how many digits the loss has: the larger of both estimates holds.
    noise = np.maximum(perturbed.noise, context.baseline.noise)
    return dataclasses.replace(perturbed, noise=noise)
