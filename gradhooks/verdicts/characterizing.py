"""What is wrong with a gradient at one place, from derivatives measured there.

A relation is said only if it explains the whole difference, along every direction that
was measured, to within the error bars; and only where the bars are small beside the
difference. A place is said only if the gradient is wrong there and right elsewhere.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradhooks._types import Floats
from gradhooks.verdicts import findings, missing_terms

# An error bar must be below this fraction of the difference that is explained. A free choice: what
# it hides is then a hundredth of the difference.
_HIDDEN = 0.01
# Rounding of a sum over many entries, relative to its size. Any value between the unit roundoff
# times the root of the entries (1e-13) and the smallest difference that fails (1e-7) would do.
_ROUNDING = 1e-10
# Directions that a relation must explain. Derived: a factor is fitted to all, so that one of them
# is explained by any; two more are evidence.
_DIRECTIONS = 3
# Entries that are not zero in a tensor of which a relation is said. Derived likewise: directions in
# fewer dimensions are not independent.
ENTRIES = 3
# A weighted slope tells one index of an axis if it is as near to its weight as this fraction of the
# distance to the next. A free choice: what it tells is measured afterwards.
_NEAR = 0.05


@dataclasses.dataclass(frozen=True)
class Slope:
    """The derivative along one direction, by backpropagation and measured.

    Args:
        analytic: By backpropagation.
        numeric: Measured.
        error: Half width of its error bar.
        size: Size of the analytic one if its parts did not cancel.
    """

    analytic: float
    numeric: float
    error: float
    size: float

    @property
    def gap(self) -> float:
        """Analytic minus numeric derivative."""
        return self.analytic - self.numeric

    @property
    def bar(self) -> float:
        """The error bar, with the rounding of the analytic derivative."""
        return self.error + _ROUNDING * self.scale

    @property
    def scale(self) -> float:
        """The larger one of both derivatives, as if nothing cancelled."""
        return max(self.size, abs(self.numeric))

    @property
    def is_vacuous(self) -> bool:
        """Whether both derivatives are below the error bar."""
        return max(abs(self.analytic), abs(self.numeric)) <= self.bar

    def minus(self, other: "Slope") -> "Slope":
        """The derivative along the difference of two directions."""
        return self._add(other, -1.0)

    def plus(self, other: "Slope") -> "Slope":
        """The derivative along the sum of two directions."""
        return self._add(other, 1.0)

    def is_right(self, difference: float) -> bool:
        """Whether it agrees, and a small part of a difference would have shown."""
        return abs(self.gap) <= self.bar <= _HIDDEN * abs(difference)

    @property
    def is_wrong(self) -> bool:
        """Whether it clearly disagrees."""
        return self.bar <= _HIDDEN * abs(self.gap)

    def _add(self, other: "Slope", sign: float) -> "Slope":
        return Slope(
            self.analytic + sign * other.analytic,
            self.numeric + sign * other.numeric,
            self.error + other.error,
            math.hypot(self.size, other.size),
        )


@dataclasses.dataclass(frozen=True)
class Field:
    """A gradient at one tensor.

    Args:
        value: The tensor.
        gradient: Its gradient by backpropagation, of the same shape.
        output: The tensor that the call makes of it; None if there are several, or
            none of the same shape.
        output_gradient: The gradient there.
        matrices: Square weights of the layer, by name.
        name: What the tensor is, for people; empty for a weight.
    """

    value: Floats
    gradient: Floats
    output: Floats | None = None
    output_gradient: Floats | None = None
    matrices: Mapping[str, Floats] = dataclasses.field(default_factory=dict[str, Floats])
    name: str = "input"


def find_factor(slopes: Sequence[Slope]) -> float | None:
    """Returns the factor between analytic and numeric derivatives; None unless it explains all.

    Args:
        slopes: Along independent directions.

    Example:

    >>> find_factor([Slope(2.0, 1.0, 1e-9, 2.0), Slope(-6.0, -3.0, 1e-9, 6.0)]) is None
    True
    >>> find_factor([Slope(2 * n, n, 1e-9, 2 * n) for n in (1.0, -3.0, 0.5)])
    2.0
    """
    if not _is_clear(slopes):
        return None
    analytic = np.array([s.analytic for s in slopes])
    numeric = np.array([s.numeric for s in slopes])
    signal = float(numeric @ numeric)
    if any(abs(s.numeric) <= s.bar or abs(s.analytic) <= s.bar for s in slopes):
        return None
    factor = float(analytic @ numeric) / signal
    bars = np.array([s.bar for s in slopes]) * (1.0 + abs(factor))
    is_explained = bool((np.abs(analytic - factor * numeric) <= bars).all())
    return factor if is_explained and factor else None


def explains(predicted: Sequence[float], slopes: Sequence[Slope]) -> bool:
    """Whether the derivatives that a hypothesis predicts are those that were measured."""
    if not _is_clear(slopes):
        return False
    for value, slope in zip(predicted, slopes, strict=True):
        if not abs(value - slope.numeric) <= slope.bar:
            return False
    return True


def find_relation(field: Field, directions: Sequence[Floats], slopes: Sequence[Slope]) -> str:
    """Returns what the gradient is instead of the right one, a clause; empty if nothing fits.

    Args:
        field: The `Field`.
        directions: Along which it was measured, of the shape of the tensor.
        slopes: The `Slope` along each.
    """
    if np.count_nonzero(field.gradient) < ENTRIES:
        return ""
    factor = find_factor(slopes)
    if factor is not None:
        return findings.describe_whole_factor(factor)
    for words, gradient in _predict(field):
        predicted = [float(np.sum(gradient * direction)) for direction in directions]
        if explains(predicted, slopes):
            return words
    if not field.name:
        return ""
    words = missing_terms.find(
        field.value,
        field.gradient,
        directions,
        [slope.numeric for slope in slopes],
        lambda predicted: explains(predicted, slopes),
    )
    return words or _describe_straight_through(field, slopes)


def find_index(axis_size: int, whole: Slope, weighted: Slope) -> int | None:
    """Returns the only index of an axis that can be wrong; None if it is not one.

    Args:
        axis_size: Number of indices.
        whole: Along a direction.
        weighted: Along the same direction, with entry k of the axis times `weights(...)[k]`.
    """
    if not whole.is_wrong:
        return None
    steps = weights(axis_size)
    ratio = weighted.gap / whole.gap
    nearest = int(np.argmin(np.abs(steps - ratio)))
    width = (weighted.bar + abs(ratio) * whole.bar) / abs(whole.gap)
    reach = _NEAR * float(steps[1] - steps[0])
    is_near = abs(float(steps[nearest]) - ratio) <= min(width, reach) and width <= reach
    return nearest if is_near else None


def weights(axis_size: int) -> Floats:
    """Returns different factors for the indices of an axis, from near 0 to 1."""
    return np.arange(1, axis_size + 1) / axis_size


def _is_clear(slopes: Sequence[Slope]) -> bool:
    """Whether there are enough directions, and bars far below the difference in all of them."""
    if len(slopes) < _DIRECTIONS:
        return False
    gaps = [slope.gap for slope in slopes]
    bars = [slope.bar for slope in slopes]
    if not np.isfinite([*gaps, *bars]).all():
        return False
    return max(bars) <= _HIDDEN * float(np.sqrt(np.mean(np.square(gaps))))


def _predict(field: Field) -> Iterator[tuple[str, Floats]]:
    """Yields (clause, the right gradient if it were so)."""
    gradient = field.gradient
    yield from _rearrange(gradient, first=1 if field.name else 0)
    slope = field.output_gradient
    if slope is None or field.output is None:
        return
    missing = "what is missing is the gradient at its output itself, as a shortcut hands it on"
    yield missing, gradient + slope
    if np.allclose(np.sum(field.output, axis=-1), 1.0) and (field.output >= 0).all():
        inner = np.sum(gradient, axis=-1, keepdims=True)
        words = "the term of the sum over the last axis, as a softmax has, is missing or wrong"
        yield words, gradient - field.output * inner
    for name, matrix in field.matrices.items():
        if matrix.shape[0] != slope.shape[-1]:
            continue
        for used, right in ((matrix, matrix.T), (matrix.T, matrix)):
            if np.allclose(gradient, slope @ used, rtol=1e-6, atol=1e-9 * np.abs(gradient).max()):
                words = f"`{name}` and its transpose are confused (transposed)"
                yield words, slope @ right


def _rearrange(gradient: Floats, first: int) -> Iterator[tuple[str, Floats]]:
    """Yields gradients with entries at other places; the examples keep theirs."""
    shape = gradient.shape
    for axis in range(first, len(shape)):
        for other in range(axis + 1, len(shape)):
            if shape[axis] == shape[other] > 1:
                words = f"it is the right one with axes {axis} and {other} exchanged (transposed)"
                yield words, np.swapaxes(gradient, axis, other)
    for axis in range(first, len(shape)):
        if shape[axis] > 1:
            words = f"it is the right one in reverse order along axis {axis}"
            yield words, np.flip(gradient, axis)
    for axis in range(first, len(shape)):
        for shift in (1, -1):
            if shape[axis] > 1:
                words = f"it is the right one shifted by {shift} along axis {axis}"
                yield words, np.roll(gradient, -shift, axis)


def _describe_straight_through(field: Field, slopes: Sequence[Slope]) -> str:
    slope = field.output_gradient
    if slope is None or not _is_clear(slopes):
        return ""
    largest = float(np.abs(slope).max(initial=0.0))
    if not np.allclose(field.gradient, slope, rtol=1e-9, atol=1e-12 * largest):
        return ""
    return "it is the gradient at its output, handed on unchanged (straight through)"
