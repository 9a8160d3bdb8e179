"""Compares what the optimizer receives with the analytic gradient, for every parameter."""

import dataclasses
import math

import numpy as np

from gradhooks.errors import RecordingError
from gradhooks.numerics import expectation, recurrence, sampling, training, training_diagnosis
from gradhooks.numerics.records import Comparison, Diagnosis, Reason, Verdict

# How far a second opinion on the trained gradient moves, at least and in units of roundoff: rounding is drawn anew.
# Over a few units a logit may stay as it was rounded, on its side of a corner: with a saturated softmax in bfloat16 an
# error came again at most points 4 units away, and at few 25 units away. Hence one look from farther off.
_NUDGE, _NUDGE_ROUNDOFFS = 1e-3, (4, 4, 25)
# So many looks more, at most, where the error came again each time and was not the same: of rounding that has a single
# direction, every second one of about its size does. Of twelve in a row, and alike, that is once in thirty thousand.
_MORE = 9

# Path of a comparison that concerns all variables.
EVERYTHING = "*"


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

    comparisons: tuple[Comparison, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    differences: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    gradient: np.ndarray | None = None


def compare(settling):
    """Returns the `Finding` at the place of a `Settling`."""
    if not settling.settings.train_step:
        return Finding()
    oracle, layout, gradients = settling.oracle, settling.layout, settling.place.gradients
    try:
        received = _received(oracle, layout, None, gradients["total"])
        if received is None:
            return Finding()
        comparisons = training.compare(received, _noisy(settling, received), oracle.training_dtype)
        comparisons = expectation.excused(comparisons, settling.settings.expect)
        # Last, since it takes traces anew, and only an accusation needs it.
        if any(c.verdict is Verdict.FAIL for c in comparisons) and not _is_steady(settling):
            raise RecordingError("the model computes another gradient each time that its code runs")
    except RecordingError as error:
        note = f"{Reason.NOT_RECORDED.explanation}: {error}"
        return Finding((_unrecorded(gradients["total"]),), (), {training.TERM: math.nan}, (note,))
    diagnoses = training_diagnosis.diagnose(
        layout, received, gradients.get("data"), comparisons, oracle.training_dtype,
        oracle.batch_size, oracle.has_noise,
    )  # fmt: skip
    headline = training.headline(received, comparisons)
    notes = _notes(comparisons, oracle.training_dtype)
    return Finding(tuple(comparisons), tuple(diagnoses), {training.TERM: headline}, notes, received.trained)


def _notes(comparisons, dtype):
    """Says how much of the trained gradient is rounding, where that is more than the tolerance."""
    rounded = [c.relative_difference for c in comparisons if c.reason is Reason.ROUNDING]
    if not rounded:
        return ()
    return (
        f"what the optimizer receives differs from the gradient in float64 in {len(rounded)} of {len(comparisons)} "
        f"variables, by {np.median(rounded):.1g} in the median and {max(rounded):.1g} at most, and otherwise at each "
        f"nudged point: rounding in {dtype}, which a deep network multiplies",
    )


def _unrecorded(analytic):
    """The comparison that could not be made: the notes say why, the verdict is that nothing can be said."""
    return Comparison(
        EVERYTHING, None, training.TERM, float(np.linalg.norm(analytic)), math.nan, math.nan, 0.0, math.nan,
        Verdict.INCONCLUSIVE, Reason.NOT_RECORDED,
    )  # fmt: skip


def _is_steady(settling):
    """Whether the model's code is the same function whenever it is traced: the step runs it apart from the check."""
    is_steady = getattr(settling.oracle, "is_steady", None)
    return is_steady is None or is_steady(settling.place.point, settling.tolerance)


def _received(oracle, layout, point, analytic):
    record = getattr(oracle, "record", None)
    recording = record(point) if record else None
    return None if recording is None else training.Received(layout, analytic, recording.gradient, recording.received)


def _noisy(settling, received):
    """Numbers of the suspect variables whose error is drawn anew at a nudged point, as rounding is and no mistake."""
    suspects = training.suspects(received, settling.oracle.training_dtype)
    shares = {v: [] for v in suspects}
    for turn, units in enumerate((*_NUDGE_ROUNDOFFS, *_NUDGE_ROUNDOFFS[:1] * _MORE)):
        doubtful = [v for v, seen in shares.items() if not recurrence.is_certain(seen)]
        if doubtful:
            nearby = _received_nearby(settling, turn, units)
            again = training.repeated(received, nearby, doubtful, settling.oracle.training_dtype)
            shares = {
                v: [*seen, again[v]] if v in again else seen
                for v, seen in shares.items()
                if v in again or v not in doubtful
            }
    return {*suspects} - {*shares}


def _received_nearby(settling, turn, units):
    """Records again at a nudged point, so many units of roundoff away."""
    oracle, settings = settling.oracle, settling.settings
    size = max(_NUDGE, units * training.ROUNDOFF[oracle.training_dtype])
    point = sampling.nudge(
        settling.layout, settling.place.point, settling.scales, settings.seed + turn, settings.step, size
    )
    return _received(oracle, settling.layout, point, oracle.gradients(point).terms["total"])
