"""What is varied, and what the losses along it imply."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Probe:
    """A direction in parameter space, nonzero on one contiguous range of the flat parameter vector.

    A coordinate is a probe with a single weight, so nothing downstream tells
    coordinates and directions apart.

    Args:
        start: First flat index of the range.
        weights: float64, shape (K,). The direction's entries in the range.
            Parameters are moved by `offset * weights`.
        length_scale: Typical size of the parameters in the range, in parameter units
            per unit of offset. Steps are chosen in proportion to it.
    """

    start: int
    weights: np.ndarray
    length_scale: float = 1.0

    @property
    def stop(self):
        """Flat index behind the range."""
        return self.start + len(self.weights)

    @property
    def is_coordinate(self):
        """Whether a single parameter is varied."""
        return len(self.weights) == 1

    def slope_of(self, gradient):
        """Returns the derivative along this probe that a flat gradient (float64, shape (P,)) implies."""
        if self.is_coordinate:
            return float(self.weights[0]) * float(
                gradient[self.start]
            )  # asked for a dozen times per sample
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # an infinite gradient gives NaN, which is judged
            return float(np.dot(self.weights, gradient[self.start : self.stop]))


@dataclasses.dataclass(frozen=True)
class DerivativeEstimate:
    """A numeric derivative and what is known about it.

    Args:
        slope: The derivative along the probe, in loss per unit of offset.
        error: Half width of the error bar around `slope`, same unit.
        step_size: The step of the quotient that gave `slope`, as actually taken.
        left: One-sided slope `(J(0) - J(-step)) / step`.
        right: One-sided slope `(J(step) - J(0)) / step`.
        is_kink: Whether the one-sided slopes fail to meet as the step shrinks.
        evaluations: How many loss evaluations went into it.
        truncation: The part of `error` that bounds how far the slope itself
            changes within the step; the rest comes from rounding.
    """

    slope: float
    error: float
    step_size: float
    left: float
    right: float
    is_kink: bool = False
    evaluations: int = 2
    truncation: float = 0.0
