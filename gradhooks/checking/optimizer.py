"""Compares what the optimizer receives with the analytic gradient, for every parameter."""

import dataclasses
import math

import numpy as np

from gradhooks.checking import native_loss
from gradhooks.numerics import sampling
from gradhooks.reports.errors import RecordingError
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, TRAINED, Diagnosis, GradientComparison
from gradhooks.reports.text import list_names
from gradhooks.verdicts import declared, optimizer_diagnosis, optimizer_gradient

# How far away, at least and in units of roundoff, a second opinion on the trained gradient is
# taken.
_NUDGE, _NUDGE_ROUNDOFFS = 1e-3, 4.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the comparison with the trained gradient found; empty where there is none.

    Args:
        comparisons: One per variable.
        diagnoses: One per wrong variable.
        differences: Relative difference by term name.
        notes: Remarks for people.
        gradient: float32 or float64, shape (P,). What the optimizer received;
            None where nothing was recorded.
    """

    comparisons: tuple[GradientComparison, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    differences: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    gradient: np.ndarray | None = None


def compare(settling):
    """Returns the `Finding` at the place of a `Settling`."""
    if not settling.settings.train_step:
        return Finding()
    oracle, layout, gradients = settling.oracle, settling.layout, settling.baseline.gradients
    try:
        recorded = native_loss.record_step(oracle)
        if recorded is None:
            return Finding()
        received = _received(layout, gradients["total"], recorded.step, recorded.is_skipped)
        comparisons = optimizer_gradient.compare(
            received, _noisy(settling, received), oracle.training_dtype
        )
        comparisons = declared.excuse(comparisons, settling.settings.expect)
        found = native_loss.examine(settling, recorded, comparisons)
        comparisons = found.comparisons
        if any(c.verdict is Verdict.FAIL for c in comparisons):
            _refuse_incomparable(settling)
    except RecordingError as error:
        note = f"{Reason.NOT_RECORDED.explanation}: {error}"
        return Finding((_unrecorded(gradients["total"]),), (), {TRAINED: math.nan}, (note,))
    explained = {d.path for d in found.diagnoses}
    diagnoses = optimizer_diagnosis.diagnose(
        layout,
        received,
        gradients.get("data"),
        [c for c in comparisons if c.path not in explained],
        oracle.training_dtype,
        oracle.batch_size,
        oracle.has_noise,
        oracle.replicas,
    )
    comparisons = _as_compiled(comparisons, recorded.step.outdated)
    headline = optimizer_gradient.headline(received, comparisons)
    dtype, outdated = oracle.training_dtype, recorded.step.outdated.sentences()
    notes = (*outdated, *_notes(comparisons, dtype), *_edges(comparisons, dtype), *found.notes)
    diagnoses = (*found.diagnoses, *diagnoses)
    return Finding(tuple(comparisons), diagnoses, {TRAINED: headline}, notes, received.trained)


def _notes(comparisons, dtype):
    """Says how much of the trained gradient is rounding, where that is more than the tolerance."""
    rounded = [c.relative_difference for c in comparisons if c.reason is Reason.ROUNDING]
    if not rounded:
        return ()
    return (
        f"what the optimizer receives differs from the gradient in float64 in {len(rounded)} of {len(comparisons)} "
        f"variables, by {np.median(rounded):.1g} in the median and {max(rounded):.1g} at most: rounding in {dtype}, "
        "which this network multiplies",
    )


def _edges(comparisons, dtype):
    """Says where only float64 has a gradient that is not finite: no digits are lost there, a point is hit or missed."""
    paths = [
        c.path
        for c in comparisons
        if c.reason is Reason.NON_FINITE_GRADIENT and c.verdict is not Verdict.FAIL
    ]
    if paths:
        yield (
            f"backpropagation in float64 gives NaN or infinite numbers for {list_names(paths)}, and the optimizer receives "
            f"finite ones: the loss has no derivative at this point, and rounding in {dtype} leaves it by chance"
        )


def _unrecorded(analytic):
    """The comparison that could not be made: the notes say why, the verdict is that nothing can be said."""
    return GradientComparison(
        EVERYTHING,
        analytic_norm=float(np.linalg.norm(analytic)),
        received_norm=math.nan,
        distance=math.nan,
        relative_difference=math.nan,
        verdict=Verdict.INCONCLUSIVE,
        reason=Reason.NOT_RECORDED,
    )


def _refuse_incomparable(settling):
    """Raises a RecordingError where the step, which runs the model's code apart from the check, is of another loss."""
    oracle = settling.oracle
    if not oracle.draws_alike():
        raise RecordingError(
            "`train_step` draws random numbers where the loss does not, or none where it does, so that it "
            "differentiates another loss than the one that is checked"
        )
    # Last, since it takes traces anew, and only an accusation needs it.
    if not oracle.is_steady(settling.baseline.point, settling.threshold):
        raise RecordingError("the model computes another gradient each time that its code runs")


def _received(layout, analytic, recording, is_skipped=False):
    return optimizer_gradient.OptimizerGradient(
        layout, analytic, recording.gradient, recording.received, is_skipped
    )


def _as_compiled(comparisons, outdated):
    """What the step that `fit` has compiled does not train, it has not been seen to train rightly."""
    return [
        dataclasses.replace(c, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOT_RECORDED)
        if v in outdated.missed and c.verdict is Verdict.PASS
        else c
        for v, c in enumerate(comparisons)
    ]


def _noisy(settling, received):
    """Numbers of the suspect variables whose error is rounding, by its size or because it is drawn anew elsewhere."""
    dtype = settling.oracle.training_dtype
    suspects = optimizer_gradient.disagreeing(received, dtype)
    guilty = suspects
    # Each can only acquit, so the order is free: what acquits most for its price comes first.
    for ask, turn in (
        (_unexplained, 0),
        (_repeated, 0),
        (_unexplained, 1),
        (_unexplained, 2),
        (_repeated, 1),
    ):
        if guilty:
            guilty = ask(settling, received, guilty, turn)
    return {*suspects} - {*guilty}


def _unexplained(settling, received, guilty, turn):
    """What a unit of roundoff in the parameters does not explain; in a single direction it may do little by chance."""
    dtype = settling.oracle.training_dtype
    nearby = _gradient(
        settling,
        _nudged(
            settling, sampling.Stream.TRAINED_ROUNDING, turn, optimizer_gradient.rounding(dtype)
        ),
    )
    return optimizer_gradient.beyond_rounding(received, nearby, guilty, dtype)


def _repeated(settling, received, guilty, turn):
    """What is the same error at a nudged point, where rounding is drawn anew."""
    dtype = settling.oracle.training_dtype
    point = _nudged(
        settling,
        sampling.Stream.TRAINED_REPLICATE,
        turn,
        max(_NUDGE, _NUDGE_ROUNDOFFS * optimizer_gradient.rounding(dtype)),
    )
    nudged = _received(settling.layout, _gradient(settling, point), settling.oracle.record(point))
    return optimizer_gradient.replicate_failures(received, nudged, guilty, dtype)


def _nudged(settling, stream, turn, size):
    rng = sampling.generator(settling.settings.seed, settling.settings.step, stream, turn)
    return sampling.nudge(settling.layout, settling.baseline.point, settling.scales, rng, size)


def _gradient(settling, point):
    return settling.oracle.gradients(point).terms["total"]
