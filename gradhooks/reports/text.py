"""Names and numbers as text for people."""

import math

from gradhooks.reports.records import EVERYTHING

# What a number is called that is not known.
UNKNOWN = "unknown"
# What an analytic derivative stands for that is not zero where the loss does not move.
SURROGATE = "a straight-through estimator, or a wrong gradient"


def location(label):
    """Returns the label of a comparison, or the path of a diagnosis, for people."""
    return "all variables together" if label == EVERYTHING else printable(label)


def printable(text):
    """Returns text in one line, with escapes for line ends, control characters and reversals of direction.

    Example:

    >>> printable("two" + chr(10) + "lines")
    'two\\\\nlines'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text)
    )


def rough(number):
    """Returns a number whose size matters more than its digits, such as a relative difference."""
    return UNKNOWN if number is None or math.isnan(number) else f"{number:.1e}"


def exact(number, digits):
    """Returns a number with so many digits behind the point."""
    return "NaN" if math.isnan(number) else f"{number:.{digits}e}"


def shorten(text, width):
    """Returns text cut in the middle to `width` characters; the ends say which layer and which entry it is.

    Example:

    >>> shortened("encoder/block_11/attention/kernel[3, 4]", 24)
    'encoder/.../kernel[3, 4]'
    """
    head = (width - 3) * 2 // 5
    tail = width - 3 - head
    return text if len(text) <= width else f"{text[:head]}...{text[-tail:]}"


def omission(count, what):
    """Returns the line that says how many were not shown; empty if all were."""
    return f"... and {count} more {what}" if count > 0 else ""


def list_names(paths, most=3):
    """Returns paths for people, however many there are.

    Example:

    >>> listed(["a/w", "b/w", "c/w", "d/w", "e/w"])
    'a/w, b/w, c/w and 2 more'
    """
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return f"{', '.join(paths[:most])}{more}"
