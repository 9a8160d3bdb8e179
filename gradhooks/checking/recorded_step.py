"""Records the step of the optimizer, with and without loss scaling."""

import dataclasses
import math
from typing import Any

import numpy as np

from gradhooks.checking.oracle import Oracle
from gradhooks.reports.errors import RecordingError


@dataclasses.dataclass(frozen=True)
class RecordedStep:
    """The recorded step, and the same without loss scaling where the first is not finite.

    Args:
        step: A `train_step.Recording`.
        unscaled: The `Recording` at the loss scale 1; None if there is none;
            `step` itself where loss scaling makes no difference.
    """

    step: Any
    unscaled: Any

    @property
    def is_skipped(self) -> bool:
        """Whether loss scaling leaves out this step, to go on with a smaller scale."""
        if np.isfinite(self.step.gradient).all() or not self.step.is_scale_found:
            return False
        return self.unscaled is None or is_finite(self.unscaled)

    @property
    def loss(self) -> float | None:
        """The loss that the step returns, unscaled where that is known; None if it returns none."""
        return (self.unscaled or self.step).loss

    @property
    def failing_scale(self) -> float:
        """The loss scale at which failures are to be explained."""
        if self.unscaled is None or is_finite(self.unscaled):
            return self.step.scale
        return 1.0


def is_finite(recording: Any) -> bool:
    """Whether the gradient and the loss of a `Recording` are finite."""
    return bool(np.isfinite(recording.gradient).all()) and math.isfinite(recording.loss or 0.0)


def record_step(oracle: Oracle) -> RecordedStep | None:
    """Returns the `RecordedStep` at the present state; None without an optimizer.

    Args:
        oracle: An `Oracle`.

    Raises:
        RecordingError: If the step cannot be recorded.
    """
    step = oracle.record(None)
    if step is None:
        return None
    if step.scale == 1 or is_finite(step):
        return RecordedStep(step, step)
    try:
        return RecordedStep(step, oracle.record(None, is_unscaled=True))
    except RecordingError:
        return RecordedStep(step, None)
