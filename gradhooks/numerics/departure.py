"""Where a low-precision computation departs from the same one in high precision.

Both have been recorded layer by layer, see `Call`. Small or rounded values are
no departure: only values that are not finite, or zero throughout, where the
computation in high precision shows ordinary numbers.
"""

import dataclasses
import enum
import math
from collections.abc import Iterable, Sequence

# A gradient has vanished if this fraction of its nonzero entries is zero in low precision. A free
# choice: it decides which cause a report names, and no verdict.
LOST = 0.02


@dataclasses.dataclass(frozen=True)
class Summary:
    """One tensor in a few numbers.

    Args:
        finite: Fraction of entries that are finite, in [0, 1].
        present: Fraction of entries that are not zero, in [0, 1].
        size: Root mean square of the finite entries.
        largest: Largest finite entry by absolute value.
        projection: Sum of the finite entries, each times a fixed number between
            -1 and 1, over the root of their count: whatever changes, it changes
            by about as much as a typical entry.
    """

    finite: float
    present: float
    size: float
    largest: float
    projection: float = 0.0


# Summaries of several tensors, None for a gradient on which the loss does not depend.
Summaries = Sequence[Summary | None]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one layer, each tensor as its `Summary`.

    Args:
        layer: Path of the layer.
        entered: Number of the call, in the order in which calls began.
        inputs: Tensors passed to the layer.
        outputs: Tensors returned by it.
        input_slopes: Gradients with respect to the inputs, through this call
            alone, and to the layer's own weights.
        output_slopes: Gradients with respect to the outputs.
    """

    layer: str
    entered: int
    inputs: tuple[Summary, ...]
    outputs: tuple[Summary, ...]
    input_slopes: tuple[Summary | None, ...]
    output_slopes: tuple[Summary | None, ...]


# A call in low precision and the same call in high precision, if that was recorded.
_Pair = tuple[Call, Call | None]


class Location(enum.Enum):
    """Which values depart first."""

    INPUT = "the inputs of the model, after the cast to its dtype"
    CALL = "the outputs of a layer"
    BETWEEN = "the inputs of a layer, although no layer returned them like that"
    LOSS = "the loss, although the outputs of the model are right"
    LOSS_SLOPE = "the gradient of the loss with respect to the model's outputs"
    BACKWARD = "the gradient that a layer propagates to its inputs"
    REACHED = "the gradient that a layer receives for its outputs"


@dataclasses.dataclass(frozen=True)
class Departure:
    """Where low precision departs from high precision.

    Args:
        location: A `Location`.
        layer: Path of the layer concerned; empty for inputs and losses.
        has_vanished: Whether values vanish there; otherwise they are not finite.
        size: Root mean square, in high precision, of the values that vanish;
            NaN if they are not finite.
    """

    location: Location
    layer: str = ""
    has_vanished: bool = False
    size: float = math.nan


@dataclasses.dataclass(frozen=True)
class _Damage:
    """How some tensors depart.

    Args:
        size: Root mean square of the values that vanish; None if they are not finite.
    """

    size: float | None

    def at(self, location: Location, layer: str = "") -> Departure:
        """Returns the `Departure` at a location."""
        if self.size is None:
            return Departure(location, layer)
        return Departure(location, layer, has_vanished=True, size=self.size)


def find_departure(
    low: Sequence[Call],
    high: Sequence[Call],
    losses: tuple[float, float],
    largest: float,
) -> Departure | None:
    """Returns the first `Departure`, forwards and then backwards from the loss; None without any.

    Args:
        low: The `Call`s in low precision in the order in which they ended, so
            that nested calls precede the one that contains them; the model's
            own call is last.
        high: The same in high precision; empty if it was not recorded.
        losses: The loss in low and in high precision.
        largest: Largest number that low precision can represent.
    """
    wide_calls = _number_calls(high)
    pairs: list[_Pair] = []
    for key, call in _number_calls(low).items():
        pairs.append((call, wide_calls.get(key)))

    forward = _search_forwards(pairs, largest)
    if forward is not None:
        return forward
    narrow_loss, wide_loss = losses
    if not math.isfinite(narrow_loss) and math.isfinite(wide_loss):
        return Departure(Location.LOSS)
    backward = _search_backwards(pairs)
    if backward is None and narrow_loss == 0 != wide_loss:
        return Departure(Location.LOSS, has_vanished=True, size=abs(wide_loss))
    return backward


def _number_calls(calls: Iterable[Call]) -> dict[tuple[str, int], Call]:
    """Maps (layer, how often it was called until then) to the call."""
    numbered: dict[tuple[str, int], Call] = {}
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.layer] = counts.get(call.layer, 0) + 1
        numbered[call.layer, counts[call.layer]] = call
    return numbered


def _search_forwards(pairs: Sequence[_Pair], largest: float) -> Departure | None:
    """Returns the departure of the first outputs that depart; None if all outputs are right."""
    calls = [call for call, _ in pairs]
    for call, wide in pairs:
        damage = _assess(call.outputs, wide and wide.outputs)
        if damage is None:
            continue
        if _assess(call.inputs, wide and wide.inputs) is None:
            return damage.at(Location.CALL, call.layer)

        # The innermost enclosing call whose own inputs are right shows where the damage begins.
        container: _Pair | None = None
        for outer, wide_outer in pairs:
            if not is_within(call, outer, calls):
                continue
            if _assess(outer.inputs, wide_outer and wide_outer.inputs) is not None:
                continue
            if container is None or outer.entered > container[0].entered:
                container = (outer, wide_outer)
        if container is None:
            return damage.at(Location.INPUT)
        wide_container = container[1]
        wide_inputs = () if wide_container is None else wide_container.inputs
        if any(summary.largest > largest for summary in wide_inputs):
            # They were finite before the cast to the model's dtype.
            return damage.at(Location.INPUT)
        return damage.at(Location.BETWEEN, call.layer)
    return None


def is_within(inner: Call, outer: Call, calls: Sequence[Call]) -> bool:
    """Whether the inner call was made during the outer one: it began later and ended earlier.

    Args:
        inner: One of the calls.
        outer: Another one.
        calls: All calls, in the order in which they ended.
    """
    ended = [id(call) for call in calls]
    return outer.entered < inner.entered and ended.index(id(inner)) < ended.index(id(outer))


def _search_backwards(pairs: Sequence[_Pair]) -> Departure | None:
    """Returns the departure nearest to the loss among the gradients; None if they are right."""
    if not pairs:
        return None
    model, wide_model = pairs[-1]
    damage = _assess(model.output_slopes, wide_model and wide_model.output_slopes, LOST)
    if damage is not None:
        return damage.at(Location.LOSS_SLOPE)

    propagated: list[tuple[Call, _Damage]] = []
    received: list[tuple[Call, _Damage]] = []
    for call, wide in pairs:
        damage = _assess(call.output_slopes, wide and wide.output_slopes, LOST)
        if damage is not None:
            # Damaged by a cast, or by what is computed between the calls of layers.
            received.append((call, damage))
            continue
        damage = _assess(call.input_slopes, wide and wide.input_slopes, LOST)
        if damage is not None:
            propagated.append((call, damage))

    # A call that contains a damaged one propagates the damage without being its origin.
    origins: list[tuple[Call, _Damage]] = []
    calls = [call for call, _ in pairs]
    for call, damage in propagated:
        if not any(is_within(inner, call, calls) for inner, _ in received):
            origins.append((call, damage))
    if origins:
        call, damage = _last_entered(origins)
        return damage.at(Location.BACKWARD, call.layer)
    if received:
        call, damage = _last_entered(received)
        return damage.at(Location.REACHED, call.layer)
    return None


def _last_entered(damaged: Iterable[tuple[Call, _Damage]]) -> tuple[Call, _Damage]:
    return max(damaged, key=lambda pair: pair[0].entered)


def _assess(
    low: Summaries,
    high: Summaries | None,
    lost: float = 1.0,
) -> _Damage | None:
    """Returns how some tensors depart; None if they do not.

    Args:
        low: Summaries in low precision.
        high: Summaries of the same tensors in high precision; None if unknown.
        lost: Fraction of the entries that are nonzero in high precision which
            must vanish in low precision.
    """
    if high is None or len(high) != len(low):
        high = [None] * len(low)
    sizes: list[float] = []
    is_infinite = False
    for narrow, wide in zip(low, high, strict=True):
        if narrow is None:
            continue
        if narrow.finite < 1 and (wide is None or wide.finite == 1):
            is_infinite = True
        if wide is None or wide.present == 0:
            continue
        if narrow.present <= wide.present * (1 - lost):
            sizes.append(wide.size)
    if is_infinite:
        return _Damage(None)
    if sizes:
        return _Damage(max(sizes))
    return None
