"""What is wrong with a gradient at the place where an error is made, in words: clauses."""

from collections.abc import Mapping, Sequence

# Beside a factor so near to 1 more digits are printed. A free choice.
_NEAR_ONE = 0.01


def describe_factor(factor: float) -> str:
    """Returns the clause on a factor."""
    digits = 7 if abs(abs(factor) - 1) < _NEAR_ONE else 4
    words = f"{factor:.{digits}g}"
    if words == "-1":
        return "it is the right one with the opposite sign"
    return f"it is {words} times the right one"


def describe_whole_factor(factor: float | None) -> str:
    """Returns the clause on a factor that was found along every direction; empty for None."""
    return "" if factor is None else f"{describe_factor(factor)}, along every direction"


def describe_index(indices: Mapping[int, int], shape: tuple[int, ...], is_input: bool) -> str:
    """Returns the clause on the only indices, by axis, at which a gradient is wrong."""
    if len(indices) == len(shape):
        place = f"at entry {[indices[axis] for axis in range(len(shape))]}"
    else:
        places: list[str] = []
        for axis, index in sorted(indices.items()):
            places.append(_name_index(axis, index, len(shape), is_input))
        place = " and ".join(places)
    return f"it is wrong only {place}, of shape {shape}, and right elsewhere"


def describe_sign(name: str, word: str, other: str) -> str:
    """Returns the clause on a gradient that depends on the sign of a tensor."""
    return f"it is wrong only where the {name} is {word}, and right where it is {other}"


def describe_inputs(wrong: Sequence[int], count: int, is_blocked: bool) -> str:
    """Returns the clause on the inputs, numbers from 0, towards which a call is wrong."""
    names = " and ".join(str(number + 1) for number in wrong)
    noun = "float input" if len(wrong) == 1 else "float inputs"
    others = "the others get" if count - len(wrong) > 1 else "the other gets"
    if is_blocked:
        return f"nothing is let through to {noun} {names} of {count}; {others} the right gradient"
    return f"it is wrong only towards {noun} {names} of {count}; {others} the right gradient"


def describe_calls(is_wrong: Sequence[bool]) -> str:
    """Returns the clause on the calls of a layer, of which some are wrong; empty for one."""
    count = len(is_wrong)
    wrong = [number + 1 for number, bad in enumerate(is_wrong) if bad]
    if count < 2 or not wrong:
        return ""
    if len(wrong) == count:
        return f"it is wrong at each of its {count} calls"
    if not is_wrong[0] and len(wrong) == count - 1:
        return "its first call is right, and it is wrong from the second call on"
    names = " and ".join(map(str, wrong))
    return f"it is wrong only at call {names} of {count}, and right at the others"


def describe_mode(is_training: bool) -> str:
    """Returns the clause on a gradient that is right in the other mode."""
    mode = "in training" if is_training else "outside of training"
    return f"only {mode}: with training={not is_training} it is right"


def _name_index(axis: int, index: int, rank: int, is_input: bool) -> str:
    place = f"index {index} of axis {axis}"
    if is_input and axis == rank - 1:
        return f"in unit {index}, {place}"
    if is_input and axis == 0:
        return f"in example {index}, {place}"
    return f"at {place}"
