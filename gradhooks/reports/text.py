"""Names and numbers as text for people."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from gradhooks.reports.circumstances import Origin
from gradhooks.reports.records import EVERYTHING

# Stands for a number that is not known.
UNKNOWN = "unknown"
# The first second of the year 10000, since 1970: ISO 8601 has four digits for a year.
_END_OF_TIME = 253_402_300_800
# The usual causes of a gradient that is not zero where the loss does not change.
SURROGATE = "a straight-through estimator, or a wrong gradient"


def location(label: str) -> str:
    """Returns the label of a comparison, or the path of a diagnosis, for people."""
    return "all variables together" if label == EVERYTHING else printable(label)


def printable(text: object) -> str:
    """Returns text on one line, with escapes for whatever is not printable.

    That includes line ends, control characters and reversals of direction.

    Example:

    >>> printable("two" + chr(10) + "lines")
    'two\\\\nlines'
    """
    shown: list[str] = []
    for character in str(text):
        if character.isprintable():
            shown.append(character)
        else:
            shown.append(character.encode("unicode_escape").decode("ascii"))
    return "".join(shown)


def rough(number: float | None) -> str:
    """Returns a number of which only the size matters, such as a relative difference."""
    return UNKNOWN if number is None or math.isnan(number) else f"{number:.1e}"


def exact(number: float, digits: int) -> str:
    """Returns a number with `digits` digits behind the decimal point."""
    return "NaN" if math.isnan(number) else f"{number:.{digits}e}"


def moment(seconds: float) -> str:
    """Returns a time in ISO 8601, in UTC; empty if it is not known, or no date of four digits.

    Args:
        seconds: Seconds since 1970; 0 where it is not known.

    Example:

    >>> moment(1_000_000_000.5)
    '2001-09-09T01:46:40Z'
    """
    if not 0 < seconds < _END_OF_TIME:
        return ""
    return f"{np.datetime64(int(seconds), 's')}Z"


def describe_origin(origin: Origin) -> str:
    """Returns which model was checked, when and with what, in one line; empty if it is unknown."""
    device = f" on {printable(origin.device)}" if origin.device else ""
    versions = [f"{printable(name)} {printable(v)}" for name, v in origin.versions.items()]
    parts = (
        f"model {printable(origin.model)}{device}" if origin.model else "",
        moment(origin.time),
        ", ".join(versions),
    )
    return "; ".join(part for part in parts if part)


def shorten(text: str, width: int) -> str:
    """Returns text of at most `width` characters, cut in the middle.

    The beginning of a path names the model's part, its end the variable.

    Example:

    >>> shorten("encoder/block_11/attention/kernel[3, 4]", 24)
    'encoder/.../kernel[3, 4]'
    """
    head = (width - 3) * 2 // 5
    tail = width - 3 - head
    return text if len(text) <= width else f"{text[:head]}...{text[-tail:]}"


def omission(count: int, what: str) -> str:
    """Returns the line that says how many `what` are not shown; empty if all are."""
    return f"... and {count} more {what}" if count > 0 else ""


def indent(lines: Iterable[str]) -> list[str]:
    """Returns lines that stand below a heading, without empty ones."""
    return [f"  {line}" for line in lines if line]


def list_names(names: Sequence[str], most: int = 3) -> str:
    """Returns the first names, and how many more there are.

    Example:

    >>> list_names(["a/w", "b/w", "c/w", "d/w", "e/w"])
    'a/w, b/w, c/w and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
