"""Where two evaluations of one computation begin to differ, of what was recorded layer by layer."""

from collections.abc import Sequence

from gradhooks.numerics.departure import Call, Summaries, is_within

# Differences smaller than this fraction of the largest are another, smaller jitter: sums that
# threads add up in any order jitter everywhere in the last bits. A free choice, which lets a
# network enlarge the jitter of its first layer a thousand times.
_SMALL = 1e-3
# A tensor whose entries are smaller than this fraction of those of the largest one is compared with
# that fraction: where gradients cancel, only rounding is left, which differs by as much as it is. A
# free choice: the square root of the rounding that float64 leaves, and some digits.
_CANCELLED = 1e-6

# A call in one evaluation and in the other.
_Pair = tuple[Call, Call]


def find_jittering_layer(
    first: Sequence[Call],
    second: Sequence[Call],
    tolerance: float,
) -> str:
    """Returns the path of the layer at which two evaluations begin to differ.

    Forwards that is the first call whose outputs differ although its inputs do
    not. If there is none, it is the last call, in forward order, whose input
    slopes differ although its output slopes do not.

    Args:
        first: The `Call`s of one evaluation, in the order in which they ended.
        second: The same of another evaluation of the same trace.
        tolerance: Relative difference that is no more than rounding.

    Returns:
        The path; empty if no call differs.
    """
    pairs = list(zip(first, second, strict=True))
    return _search_forwards(pairs, tolerance) or _search_backwards(pairs, tolerance)


def _search_forwards(pairs: Sequence[_Pair], tolerance: float) -> str:
    outputs = [_change(one.outputs, other.outputs) for one, other in pairs]
    tolerance = max(tolerance, _SMALL * max(outputs, default=0.0))
    for (one, other), change in zip(pairs, outputs, strict=True):
        if change > tolerance >= _change(one.inputs, other.inputs):
            return one.layer
    return ""


def _search_backwards(pairs: Sequence[_Pair], tolerance: float) -> str:
    least = _CANCELLED * max((_largest(one) for one, _ in pairs), default=0.0)
    received: list[float] = []
    propagated: list[float] = []
    for one, other in pairs:
        received.append(_change(one.output_slopes, other.output_slopes, least))
        propagated.append(_change(one.input_slopes, other.input_slopes, least))
    tolerance = max(tolerance, _SMALL * max([*received, *propagated], default=0.0))

    calls = [one for one, _ in pairs]
    damaged = [call for call, change in zip(calls, received, strict=True) if change > tolerance]
    found: Call | None = None
    for call, before, after in zip(calls, received, propagated, strict=True):
        if not after > tolerance >= before:
            continue
        # A call that contains one whose slopes differ hands the difference on.
        if any(is_within(inner, call, calls) for inner in damaged):
            continue
        if found is None or call.entered > found.entered:
            found = call
    return "" if found is None else found.layer


def _largest(call: Call) -> float:
    """Returns the size of the largest slopes of a call."""
    slopes = [*call.input_slopes, *call.output_slopes]
    return max((slope.size for slope in slopes if slope is not None), default=0.0)


def _change(one: Summaries, other: Summaries, least: float = 0.0) -> float:
    """Returns the largest relative difference of some tensors between two evaluations.

    Args:
        one: Their summaries.
        other: The same in another evaluation.
        least: Size with which smaller tensors are compared.
    """
    largest = 0.0
    for summary, again in zip(one, other, strict=True):
        if summary is None or again is None:
            continue
        size = max(summary.size, again.size, least)
        if summary.finite != again.finite:
            return 1.0
        if size:
            largest = max(largest, abs(summary.projection - again.projection) / size)
    return largest
