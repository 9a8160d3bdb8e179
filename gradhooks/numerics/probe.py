"""A probe, which is what is varied, and the derivative estimated along it."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import Floats, Vector
from gradhooks.numerics import vectors

# Norms between this and its inverse have squares that float64 can hold (1e-308 to 1e308), with
# room for a sum over parameters.
_TAME = 1e-130
# How many times their error bars the one-sided slopes must differ to be called a kink. Derived:
# where every step exceeds the length of a steep loss, both quotients fall like 1 / h, so that each
# bar is about as large as its slope and the opening at most the sum of both. There the slopes do
# not meet, and nothing is known; twice as much does not occur without a kink.
_CLEARLY = 2.0


@dataclasses.dataclass(frozen=True)
class Probe:
    """A direction in parameter space, nonzero in one range of the flat parameter vector.

    A coordinate is a probe with a single weight, so that coordinates and
    directions are measured by the same code.

    Args:
        start: First flat index of the range.
        weights: float64, shape (K,). The direction's entries in the range, or at
            `positions`. Parameters are moved by `offset * weights`.
        length_scale: Typical size of the parameters in the range, in parameter
            units per unit of offset. Step sizes are proportional to it.
        positions: int64, shape (K,), ascending from `start`. The flat indices of
            the entries where they do not fill the range; None where they do.
    """

    start: int
    weights: Floats
    length_scale: float = 1.0
    positions: NDArray[np.int64] | None = None

    @property
    def stop(self) -> int:
        """Flat index behind the range."""
        if self.positions is not None:
            return int(self.positions[-1]) + 1
        return self.start + len(self.weights)

    @property
    def entries(self) -> "slice | NDArray[np.int64]":
        """What selects the entries of the direction from a flat vector."""
        if self.positions is not None:
            return self.positions
        return slice(self.start, self.stop)

    def move(self, point: Vector, offset: float) -> Vector:
        """Returns a copy of a point (float64, shape (P,)), moved along this probe."""
        moved = np.array(point, np.float64)
        moved[self.entries] += offset * self.weights
        return moved

    @property
    def is_coordinate(self) -> bool:
        """Whether a single parameter is varied."""
        return len(self.weights) == 1

    def slope_of(self, gradient: Vector) -> float:
        """Returns the derivative along this probe that a gradient implies.

        Args:
            gradient: float64, shape (P,).
        """
        if self.is_coordinate:
            # Called a dozen times per sampled parameter, hence without NumPy's overhead.
            return float(self.weights[0]) * float(gradient[self.start])
        # An infinite gradient gives NaN here, which is judged later.
        with np.errstate(invalid="ignore", over="ignore"):
            return vectors.dot(self.weights, gradient[self.entries])


@dataclasses.dataclass(frozen=True)
class DerivativeEstimate:
    """A numeric derivative with its error bar, and the interval in which it lies.

    Args:
        slope: The derivative along the probe, in loss per unit of offset.
        error: Half width of the error bar around `slope`, same unit.
        step_size: The step size of the quotient that gave `slope`, as actually taken.
        left: The derivative from the left, from quotients `(J(0) - J(-step)) / step`.
        right: The derivative from the right, from quotients `(J(step) - J(0)) / step`.
        left_error: Half width of the error bar around `left`, same unit; infinite
            where it is not known, as for a single step.
        right_error: Half width of the error bar around `right`.
        evaluations: How many losses were evaluated for it.
        truncation: The part of `error` that bounds how far the slope itself
            changes within the step; the rest is due to rounding.
    """

    slope: float
    error: float
    step_size: float
    left: float
    right: float
    left_error: float = math.inf
    right_error: float = math.inf
    evaluations: int = 2
    truncation: float = 0.0

    def widen(self, by: float) -> "DerivativeEstimate":
        """Returns the estimate with wider error bars."""
        if not by:
            return self
        return dataclasses.replace(
            self,
            error=self.error + by,
            left_error=self.left_error + by,
            right_error=self.right_error + by,
        )

    @property
    def interval(self) -> tuple[float, float]:
        """Where the derivative lies: (low, high).

        The error bar around `slope` where the one-sided slopes meet. Elsewhere it is
        the hull of both and their error bars, which at a kink contains every
        subgradient (the one-dimensional case of F. Clarke, "Optimization and
        Nonsmooth Analysis", 1983, section 2.1).
        """
        if self.do_slopes_meet:
            return self.slope - self.error, self.slope + self.error
        low = min(self.left - self.left_error, self.right - self.right_error)
        high = max(self.left + self.left_error, self.right + self.right_error)
        return low, high

    @property
    def do_slopes_meet(self) -> bool:
        """Whether the one-sided slopes agree to within their error bars."""
        return not self.opening > self.left_error + self.right_error

    @property
    def is_kink(self) -> bool:
        """Whether the one-sided slopes differ so clearly that it is called a kink."""
        return self.opening > _CLEARLY * (self.left_error + self.right_error)

    @property
    def opening(self) -> float:
        """How far the one-sided slopes are apart."""
        return abs(self.right - self.left)

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        low, high = self.interval
        return high / 2 - low / 2

    def distance_to(self, value: float) -> float:
        """Returns how far a value lies outside of the interval; 0 inside."""
        low, high = self.interval
        return max(low - value, value - high, 0.0)


def uncancelled_magnitudes(probe: Probe, gradients: Mapping[str, Vector]) -> tuple[float, ...]:
    """Returns, per term, the size of the slope along a probe as if its parts did not cancel.

    Args:
        probe: The `Probe`.
        gradients: Per term name, float64, shape (P,).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return tuple(
            _norm_of_product(probe.weights, gradient[probe.entries])
            for gradient in gradients.values()
        )


def _norm_of_product(one: Floats, other: Floats) -> float:
    """Returns the norm of a product, also where squares overflow; 0 where one is not finite."""
    plain = vectors.norm_of_product(one, other)
    if _TAME < plain < 1 / _TAME:
        return plain
    values = one * other
    largest = np.max(np.abs(values), initial=0.0)
    if not largest or not np.isfinite(largest):
        return 0.0
    norm = float(largest * np.linalg.norm(values / largest))
    return min(norm, float(np.finfo(np.float64).max))
