"""Tells what changes a gradient as a whole, by what happens at another point and loss scale."""

import math
from collections.abc import Callable

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking.context import CheckContext
from gradhooks.checking.recorded_step import RecordedStep
from gradhooks.numerics import sampling
from gradhooks.reports.errors import RecordingError
from gradhooks.verdicts import optimizer_diagnosis, roundoff, step_causes
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient
from gradhooks.verdicts.step_causes import Prediction

# How far a point lies at which a factor is compared again, in units of each variable's scale. A
# free choice: far enough that the norm of a gradient is another one there.
_ELSEWHERE = 0.3
# Factors, or norms, that differ by less are the same. A free choice: more than rounding in float32.
_SAME = 1e-3


class ChangedGradient:
    """What the optimizer receives instead of a gradient, where some prediction explains it.

    Args:
        context: The `CheckContext`, with the oracle.
        step: The `RecordedStep`.
        recorded: Its `OptimizerGradient`.
    """

    def __init__(self, context: CheckContext, step: RecordedStep, recorded: OptimizerGradient):
        self._context, self._oracle = context, context.oracle
        self._step, self._recorded = step, recorded
        self._dtype = context.oracle.training_dtype
        self._elsewhere: tuple[Vector, Vector] | None = None

    def describe(
        self, prediction: Prediction, gradient_at: Callable[[Vector], Vector | None]
    ) -> str:
        """Returns the words for a change that holds, once it is known where it happens.

        Args:
            prediction: The `Prediction`.
            gradient_at: Function that returns the gradient before the change at
                another point; None if it cannot be evaluated.
        """
        if not math.isnan(prediction.factor):
            return self._describe_factor(prediction.factor, gradient_at)
        if math.isnan(prediction.limit):
            return prediction.sentence
        return prediction.sentence + self._describe_scale(prediction.limit)

    def _describe_factor(
        self, factor: float, gradient_at: Callable[[Vector], Vector | None]
    ) -> str:
        """Tells a factor from a norm, by what both are at another point."""
        norm = float(np.linalg.norm(self._recorded.values))
        oracle = self._oracle
        is_clipped, factor_there = 0 < factor < 1 and step_causes.is_round(norm), math.nan
        there = self._record_elsewhere()
        gradient = gradient_at(there[0]) if there is not None else None
        if there is not None and gradient is not None and factor > 0:
            norm_there = float(np.linalg.norm(there[1]))
            factor_there = float(gradient @ there[1]) / float(gradient @ gradient)
            accuracy = max(_SAME, roundoff.tolerance(self._dtype))
            is_same_norm = math.isclose(norm, norm_there, rel_tol=accuracy)
            is_same_factor = math.isclose(factor, factor_there, rel_tol=accuracy)
            is_whole = math.isclose(factor_there, 1, rel_tol=accuracy)
            # A gradient that is smaller elsewhere is not clipped there.
            is_limited = is_same_norm or (factor < 1 and is_whole and norm_there < norm)
            if not (is_limited or is_same_factor):
                return step_causes.describe_varying_factor(factor, factor_there)
            if is_limited != is_same_factor:
                is_clipped = is_limited
        sentence = optimizer_diagnosis.describe_factor(
            factor,
            oracle.batch_size,
            oracle.replicas,
            norm if is_clipped else math.nan,
            ratio_elsewhere=factor_there,
        )
        return sentence + (self._describe_scale(norm) if is_clipped else "")

    def _describe_scale(self, limit: float) -> str:
        """Says so if a gradient is clipped while the loss scale is in it."""
        scale = self._step.step.scale
        if scale == 1:
            return ""
        try:
            unscaled = self._oracle.record(None, is_unscaled=True).gradient
        except RecordingError:
            return ""
        if np.max(np.abs(unscaled)) <= np.max(np.abs(self._recorded.values)) * (1 + _SAME):
            return ""
        return step_causes.describe_loss_scale(limit, scale)

    def _record_elsewhere(self) -> tuple[Vector, Vector] | None:
        """Returns a point farther away and what the optimizer receives there."""
        if self._elsewhere is None:
            stream = sampling.Stream.TRAINED_ELSEWHERE
            point = self._context.nudge(stream, 0, _ELSEWHERE)
            try:
                gradient = self._oracle.record(point).gradient.astype(np.float64)
            except RecordingError:
                return None
            if not np.isfinite(gradient).all() or not gradient.any():
                return None
            self._elsewhere = point, gradient
        return self._elsewhere
