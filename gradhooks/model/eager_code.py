"""Code that only runs eagerly, for it asks a tensor for its numbers: where it is, and what it costs in training."""

import os
import re
import traceback

from gradhooks.isolation import reachable

# So many variables are named.
_NAMED = 4
# What is asked of a tensor that has no numbers yet, as Python and TensorFlow put it, and what it
# means.
_LEAVES = "leaves TensorFlow ({}): no gradient comes back from there"
_DECIDES = "decides by the numbers of a tensor ({}), as only eager code can, and cannot be traced"
_ASKED = (
    (re.compile(r"object has no attribute '(numpy|tolist|item|__array__|ndim)'"), ".{}()", _LEAVES),
    (re.compile(r"(numpy)\(\) is only available when eager"), ".{}()", _LEAVES),
    (re.compile(r"[Cc]annot convert a symbolic tf\.Tensor .*to a (numpy) array"), "{}", _LEAVES),
    (re.compile(r"(float|int|complex)\(\) argument must be .*Tensor"), "{}()", _LEAVES),
    (re.compile(r"as a Python `(bool)` is not allowed"), "{}()", _DECIDES),
    (re.compile(r"(Iterating) over a symbolic"), "a loop over its rows", _DECIDES),
)


def sentence(error):
    """Returns where and how code of the user's asks a tensor for its numbers; None if that is not what is wrong.

    Args:
        error: An exception that ended a trace, with its traceback.
    """
    told = " ".join(str(error).split())
    asked = ((pattern.search(told), how, words) for pattern, how, words in _ASKED)
    found = next(((match, how, words) for match, how, words in asked if match), None)
    frame = _last_of_the_user(error)
    if found is None or frame is None:
        return None
    match, how, words = found
    code, line = frame
    place = f"line {line} of {os.path.basename(code.co_filename)} ({code.co_qualname})"
    return f"run_eagerly: {place} {words.format(how.format(match.group(1)))}"


def _last_of_the_user(error):
    """The code and the line of the innermost frame that belongs to no library; None without one."""
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not reachable.is_library(frame.f_globals.get("__name__"))
    ]
    return frames[-1] if frames else None


def gradient_remark(paths, received):
    """Returns what training, which can run such code, does with the variables.

    Args:
        paths: Paths of the variables.
        received: bool, shape (V,). Whether a gradient came for the variable.
    """
    missed = [path for path, came in zip(paths, received, strict=True) if not came]
    if not missed:
        return "in training every variable receives a gradient"
    rest = f" and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
    return f"in training {', '.join(missed[:_NAMED])}{rest} {'receive' if len(missed) > 1 else 'receives'} none"
