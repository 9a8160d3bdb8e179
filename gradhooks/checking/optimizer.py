"""Compares what the optimizer receives with the analytic gradient, for every parameter."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking import hypotheses, native_loss
from gradhooks.checking.context import CheckContext
from gradhooks.checking.recorded_step import RecordedStep, record_step
from gradhooks.checking.stale_numbers import describe_stale_numbers
from gradhooks.numerics import sampling
from gradhooks.reports.errors import RecordingError
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, TRAINED, Diagnosis, GradientComparison
from gradhooks.reports.text import list_names
from gradhooks.verdicts import (
    declared,
    optimizer_comparison,
    optimizer_diagnosis,
    optimizer_gradient,
    replication,
    roundoff,
    step_causes,
)
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient, Recorded
from gradhooks.verdicts.replication import Vote

# Distance of the points at which an error must be the same, in units of each variable's scale. A
# free choice: far enough for other rounding errors, near enough for the same error.
_NUDGE = 1e-3
# The same in units of roundoff, where that is more. A free choice: half precision must resolve it.
_NUDGE_ROUNDOFFS = 4.0
# Replicates of an error beyond rounding. A free choice: both must repeat it, since in a variable of
# one entry every second error of rounding has the same sign.
_REPLICATES = 2


@dataclasses.dataclass(frozen=True)
class OptimizerResult:
    """What the comparison with the optimizer gradient found; empty where there is none.

    Args:
        comparisons: One per variable.
        diagnoses: One per wrong variable.
        differences: Relative difference by term name.
        notes: Remarks for people.
        gradient: float32 or float64, shape (P,). What the optimizer received;
            None where nothing was recorded.
        cause: What explains all of the wrong variables, a sentence; empty if
            nothing does.
    """

    comparisons: tuple[GradientComparison, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    differences: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    gradient: Recorded | None = None
    cause: str = ""


def compare(context: CheckContext) -> OptimizerResult:
    """Returns the `OptimizerResult` at the baseline of a `CheckContext`."""
    if not context.settings.train_step:
        return OptimizerResult()
    oracle, layout, gradients = context.oracle, context.layout, context.baseline.gradients
    try:
        recorded_step = record_step(oracle)
        if recorded_step is None:
            return OptimizerResult()
        step, dtype = recorded_step.step, oracle.training_dtype
        recorded = OptimizerGradient(
            layout, gradients["total"], step.gradient, step.received, recorded_step.is_skipped
        )
        _require_one_loss(recorded, step, dtype)
        noisy = _find_noisy(context, recorded)
        comparisons = optimizer_comparison.compare(recorded, noisy, dtype)
        settings = context.settings
        comparisons = declared.mark_declared(comparisons, settings.expect, settings.excuses)
        native = native_loss.explain(context, recorded_step, comparisons)
        comparisons = native.comparisons
        if any(c.verdict is Verdict.FAIL for c in comparisons):
            _require_comparable(context)
    except RecordingError as error:
        note = f"{Reason.NOT_RECORDED.explanation}: {error}"
        notes = (note, *describe_stale_numbers(context))
        unrecorded = _unrecorded(gradients["total"])
        return OptimizerResult((unrecorded,), (), {TRAINED: math.nan}, notes)

    cause, remarks = _find_cause(context, recorded_step, recorded, comparisons)
    diagnoses = _diagnose_unexplained(context, recorded, comparisons, native.diagnoses, cause)
    comparisons = _leave_out_missed(comparisons, step.outdated)
    difference = optimizer_comparison.overall_difference(recorded, comparisons)
    notes = (
        *step.outdated.sentences(),
        *_describe_rounding(comparisons, dtype),
        *_describe_singular_points(comparisons, dtype),
        *native.notes,
        *declared.describe_idle(comparisons, context.settings.expect),
        *remarks,
        *describe_stale_numbers(context),
    )
    return OptimizerResult(
        tuple(comparisons),
        (*native.diagnoses, *diagnoses),
        {TRAINED: difference},
        notes,
        recorded.values,
        cause or _find_common_sentence(diagnoses),
    )


def _find_cause(
    context: CheckContext,
    step: RecordedStep,
    recorded: OptimizerGradient,
    comparisons: Sequence[GradientComparison],
) -> tuple[str, tuple[str, ...]]:
    """Returns the cause, and remarks; what goes wrong in the search changes no verdict."""
    try:
        return hypotheses.find_cause(context, step, recorded, comparisons), ()
    except Exception as error:
        first = str(error).partition("\n")[0]
        return "", (f"what is wrong with `train_step` was not found: {first}",)


def _diagnose_unexplained(
    context: CheckContext,
    recorded: OptimizerGradient,
    comparisons: Sequence[GradientComparison],
    explanations: Sequence[Diagnosis],
    cause: str,
) -> Sequence[Diagnosis]:
    """Diagnoses the failures that native precision does not explain; a cause explains them all."""
    explained = {d.path for d in explanations}
    unexplained = [c for c in comparisons if c.path not in explained]
    oracle = context.oracle
    return optimizer_diagnosis.diagnose(
        context.layout,
        recorded,
        context.baseline.gradients.get("data"),
        unexplained,
        oracle.training_dtype,
        oracle.batch_size,
        oracle.replicas,
        cause,
    )


def _find_common_sentence(diagnoses: Sequence[Diagnosis]) -> str:
    """Returns the sentence that explains several wrong variables at once; empty without one."""
    leaders = [d for d in diagnoses if d.is_leading]
    return leaders[0].sentence if len(leaders) == 1 < len(diagnoses) else ""


def _find_noisy(context: CheckContext, recorded: OptimizerGradient) -> set[int]:
    """Returns the variables that differ by rounding: by its size, or as another error elsewhere."""
    dtype = context.oracle.training_dtype
    disagreeing = optimizer_gradient.find_disagreeing(recorded, dtype)
    beyond = disagreeing
    for number in range(roundoff.DIRECTIONS):
        if not beyond:
            break
        point = _nudge(context, sampling.Stream.TRAINED_ROUNDING, number, roundoff.rounding(dtype))
        nearby = _total_gradient(context, point)
        beyond = optimizer_gradient.find_beyond_rounding(recorded, nearby, beyond, dtype)

    def vote(numbers: Sequence[int], replicate: int) -> list[Vote]:
        perturbed = _record_replicate(context, replicate)
        votes: list[Vote] = []
        for k in numbers:
            votes.append(optimizer_gradient.vote(recorded, perturbed, beyond[k], dtype))
        return votes

    # Every difference beyond rounding is in doubt, for no error bar covers it.
    stands = replication.confirm([True] * len(beyond), _REPLICATES, vote)
    wrong = {variable for variable, is_wrong in zip(beyond, stands, strict=True) if is_wrong}
    return set(disagreeing) - wrong


def _record_replicate(context: CheckContext, number: int) -> OptimizerGradient:
    """Records the step at a perturbed point, where rounding is another."""
    oracle = context.oracle
    size = max(_NUDGE, _NUDGE_ROUNDOFFS * roundoff.rounding(oracle.training_dtype))
    point = _nudge(context, sampling.Stream.TRAINED_REPLICATE, number, size)
    analytic = _total_gradient(context, point)
    step = oracle.record(point)
    return OptimizerGradient(context.layout, analytic, step.gradient, step.received)


def _nudge(
    context: CheckContext,
    stream: sampling.Stream,
    replicate: int,
    size: float,
) -> Vector:
    settings = context.settings
    rng = sampling.generator(settings.seed, settings.step, stream, replicate)
    return sampling.nudge(context.layout, context.baseline.point, context.scales, rng, size)


def _total_gradient(context: CheckContext, point: Vector) -> Vector:
    return context.oracle.gradients(point).terms["total"]


def _require_one_loss(recorded: OptimizerGradient, step: Any, dtype: str) -> None:
    """Raises a RecordingError if several optimizers receive what is not the gradient of one loss.

    Several may receive it twice: that is a mistake, and one that is known.
    """
    if step.optimizers < 2:
        return
    is_known = False
    if step.shares is not None:
        prediction = step_causes.predict_sharing(recorded, step.shares)
        shared = np.flatnonzero(step.shares > 1).tolist()
        is_known = step_causes.explains(prediction, recorded, shared, dtype)
    if not is_known:
        raise RecordingError(
            f"`train_step` uses {step.optimizers} optimizers, so there is no single loss whose "
            "gradient they receive"
        )


def _require_comparable(context: CheckContext) -> None:
    """Raises a RecordingError if the step, which runs the model's code again, has another loss."""
    oracle = context.oracle
    if not oracle.draws_alike():
        raise RecordingError(
            "`train_step` draws random numbers where the loss does not, or none where it does, so "
            "that it differentiates another loss than the one that is checked"
        )
    # Last, since it traces the model twice, and only a failure needs it.
    point, threshold = context.baseline.point, context.threshold
    if not oracle.is_steady(point, threshold):
        raise RecordingError("the model computes another gradient each time that its code runs")


def _unrecorded(analytic: Vector) -> GradientComparison:
    """The comparison of a step that could not be recorded; the notes say why."""
    return GradientComparison(
        EVERYTHING,
        analytic_norm=float(np.linalg.norm(analytic)),
        received_norm=math.nan,
        distance=math.nan,
        relative_difference=math.nan,
        verdict=Verdict.INCONCLUSIVE,
        reason=Reason.NOT_RECORDED,
    )


def _leave_out_missed(
    comparisons: Sequence[GradientComparison], outdated: Any
) -> list[GradientComparison]:
    """Takes back the passes of variables that the compiled step of `fit` does not train."""
    result: list[GradientComparison] = []
    for variable, c in enumerate(comparisons):
        if variable in outdated.missed and c.verdict is Verdict.PASS:
            c = dataclasses.replace(c, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOT_RECORDED)
        result.append(c)
    return result


def _describe_rounding(comparisons: Sequence[GradientComparison], dtype: str) -> Iterator[str]:
    """Describes rounding in the optimizer gradient, where it is more than the tolerance."""
    rounded = [c.relative_difference for c in comparisons if c.reason is Reason.ROUNDING]
    if rounded:
        yield (
            "what the optimizer receives differs from the gradient in float64 in "
            f"{len(rounded)} of {len(comparisons)} variables, by {np.median(rounded):.1g} in the "
            f"median and {max(rounded):.1g} at most: rounding in {dtype}, which this network "
            "multiplies"
        )


def _describe_singular_points(
    comparisons: Sequence[GradientComparison], dtype: str
) -> Iterator[str]:
    """Describes where only the gradient in float64 is not finite.

    No digits are lost there: rounding moves training off a point without derivative.
    """
    paths: list[str] = []
    for c in comparisons:
        if c.reason is Reason.NON_FINITE_GRADIENT and c.verdict is not Verdict.FAIL:
            paths.append(c.path)
    if paths:
        yield (
            f"backpropagation in float64 gives NaN or infinite numbers for {list_names(paths)}, "
            "and the optimizer receives finite ones: the loss has no derivative at this point, and "
            f"rounding in {dtype} leaves it by chance"
        )
