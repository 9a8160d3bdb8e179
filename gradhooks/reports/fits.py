"""Which stored reports belong to one fit, and which fit is the latest."""

import math
from collections.abc import Sequence

from gradhooks.reports.report import CheckReport


def order_fits(marks: Sequence[tuple[str, float]]) -> list[list[int]]:
    """Returns the positions of the reports of every fit, the latest fit last.

    A fit is as old as its first check. Where no time is known, the position in the
    file counts; such reports are of a version that stored none, so they come first.

    Args:
        marks: Of each report, in the order in which they were written: the id of its
            fit, and the time of its check. All reports without an id are one fit.

    Example:

    >>> order_fits([("b", 20.0), ("a", 10.0), ("b", 30.0), ("", 0.0)])
    [[3], [1], [0, 2]]
    """
    fits: dict[str, list[int]] = {}
    for position, (fit, _) in enumerate(marks):
        fits.setdefault(fit, []).append(position)

    def begin(positions: list[int]) -> float:
        time = marks[positions[0]][1]
        return time if math.isfinite(time) else 0.0

    return sorted(fits.values(), key=begin)


def group_fits(reports: Sequence[CheckReport]) -> list[tuple[CheckReport, ...]]:
    """Returns the reports of every fit, as they were written, the latest fit last."""
    marks = [(report.origin.fit, report.origin.time) for report in reports]
    return [tuple(reports[k] for k in positions) for positions in order_fits(marks)]
