"""What is wrong with the gradient of one tensor: measured along parts of random directions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradhooks._types import Floats
from gradhooks.checking import part_slopes
from gradhooks.verdicts import characterizing, findings
from gradhooks.verdicts.characterizing import Field, Slope

# Evaluations for what is said beside the place. A free choice: about as many as a check takes for
# the parameters that it samples.
_MOST_EVALUATIONS = 40
# The entries of one sign that are nearest to zero must be wrong by themselves: else it is not the
# sign that decides. This fraction of them, a free choice: fewer are not wrong by much.
_NEAREST = 0.1
# Each sign must have this fraction of the entries if they are told apart. A free choice.
_SHARE = 0.1


class Budget:
    """Counts derivatives, so that no more are measured than may be."""

    def __init__(self) -> None:
        self.left = _MOST_EVALUATIONS // part_slopes.PER_SLOPE

    def take(self, count: int = 1) -> bool:
        """Whether so many may still be measured."""
        if self.left < count:
            return False
        self.left -= count
        return True


class TensorGradient:
    """Tells what is wrong with the gradient of one tensor.

    Args:
        field: Its `Field`.
        measure: Measures the derivative along a direction.
        budget: How many may be measured.
    """

    def __init__(self, field: Field, measure: part_slopes.Measure, budget: Budget) -> None:
        self._field, self._budget = field, budget
        self._measure_all = measure
        self._first, self._second, self._third = (
            part_slopes.draw(field.value, k) for k in range(3)
        )

    def describe(self) -> str:
        """Returns the clauses on it; empty if nothing is known."""
        if not self._budget.take(3):
            return ""
        is_negative = self._field.value < 0
        below, above = self._first * is_negative, self._first * ~is_negative
        second = self._measure(self._second)
        if self._field.name and _SHARE <= float(np.mean(is_negative)) <= 1 - _SHARE:
            slopes = [self._measure(below), self._measure(above), second]
            if not any(slope.is_vacuous for slope in slopes):
                found = self._relate([below, above, self._second], slopes)
                found = found or self._find_indices(second)
                return found or self._find_sign(is_negative, *slopes[:2])
            if not self._budget.take():
                return ""
            first = slopes[0].plus(slopes[1])  # as behind a ReLU, one sign has no gradient
        else:
            first = self._measure(self._first)
        slopes = [first, second, self._measure(self._third)]
        directions = [self._first, self._second, self._third]
        return self._relate(directions, slopes) or self._find_indices(second)

    def _measure(self, direction: Floats) -> Slope:
        return self._measure_all([direction])

    def _relate(self, directions: Sequence[Floats], slopes: Sequence[Slope]) -> str:
        return characterizing.find_relation(self._field, directions, slopes)

    def _find_indices(self, whole: Slope) -> str:
        """Tells the only index, on one axis or more, at which the gradient is wrong."""
        shape = self._field.value.shape
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        if not whole.is_wrong or not self._budget.take(len(axes)):
            return ""
        indices: dict[int, int] = {}
        for axis in axes:
            spread = np.expand_dims(
                characterizing.weights(shape[axis]), [k for k in range(len(shape)) if k != axis]
            )
            weighted = self._measure(self._second * spread)
            index = characterizing.find_index(shape[axis], whole, weighted)
            if index is not None:
                indices[axis] = index
        if not indices or not self._budget.take():
            return ""
        is_inside = np.ones(shape, bool)
        for axis, index in indices.items():
            is_inside &= np.indices(shape, sparse=True)[axis] == index
        inside = self._measure(self._second * is_inside)
        if not inside.is_wrong or not whole.minus(inside).is_right(inside.gap):
            return ""
        for axis in range(len(shape)):
            if shape[axis] == 1:
                indices.setdefault(axis, 0)
        clause = findings.describe_index(indices, shape, bool(self._field.name))
        return self._relate_inside(is_inside, [inside], clause)

    def _find_sign(self, is_negative: Any, below: Slope, above: Slope) -> str:
        """Tells whether only entries of one sign are wrong, however large they are."""
        if below.is_wrong and above.is_right(below.gap):
            is_inside, whole, words = is_negative, below, ("negative", "positive")
        elif above.is_wrong and below.is_right(above.gap):
            is_inside, whole, words = ~is_negative, above, ("positive", "negative")
        else:
            return ""
        sizes = np.abs(self._field.value)
        is_small = is_inside & (sizes <= np.quantile(sizes[is_inside], _NEAREST))
        is_beside = is_inside & _has_both(is_inside)
        if not is_beside.any() or not self._budget.take(2):
            return ""
        small = self._measure(self._first * is_small)
        large = whole.minus(small)
        beside = self._measure(self._first * is_beside)
        if not (small.is_wrong and large.is_wrong and beside.is_wrong):
            return ""
        clause = findings.describe_sign(self._field.name, *words)
        return self._relate_inside(is_inside, [small, large], clause)

    def _relate_inside(self, is_inside: Any, slopes: list[Slope], clause: str) -> str:
        """Adds the factor by which the gradient is wrong where it is, if there is one."""
        count = np.count_nonzero(self._field.gradient * is_inside)
        if count == 0:
            return f"{clause}; nothing is let through there"
        more = [self._third, self._first] if len(slopes) == 1 else [self._third]
        if count < characterizing.ENTRIES or not self._budget.take(len(more)):
            return clause
        every = slopes + [self._measure(direction * is_inside) for direction in more]
        factor = characterizing.find_factor(every)
        if factor is None:
            return clause
        return f"{clause}; there {findings.describe_factor(factor)}"


def _has_both(is_inside: Any) -> Any:
    """Where, on each axis, the same index has entries inside and entries outside.

    Elsewhere the index, and not the sign, may be why an entry is wrong.
    """
    has_both = np.ones(is_inside.shape, bool)
    for axis in range(is_inside.ndim):
        others = tuple(k for k in range(is_inside.ndim) if k != axis)
        if others and is_inside.shape[axis] > 1:
            has_both &= ~is_inside.all(axis=others, keepdims=True)
    return has_both
