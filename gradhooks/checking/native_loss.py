"""What training really computes, at its own precision, held against the loss and the gradient in float64."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from gradhooks.numerics import departure, sampling
from gradhooks.numerics.probe import Probe
from gradhooks.reports.errors import RecordingError
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, Diagnosis, GradientComparison
from gradhooks.verdicts import native_diagnosis, optimizer_gradient

# Changes of so many times what roundoff does to the parameters, or to all that is computed on a
# path through a network, explain a difference of losses; the factor is that of gradients, see
# `training`.
_ROUNDOFFS, _CONDITION = (1.0, 16.0), 10.0
# Directions in which parameters are nudged.
_TURNS = 3
# Two evaluations of one loss at one precision differ by less than this share of what that precision
# does to it.
_SAME = 0.1
# Share of a variable's lost entries that the check must lose, too, when it computes as training
# does.
_SHARED = 0.5


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The recorded step, and the same without loss scaling where there was reason to look.

    Args:
        step: A `train_step.Recording`.
        plain: The `Recording` at the loss scale 1; None if it could not be
            made; `step` where scaling is not in question.
    """

    step: Any
    plain: Any

    @property
    def is_skipped(self):
        """Whether this is a step that loss scaling leaves out, to go on with a smaller scale."""
        is_bad = not np.isfinite(self.step.gradient).all()
        return (
            is_bad and self.step.is_scale_found and (self.plain is None or _is_finite(self.plain))
        )

    @property
    def loss(self):
        """The loss of the step as it says, unscaled where that is known; None if it does not say."""
        return (self.plain or self.step).loss


def _is_finite(recording):
    return np.isfinite(recording.gradient).all() and math.isfinite(recording.loss or 0.0)


def record_step(oracle):
    """Returns what is `Recorded` at the present state; None without an optimizer."""
    step = oracle.record(None)
    if step is None or step.scale == 1 or _is_finite(step):
        return step and Recorded(step, step)
    try:
        return Recorded(step, oracle.record(None, is_unscaled=True))
    except RecordingError:
        return Recorded(step, None)


@dataclasses.dataclass(frozen=True)
class Findings:
    """What precision is to blame for.

    Args:
        comparisons: Those of the term `"trained"`, with their reasons.
        diagnoses: Of those that precision explains.
        notes: Remarks for people.
    """

    comparisons: list[GradientComparison]
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = ()


def examine(settling, recorded, comparisons):
    """Returns the `Findings`.

    Args:
        settling: The `Settling`, with the oracle.
        recorded: What was `Recorded`.
        comparisons: The comparisons of the recorded gradient.
    """
    examination = _Examination(settling, recorded, comparisons)
    notes = list(examination.scaling_notes())
    if not examination.has_reason_to_look():
        return Findings(comparisons, (), (*notes, *examination.loss_notes()))
    examination.look()
    comparisons = examination.explained()
    notes += examination.loss_notes()
    return Findings(comparisons, examination.diagnoses(comparisons), tuple(notes))


class _Examination:
    """The state of one look at what precision does."""

    def __init__(self, settling, recorded, comparisons):
        self._settling, self._recorded, self._comparisons = settling, recorded, comparisons
        self._layout, self._dtype = settling.layout, settling.oracle.training_dtype
        self._base = float(settling.baseline.base[0])
        self._analytic = settling.baseline.gradients["total"]
        self._few = self._departure = None
        self._gap = self._loss_gap()

    def scaling_notes(self):
        if self._recorded.is_skipped:
            yield native_diagnosis.scaling_note(self._dtype, self._recorded.step.scale)

    def has_reason_to_look(self):
        return (
            any(self._is_infinite(c) or self._is_other(c) for c in self._comparisons)
            or self._gap == math.inf
        )

    def look(self):
        """Watches one evaluation in few digits and one in many, where the oracle can."""
        found = self._settling.oracle.watched(self._scale())
        if found is not None:
            self._few, many = found
            losses, largest = (self._few.loss, self._base), native_diagnosis.limits(self._dtype)[0]
            self._departure = departure.find_departure(
                self._few.calls, many.calls if many else (), losses, largest
            )

    def explained(self):
        """The comparisons, with the reason that precision gives; one more for a loss that alone is not finite."""
        if not self._is_loss_lost():
            return [self._renamed(c) for c in self._comparisons]
        found = [
            dataclasses.replace(c, reason=Reason.NON_FINITE_TRAINING) if self._is_infinite(c) else c
            for c in self._comparisons
        ]
        if not any(c.reason is Reason.NON_FINITE_TRAINING for c in found):
            found.insert(0, self._of_loss())
        return found

    def diagnoses(self, comparisons):
        blamed = [
            c
            for c in comparisons
            if c.reason is not Reason.NON_FINITE_GRADIENT
            or (self._is_infinite(c) and not self._is_step_alone(c))
        ]
        losses = self._native_loss(), self._base
        return native_diagnosis.diagnose(
            self._layout, blamed, self._dtype, losses, self._scale(), self._departure
        )

    def loss_notes(self):
        """The note about a loss that is another one than the check's, unless it is a failure already."""
        loss = self._recorded.loss
        if self._gap == 0 or self._is_loss_lost():
            return
        is_same = None
        if self._few is not None:
            difference = abs(self._few.loss - loss)
            is_same = bool(difference <= max(_SAME * self._gap, self._tolerance(loss)))
        is_right = not any(c.verdict is Verdict.FAIL for c in self._comparisons)
        yield native_diagnosis.loss_note(self._dtype, loss, self._base, is_same, is_right)

    def _loss_gap(self):
        """By how much the step's loss differs from the check's, beyond what rounding explains; 0 if it does not."""
        loss, scale = self._recorded.loss, self._recorded.step.scale
        if loss is None:
            return 0.0
        if not math.isfinite(loss):
            return math.inf
        # A step may return the loss before or after it is scaled.
        gap = min(abs(loss - self._base), abs(loss / scale - self._base))
        if gap <= self._tolerance(loss) or any(
            gap <= _CONDITION * change for change in self._changes()
        ):
            return 0.0
        return gap

    def _tolerance(self, loss):
        return optimizer_gradient.tolerance(self._dtype) * max(abs(loss), abs(self._base))

    def _changes(self):
        """By how much the loss in float64 changes when the parameters are nudged by roundoff."""
        settling, settings = self._settling, self._settling.settings
        for k, (roundoffs, _) in enumerate(itertools.product(_ROUNDOFFS, range(_TURNS))):
            rng = sampling.generator(settings.seed, settings.step, sampling.Stream.NATIVE_LOSS, k)
            size = roundoffs * optimizer_gradient.rounding(self._dtype)
            point = sampling.nudge(
                self._layout, settling.baseline.point, settling.scales, rng, size
            )
            ((loss, *_),) = settling.oracle.losses(point, [Probe(0, np.zeros(1))], [(0, 0.0)])
            yield abs(float(loss) - self._base)

    def _native_loss(self):
        loss = self._recorded.loss
        if loss is None or (self._few is not None and not math.isfinite(self._few.loss)):
            return math.nan if self._few is None else self._few.loss
        return loss

    def _is_loss_lost(self):
        """Whether training computes a loss that is not finite, by two witnesses of three, and not the step alone."""
        if (
            self._few is not None
            and math.isfinite(self._few.loss)
            and np.isfinite(self._few.gradient).all()
        ):
            return False
        told = self._recorded.loss is not None and not math.isfinite(self._recorded.loss)
        seen = self._few is not None and not math.isfinite(self._few.loss)
        return told + seen + any(map(self._is_infinite, self._comparisons)) >= 2

    def _of_loss(self):
        """The failure of a loss whose gradient is finite: no norms; the diagnosis gives both losses."""
        return GradientComparison(
            EVERYTHING,
            analytic_norm=math.nan,
            received_norm=math.nan,
            distance=math.nan,
            relative_difference=math.nan,
            verdict=Verdict.FAIL,
            reason=Reason.NON_FINITE_TRAINING,
        )

    def _scale(self):
        """The loss scale at which things are as they are to be explained."""
        plain = self._recorded.plain
        return self._recorded.step.scale if plain is None or _is_finite(plain) else 1.0

    def _is_infinite(self, comparison):
        """Whether the recorded gradient is not finite where the analytic one is."""
        is_failed = (
            comparison.verdict is Verdict.FAIL and comparison.reason is Reason.NON_FINITE_GRADIENT
        )
        return is_failed and bool(np.isfinite(self._analytic[self._part(comparison)]).all())

    def _is_step_alone(self, comparison):
        """Whether the check, which computes as training does, gets a finite gradient where the step does not."""
        return self._few is not None and bool(
            np.isfinite(self._few.gradient[self._part(comparison)]).all()
        )

    def _is_other(self, comparison):
        """Whether the recorded gradient is finite, and another one."""
        return comparison.verdict is Verdict.FAIL and comparison.reason in (
            Reason.UNTRAINED,
            Reason.UNDERFLOW,
        )

    def _renamed(self, comparison):
        """The comparison with another reason where the check, computing as training does, is as far off."""
        if (
            self._few is None
            or comparison.verdict is not Verdict.FAIL
            or comparison.reason is not Reason.UNTRAINED
        ):
            return comparison
        part = self._part(comparison)
        analytic, trained, few = (
            g[part] for g in (self._analytic, self._recorded.step.gradient, self._few.gradient)
        )
        lost = (analytic != 0) & (trained == 0)
        if comparison.zeros > departure.LOST and np.mean(few[lost] == 0) >= _SHARED:
            return dataclasses.replace(comparison, reason=Reason.UNDERFLOW)
        if np.linalg.norm(few - trained) <= _SAME * comparison.distance:
            return dataclasses.replace(comparison, reason=Reason.LOST_PRECISION)
        return comparison

    def _part(self, comparison):
        return self._layout.slice(self._layout.paths.index(comparison.path))
