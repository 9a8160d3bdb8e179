"""Measures what is wrong with the gradient at the place where an error is made.

The part of the model behind the place is evaluated by itself, with the tensor that
enters it moved along random directions: all of it, one input, the entries of one sign,
one index of an axis. What follows from these derivatives is said by
`gradhooks.verdicts.characterizing`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradhooks._types import Floats
from gradhooks.checking import part_slopes
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.tensor_gradients import Budget, TensorGradient
from gradhooks.verdicts import characterizing, findings
from gradhooks.verdicts.characterizing import Field, Slope

# Inputs that are told apart, and calls. Free choices that bound the cost.
_MOST_INPUTS, _MOST_CALLS = 4, 4


def describe_call(tapped: Any, place: Any, leaving: Any) -> str:
    """Returns what is wrong with the backward pass of a call, clauses; empty if nothing is known.

    Args:
        tapped: The `TappedModel`.
        place: The `Place` before the call.
        leaving: The `Place` behind it.
    """
    part = _take_call(tapped, place, leaving)
    if part is None:
        return ""
    clauses = [_describe_part(part, tapped.matrices_of(place.layer))]
    clauses.append(describe_calls(tapped, place.layer))
    clauses.append(_describe_mode(tapped, place, part))
    return "; ".join(clause for clause in clauses if clause)


def describe_after(tapped: Any, place: Any, name: str) -> str:
    """Returns what is wrong with the gradient that comes to an output, see `describe_call`.

    Args:
        tapped: The `TappedModel`.
        place: The `Place` of the output.
        name: What it is, for people.
    """
    part = tapped.make_part(place)
    return _describe_part(part, {}, name) if part_slopes.is_usable(part) else ""


def describe_weight(oracle: Any, at: EvaluationPoint, number: int, term: str, scale: float) -> str:
    """Returns what is wrong with the gradient of a variable, see `part_slopes.measure_weight`."""
    layout = oracle.layout
    part, shape = layout.slice(number), tuple(layout.shapes[number])
    gradient = np.asarray(at.gradients[term][part]).reshape(shape)
    if not np.isfinite(gradient).all():
        return ""
    measure = part_slopes.measure_weight(oracle, at, number, term, scale)
    value = np.asarray(at.point[part]).reshape(shape)
    return TensorGradient(Field(value, gradient, name=""), measure, Budget()).describe()


def _describe_part(part: Any, matrices: Mapping[str, Floats], name: str = "input") -> str:
    """Returns what is wrong with the gradient of what enters a part."""
    budget = Budget()
    measure = part_slopes.measure_part(part)
    count = len(part.values)
    number, clause = 0, ""
    if count > 1:
        found = _tell_inputs(part, measure, budget)
        if found is None:
            return ""
        wrong, clause = found
        if len(wrong) != 1:
            return clause
        number = wrong[0]
        if not part.gradients[number].any():
            return clause

    def measure_one(directions: Sequence[Floats | None]) -> Slope:
        every: list[Floats | None] = [None] * count
        (every[number],) = directions
        return measure(every)

    value, output, slope = part.values[number], None, None
    if len(part.outputs) == 1 and part.outputs[0].shape == value.shape:
        output, slope = part.outputs[0], part.output_gradients[0]
    field = Field(value, part.gradients[number], output, slope, matrices, name)
    if not field.gradient.any():
        return ""
    found_more = TensorGradient(field, measure_one, budget).describe()
    if clause and found_more:
        return f"{clause}; there {found_more}"
    return clause or found_more


def _tell_inputs(
    part: Any, measure: part_slopes.Measure, budget: Budget
) -> tuple[list[int], str] | None:
    """Returns the wrong inputs and the clause on them; None where they are not told apart."""
    count = len(part.values)
    if count > _MOST_INPUTS or not budget.take(count):
        return None
    slopes: list[Slope] = []
    for number in range(count):
        every: list[Floats | None] = [None] * count
        every[number] = part_slopes.draw(part.values[number], number)
        slopes.append(measure(every))
    wrong = [number for number, slope in enumerate(slopes) if slope.is_wrong]
    largest = max((abs(slopes[number].gap) for number in wrong), default=0.0)
    for number, slope in enumerate(slopes):
        if number not in wrong and not slope.is_right(largest):
            return None
    if not wrong:
        return None
    if len(wrong) == count:
        return [], _relate_all(part, measure, budget, slopes)
    is_blocked = not any(part.gradients[number].any() for number in wrong)
    return wrong, findings.describe_inputs(wrong, count, is_blocked)


def _relate_all(
    part: Any, measure: part_slopes.Measure, budget: Budget, slopes: list[Slope]
) -> str:
    """Returns the clause on a factor that all inputs share; empty if there is none."""
    if not budget.take(2):
        return ""
    every = list(slopes)
    for first in (1, 2):
        every.append(measure([part_slopes.draw(v, first + k) for k, v in enumerate(part.values)]))
    return findings.describe_whole_factor(characterizing.find_factor(every))


def describe_calls(tapped: Any, path: str) -> str:
    """Returns the clause on the calls of a layer, each by itself; empty if it has one.

    Args:
        tapped: The `TappedModel`.
        path: Path of the layer.
    """
    entering = [p for p in tapped.places if p.layer == path and not p.is_output]
    if not 1 < len(entering) <= _MOST_CALLS:
        return ""
    slopes: list[Slope] = []
    for place in entering:
        part = _take_call(tapped, place, tapped.leaving(place))
        if part is None:
            return ""
        slopes.append(_measure_all(part))
    relative = max((abs(s.gap) / s.scale for s in slopes if s.is_wrong), default=0.0)
    if not all(s.is_wrong or s.is_right(relative * s.scale) for s in slopes):
        return ""
    return findings.describe_calls([slope.is_wrong for slope in slopes])


def _describe_mode(tapped: Any, place: Any, part: Any) -> str:
    """Returns the clause on a layer that is right in the other mode; empty elsewhere."""
    try:
        other = tapped.in_other_mode(place.layer)
    except Exception:
        return ""  # a model need not run in the other mode
    slope = None if other is None else _measure_all(part)
    if other is None or slope is None or not slope.is_wrong:
        return ""
    relative = abs(slope.gap) / slope.scale
    for twin in other.places:
        if not twin.is_output and twin.is_around_same_call(place):
            twin_part = _take_call(other, twin, other.leaving(twin))
            there = None if twin_part is None else _measure_all(twin_part)
            tapped.oracle.evaluations += other.oracle.evaluations
            is_right = there is not None and there.is_right(relative * there.scale)
            return findings.describe_mode(tapped.is_training) if is_right else ""
    return ""


def _take_call(tapped: Any, place: Any, leaving: Any | None) -> Any | None:
    """Returns the `Part` of a call; None where the loss depends on it otherwise, too."""
    if leaving is None or tapped.has_way_around(place, leaving):
        return None
    part = tapped.make_part(place, leaving)
    return part if part_slopes.is_usable(part) else None


def _measure_all(part: Any) -> Slope:
    """Measures along one direction with all that enters a part."""
    directions = [part_slopes.draw(value, k) for k, value in enumerate(part.values)]
    return part_slopes.measure_part(part)(directions)
