"""Code that only runs eagerly, since it needs the numbers in a tensor."""

import os
import re
import traceback

from gradhooks.isolation import objects

# How many variables are named: a free choice, so that it stays one sentence.
_MOST_NAMED = 4
_LEAVES = "leaves TensorFlow ({}): no gradient comes back from there"
_DECIDES = "decides by the numbers of a tensor ({}), as only eager code can, and cannot be traced"
# What Python and TensorFlow say when code needs the numbers in a tensor that has none yet, how to
# write what the code did, and what that means.
_MESSAGES = (
    (re.compile(r"object has no attribute '(numpy|tolist|item|__array__|ndim)'"), ".{}()", _LEAVES),
    (re.compile(r"(numpy)\(\) is only available when eager"), ".{}()", _LEAVES),
    (re.compile(r"[Cc]annot convert a symbolic tf\.Tensor .*to a (numpy) array"), "{}", _LEAVES),
    (re.compile(r"(float|int|complex)\(\) argument must be .*Tensor"), "{}()", _LEAVES),
    (re.compile(r"as a Python `(bool)` is not allowed"), "{}()", _DECIDES),
    (re.compile(r"(Iterating) over a symbolic"), "a loop over its rows", _DECIDES),
)


def describe(error):
    """Returns where and how the user's code needs the numbers in a tensor.

    Args:
        error: An exception that ended a trace, with its traceback.

    Returns:
        A sentence; None if the error is of another kind.
    """
    effect = _find_effect(" ".join(str(error).split()))
    frame = _last_frame_of_the_user(error)
    if effect is None or frame is None:
        return None
    code, line = frame
    file = os.path.basename(code.co_filename)
    return f"run_eagerly: line {line} of {file} ({code.co_qualname}) {effect}"


def _find_effect(message):
    """Returns what the code does with the numbers; None for an error of another kind."""
    for pattern, spelling, effect in _MESSAGES:
        match = pattern.search(message)
        if match:
            return effect.format(spelling.format(match.group(1)))
    return None


def _last_frame_of_the_user(error):
    """Returns the code and the line of the innermost frame of no library; None without one."""
    last = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not objects.is_library(frame.f_globals.get("__name__")):
            last = frame.f_code, line
    return last


def gradient_remark(paths, received):
    """Returns what training, which can run such code, does with the variables.

    Args:
        paths: Paths of the variables.
        received: bool, shape (V,). Whether a gradient came for the variable.
    """
    missed = []
    for path, is_received in zip(paths, received, strict=True):
        if not is_received:
            missed.append(path)
    if not missed:
        return "in training every variable receives a gradient"
    names = ", ".join(missed[:_MOST_NAMED])
    rest = len(missed) - _MOST_NAMED
    if rest > 0:
        names = f"{names} and {rest} more"
    return f"in training {names} {'receive' if len(missed) > 1 else 'receives'} none"
