"""A part of a model by itself: what leads from the tensors at a tap to those behind a call."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Parts whose entries are more than this are left alone. A free choice that bounds memory: an array
# of them takes 32 MB, and about ten are held.
_MOST_ENTRIES = 2**22


@dataclasses.dataclass(frozen=True)
class Part:
    """Some tensors computed from others, and the gradient of the loss at both.

    Args:
        values: What enters, an array for each tensor.
        gradients: The gradient of the loss there by backpropagation, of the same shapes.
        outputs: What leaves.
        output_gradients: The gradient of the loss there.
        compute: Function from arrays that enter to a list of those that leave.
        is_wide: Whether all of the model computes in float64; else some of it may not.
    """

    values: list[NDArray[Any]]
    gradients: list[NDArray[Any]]
    outputs: list[NDArray[Any]]
    output_gradients: list[NDArray[Any]]
    compute: Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]
    is_wide: bool


def _count_entries(tensor: Any) -> int | None:
    """Returns how many entries a tensor of a trace has; None if that is not known."""
    try:
        sides = tuple(tensor.shape)
    except ValueError:
        return None  # not even the number of axes is known
    return None if None in sides else math.prod(sides)


def make_part(oracle: Any, entries: Sequence[Any], exits: Sequence[Any], taps: Any) -> Part | None:
    """Returns the `Part` between tensors of a trace with taps; None where it cannot be taken out.

    Args:
        oracle: The `ModelOracle` with the taps.
        entries: The tensors that enter.
        exits: The tensors that leave; or the loss alone.
        taps: The `taps.Taps`.
    """
    if taps.loss is None or not entries or not oracle.are_outermost([*entries, *exits]):
        return None
    sizes = [_count_entries(tensor) for tensor in entries]
    if None in sizes or sum(sizes) > _MOST_ENTRIES:
        return None
    # What has no gradient has no part in the loss.
    ends = [t for t in exits if t is taps.loss or taps.gradient_of(t) is not None]
    slopes = [taps.gradient_of(tensor) for tensor in entries]
    end_slopes = [taps.gradient_of(tensor) for tensor in ends if tensor is not taps.loss]
    if not ends:
        return None
    point = oracle.point()
    wanted = [*entries, *ends, *[s for s in (*slopes, *end_slopes) if s is not None]]
    arrays = iter(oracle.make_part([], wanted)(point))
    values = [next(arrays) for _ in entries]
    outputs = [next(arrays) for _ in ends]
    gradients: list[NDArray[Any]] = []
    for value, slope in zip(values, slopes, strict=True):
        gradients.append(np.zeros_like(value) if slope is None else next(arrays))
    output_gradients = list(arrays) or [np.ones_like(output) for output in outputs]
    compute = oracle.make_part(entries, ends)
    precision = oracle.precision
    is_wide = precision.level == "float64" and not precision.narrow_operations

    def compute_there(given: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return compute(point, given)

    return Part(values, gradients, outputs, output_gradients, compute_there, is_wide)
