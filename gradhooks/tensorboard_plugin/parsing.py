"""Reads the text and the fields of a stored report, which may hold anything.

Any program may have written the event file, so that nothing is taken for
granted: what cannot be read raises `UnreadableError`, whose message is shown.
"""

import json
import math
from typing import Any

import numpy as np

from gradhooks.reports.text import printable

# Free choices, which keep page and server responsive whatever an event file holds: characters of a
# name and of a sentence, and bytes of a report.
LONGEST_LABEL, LONGEST_TEXT = 1000, 500
LARGEST_REPORT = 32 * 2**20
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class UnreadableError(ValueError):
    """A stored tensor is no report; the message is for people and safe to show."""


def read_text(value: np.ndarray) -> str:
    """Returns the text that a stored tensor holds.

    Raises:
        UnreadableError: If it is not a single, reasonably small text.
    """
    if value.size != 1 or value.dtype.kind not in "OSU":
        raise UnreadableError("the tensor does not hold one text")
    stored = value.reshape(-1)[0]
    if not isinstance(stored, (bytes, str)):
        raise UnreadableError("the tensor does not hold one text")
    if len(stored) > LARGEST_REPORT:
        raise UnreadableError(f"the report is larger than {LARGEST_REPORT // 2**20} MB")
    if isinstance(stored, str):
        return stored
    return stored.decode("utf-8", "replace")


def parse_fields(stored: str) -> dict[str, Any]:
    """Returns the fields of a report as a dict.

    Raises:
        UnreadableError: If the text is not a JSON object.
    """
    try:
        fields = json.loads(stored)
    except (ValueError, RecursionError) as cause:
        raise UnreadableError("the text is not JSON; it may have been cut off") from cause
    if not isinstance(fields, dict):
        raise UnreadableError("the JSON is not an object with the fields of a report")
    return fields


def parse_label(path: Any) -> str:
    """Returns a variable's path as it is shown and asked for: one line, no control characters.

    Raises:
        UnreadableError: If it is not a path.
    """
    if not isinstance(path, str) or len(path) > LONGEST_LABEL:
        raise UnreadableError(
            f"the path of a variable is not a text of at most {LONGEST_LABEL} characters"
        )
    return printable(path)


def parse_number(value: Any) -> float:
    """Returns the number in a field of stored JSON, where infinities and NaN are strings.

    Raises:
        KeyError: If it is a string that is no number.
        TypeError: If it is neither a number nor a string.
    """
    if type(value) is float:
        return value
    if isinstance(value, str):
        return _NUMBERS[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a number is needed, not {type(value).__name__}")
    return float(value)


def clip(text: object, longest: int = LONGEST_TEXT) -> str:
    """Returns text for people in one line, cut to `longest` characters."""
    shown = printable(text)
    if len(shown) <= longest:
        return shown
    return f"{shown[: longest - 3]}..."
