"""Compares the loss and the gradient at the precision of training with those in float64."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking.context import CheckContext
from gradhooks.checking.recorded_step import RecordedStep
from gradhooks.numerics import sampling
from gradhooks.numerics.departure import Departure, find_departure
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, Diagnosis, GradientComparison
from gradhooks.verdicts import native_diagnosis, native_precision, roundoff

# Sizes of the nudges, in units of roundoff, whose effect on the loss explains a gap. Derived: the
# rounding of the parameters, and of a path of 256 operations through the network.
_NUDGES = (1.0, 16.0)


@dataclasses.dataclass(frozen=True)
class NativeResult:
    """What native precision explains.

    Args:
        comparisons: Those of the optimizer gradient, with their reasons.
        diagnoses: One per variable that native precision explains.
        notes: Remarks for people.
    """

    comparisons: list[GradientComparison]
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = ()


def explain(
    context: CheckContext,
    recorded: RecordedStep,
    comparisons: list[GradientComparison],
) -> NativeResult:
    """Returns the `NativeResult` for a recorded step.

    Args:
        context: The `CheckContext`, with the oracle.
        recorded: The `RecordedStep`.
        comparisons: The comparisons of the recorded gradient.
    """
    native = _NativeLoss(context, recorded, comparisons)
    notes: list[str] = []
    if recorded.is_skipped:
        notes.append(native_diagnosis.describe_scaling(native.dtype, recorded.step.scale))
    if not native.has_unexplained():
        return NativeResult(comparisons, (), (*notes, *native.describe_gap()))
    native.evaluate()
    explained = native.explain_comparisons()
    notes += native.describe_gap()
    return NativeResult(explained, native.diagnose(explained), tuple(notes))


class _NativeLoss:
    """The loss and the gradient at native precision, beside the recorded step and float64."""

    def __init__(
        self,
        context: CheckContext,
        recorded: RecordedStep,
        comparisons: list[GradientComparison],
    ):
        self.dtype: str = context.oracle.training_dtype
        self._context = context
        self._recorded = recorded
        self._comparisons = comparisons
        self._wide = float(context.baseline.base[0])
        self._analytic: Vector = context.baseline.gradients["total"]
        # The evaluation at native precision, and where it departs from float64; None where unknown.
        self._native: Any = None
        self._departure: Departure | None = None
        self._gap = self._find_loss_gap()

    def has_unexplained(self) -> bool:
        """Whether a gradient failed, or the loss of the step is not finite."""
        if self._gap == math.inf:
            return True
        different = (Reason.UNTRAINED, Reason.UNDERFLOW)
        return any(
            self._became_infinite(c) or (c.verdict is Verdict.FAIL and c.reason in different)
            for c in self._comparisons
        )

    def evaluate(self) -> None:
        """Evaluates each layer at native precision and in float64, if the oracle can."""
        evaluations = self._context.oracle.watched(self._recorded.failing_scale)
        if evaluations is None:
            return
        self._native, wide = evaluations
        losses = self._native.loss, self._wide
        largest, _ = native_diagnosis.limits(self.dtype)
        wide_calls = wide.calls if wide else ()
        self._departure = find_departure(self._native.calls, wide_calls, losses, largest)

    def explain_comparisons(self) -> list[GradientComparison]:
        """Returns the comparisons with the reasons that native precision gives.

        One more is the first of them if only the loss is not finite.
        """
        if not self._is_loss_infinite():
            return [self._explain_failure(c) for c in self._comparisons]
        result: list[GradientComparison] = []
        has_failure = False
        for c in self._comparisons:
            if self._became_infinite(c):
                c = dataclasses.replace(c, reason=Reason.NON_FINITE_TRAINING)
                has_failure = True
            result.append(c)
        return result if has_failure else [self._of_loss(), *result]

    def diagnose(self, comparisons: Sequence[GradientComparison]) -> tuple[Diagnosis, ...]:
        """Returns the diagnoses of those comparisons that native precision explains."""
        explained: list[GradientComparison] = []
        for c in comparisons:
            is_by_precision = self._became_infinite(c) and not self._is_native_finite(c)
            if c.reason is not Reason.NON_FINITE_GRADIENT or is_by_precision:
                explained.append(c)
        losses = self._native_loss(), self._wide
        return native_diagnosis.diagnose(
            self._context.layout,
            explained,
            self.dtype,
            losses,
            self._recorded.failing_scale,
            self._departure,
        )

    def describe_gap(self) -> Iterator[str]:
        """Describes a loss that is another one than the check's, if that is no failure already."""
        loss = self._recorded.loss
        if loss is None or self._gap == 0 or self._is_loss_infinite():
            return
        is_same = None
        if self._native is not None:
            is_same = native_precision.is_same_loss(
                loss, self._native.loss, self._wide, self._gap, self.dtype
            )
        is_right = not any(c.verdict is Verdict.FAIL for c in self._comparisons)
        yield native_diagnosis.describe_loss_gap(self.dtype, loss, self._wide, is_same, is_right)

    def _find_loss_gap(self) -> float:
        """Returns the gap between the losses of step and check; 0 if rounding explains it."""
        loss = self._recorded.loss
        if loss is None:
            return 0.0
        if not math.isfinite(loss):
            return math.inf
        gap = native_precision.loss_gap(loss, self._recorded.step.scale, self._wide)
        if gap <= native_precision.loss_tolerance(loss, self._wide, self.dtype):
            return 0.0
        for change in self._measure_changes():
            if native_precision.is_rounding(gap, change):
                return 0.0
        return gap

    def _measure_changes(self) -> Iterator[float]:
        """Measures how much nudges of roundoff in the parameters change the loss in float64."""
        context, settings = self._context, self._context.settings
        nothing = Probe(0, np.zeros(1))
        replicate = 0
        for roundoffs in _NUDGES:
            size = roundoffs * roundoff.rounding(self.dtype)
            for _ in range(roundoff.DIRECTIONS):
                rng = sampling.generator(
                    settings.seed, settings.step, sampling.Stream.NATIVE_LOSS, replicate
                )
                point = sampling.nudge(
                    context.layout, context.baseline.point, context.scales, rng, size
                )
                losses = context.oracle.losses(point, [nothing], [(0, 0.0)])
                yield abs(float(losses[0][0]) - self._wide)
                replicate += 1

    def _native_loss(self) -> float:
        """The loss at native precision as the step returns it, else as the check computes it."""
        loss = self._recorded.loss
        if self._native is None:
            return math.nan if loss is None else loss
        if loss is None or not math.isfinite(self._native.loss):
            return self._native.loss
        return loss

    def _is_loss_infinite(self) -> bool:
        """Whether the loss of training is not finite, and not in the step alone.

        Two of three must show it: the loss of the step, the loss of the check at
        native precision, and a gradient.
        """
        is_native_infinite = False
        if self._native is not None:
            is_native_infinite = not math.isfinite(self._native.loss)
            if not is_native_infinite and np.isfinite(self._native.gradient).all():
                return False
        loss = self._recorded.loss
        is_step_infinite = loss is not None and not math.isfinite(loss)
        is_gradient_infinite = any(map(self._became_infinite, self._comparisons))
        return is_step_infinite + is_native_infinite + is_gradient_infinite >= 2

    def _of_loss(self) -> GradientComparison:
        """The failure of a loss whose gradient is finite.

        It has no norms; the diagnosis gives both losses.
        """
        return GradientComparison(
            EVERYTHING,
            analytic_norm=math.nan,
            received_norm=math.nan,
            distance=math.nan,
            relative_difference=math.nan,
            verdict=Verdict.FAIL,
            reason=Reason.NON_FINITE_TRAINING,
        )

    def _became_infinite(self, comparison: GradientComparison) -> bool:
        """Whether the recorded gradient is not finite where the analytic one is."""
        if comparison.verdict is not Verdict.FAIL:
            return False
        if comparison.reason is not Reason.NON_FINITE_GRADIENT:
            return False
        return bool(np.isfinite(self._analytic[self._slice(comparison)]).all())

    def _is_native_finite(self, comparison: GradientComparison) -> bool:
        """Whether the check gets a finite gradient at native precision: the step alone fails."""
        if self._native is None:
            return False
        return bool(np.isfinite(self._native.gradient[self._slice(comparison)]).all())

    def _explain_failure(self, comparison: GradientComparison) -> GradientComparison:
        """Returns the comparison with another reason if native precision explains it."""
        is_different = comparison.verdict is Verdict.FAIL and comparison.reason is Reason.UNTRAINED
        if self._native is None or not is_different:
            return comparison
        part = self._slice(comparison)
        values = self._recorded.step.gradient[part]
        native = self._native.gradient[part]
        reason = native_precision.explain_gradient(comparison, self._analytic[part], values, native)
        return dataclasses.replace(comparison, reason=reason)

    def _slice(self, comparison: GradientComparison) -> slice:
        layout = self._context.layout
        return layout.slice(layout.paths.index(comparison.path))
