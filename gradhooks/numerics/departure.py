"""Where a computation in few digits parts from the same one in many: the first value that overflows or vanishes.

Both have been watched layer by layer, see `Call`. What is small or rounded is no
departure; only what is not finite, or zero throughout, where many digits show
ordinary numbers.
"""

import dataclasses
import enum
import math

# Share of the entries of a gradient that must vanish to call it lost.
LOST = 0.02


@dataclasses.dataclass(frozen=True)
class Summary:
    """One tensor in four numbers.

    Args:
        finite: Share of entries that are finite, in [0, 1].
        present: Share of entries that are not zero, in [0, 1].
        size: Root mean square of the finite entries.
        largest: Largest finite entry by absolute value.
    """

    finite: float
    present: float
    size: float
    largest: float


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one layer; the tensors are told as `Summary`, slopes are None where the loss does not depend on them.

    Args:
        layer: Path of the layer.
        entered: Number of the call, in the order in which calls began.
        inputs: Tensors that went in.
        outputs: Tensors that came out.
        input_slopes: Gradients with respect to what went in, through this call alone, and to the layer's own weights.
        output_slopes: Gradients with respect to what came out.
    """

    layer: str
    entered: int
    inputs: tuple
    outputs: tuple
    input_slopes: tuple
    output_slopes: tuple


class Location(enum.Enum):
    """What departs first."""

    INPUT = "the inputs of the model, as cast for it"
    CALL = "what a layer hands on"
    BETWEEN = "what a layer is given, which no layer has handed on"
    LOSS = "the loss, from outputs that are as they should be"
    LOSS_SLOPE = "the gradient of the loss with respect to the model's outputs"
    BACKWARD = "the gradient that a layer hands down"
    REACHED = "the gradient that reaches a layer"


@dataclasses.dataclass(frozen=True)
class Departure:
    """Where few digits part from many.

    Args:
        location: A `Location`.
        layer: Path of the layer concerned; empty for inputs and losses.
        has_vanished: Whether values vanish there; else they are not finite.
        size: Root mean square of what has vanished, in many digits.
    """

    location: Location
    layer: str = ""
    has_vanished: bool = False
    size: float = math.nan


def find_departure(few, many, losses, largest):
    """Returns the first `Departure`, forwards and then from the loss down; None if there is none.

    Args:
        few: The `Call`s in few digits in the order in which they ended, so
            that those within a call come before it; the model's own is last.
        many: The same in many digits; empty if there are none.
        losses: The loss in few digits and in many.
        largest: Largest number that few digits can hold.
    """
    others = _by_turn(many)
    pairs = [(call, others.get(turn)) for turn, call in _by_turn(few).items()]
    forwards = _forwards(pairs, largest)
    if forwards is not None:
        return forwards
    if not math.isfinite(losses[0]) and math.isfinite(losses[1]):
        return Departure(Location.LOSS)
    backwards = _backwards(pairs)
    if backwards is None and losses[0] == 0 != losses[1]:
        return Departure(Location.LOSS, has_vanished=True, size=abs(losses[1]))
    return backwards


def _by_turn(calls):
    """The calls by layer and how often it had been called."""
    found, turns = {}, {}
    for call in calls:
        turns[call.layer] = turns.get(call.layer, 0) + 1
        found[call.layer, turns[call.layer]] = call
    return found


def _forwards(pairs, largest):
    for call, other in pairs:
        gone = _parted(call.outputs, other and other.outputs)
        if gone is None:
            continue
        if _parted(call.inputs, other and other.inputs) is None:
            return _departure(Location.CALL, call.layer, gone)
        around = [
            (c, o)
            for c, o in pairs
            if _is_within(call, c, pairs) and not _parted(c.inputs, o and o.inputs)
        ]
        if around:
            _, wide = max(around, key=lambda pair: pair[0].entered)
            if wide is not None and any(s.largest > largest for s in wide.inputs):
                return _departure(Location.INPUT, "", gone)  # as it came it was finite
            return _departure(Location.BETWEEN, call.layer, gone)
        return _departure(Location.INPUT, "", gone)
    return None


def _is_within(inner, outer, pairs):
    """Whether a call began and ended while another lasted: it ended before that, and began after it."""
    order = [id(call) for call, _ in pairs]
    return outer.entered < inner.entered and order.index(id(inner)) < order.index(id(outer))


def _backwards(pairs):
    """The call nearest to the loss whose outputs' gradients are as they should be, and what it hands down is not."""
    if not pairs:
        return None
    model, wide = pairs[-1]
    gone = _parted(model.output_slopes, wide and wide.output_slopes, LOST)
    if gone is not None:
        return _departure(Location.LOSS_SLOPE, "", gone)
    handed, reached = [], []
    for call, other in pairs:
        gone = _parted(call.output_slopes, other and other.output_slopes, LOST)
        if gone is not None:
            reached.append(
                (call, gone)
            )  # by a cast, or by what is computed between the calls of layers
            continue
        gone = _parted(call.input_slopes, other and other.input_slopes, LOST)
        if gone is not None:
            handed.append((call, gone))
    # What holds other calls hands down what one of them does, or what becomes of it between them.
    inmost = [
        (c, gone)
        for c, gone in handed
        if not any(_is_within(other, c, pairs) for other, _ in reached)
    ]
    for found, place in ((inmost, Location.BACKWARD), (reached, Location.REACHED)):
        if found:
            call, gone = max(found, key=lambda pair: pair[0].entered)
            return _departure(place, call.layer, gone)
    return None


def _departure(place, layer, gone):
    return Departure(place, layer, gone is not _INFINITE, math.nan if gone is _INFINITE else gone)


_INFINITE = "not finite"


def _parted(few, many, lost=1.0):
    """How some tensors depart: `_INFINITE`, or the size of what vanished; None if they do not.

    Args:
        few: Summaries, some of them None.
        many: Summaries of the same in many digits; None if there are none.
        lost: Share of the entries that are present in many digits which must
            vanish.
    """
    if many is None or len(many) != len(few):
        many = [None] * len(few)
    pairs = [(s, m) for s, m in zip(few, many, strict=True) if s is not None]
    if any(s.finite < 1 and (m is None or m.finite == 1) for s, m in pairs):
        return _INFINITE
    sizes = [
        m.size
        for s, m in pairs
        if m is not None and m.present > 0 and s.present <= m.present * (1 - lost)
    ]
    return max(sizes, default=None)
