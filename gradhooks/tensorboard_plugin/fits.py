"""Which checks of a run stand, and what is known of its earlier fits.

TensorBoard forgets what a later fit repeats, but not always: with
`--load_fast=false` the reports of both are left, mixed by step.
"""

from collections.abc import Sequence
from typing import Any

from gradhooks.reports.fits import order_fits
from gradhooks.reports.reasons import Verdict
from gradhooks.tensorboard_plugin.reduction import UNREADABLE, Column


def group_fits(columns: Sequence[Column]) -> list[list[Column]]:
    """Returns the checks of every fit by step, the latest fit last.

    A report that cannot be read is of the fit of the report before it.
    """
    ordered = sorted(columns, key=lambda column: column.wall_time)
    readable = [column.fit for column in ordered if column.verdict != UNREADABLE]
    fit = readable[0] if readable else ""
    marks: list[tuple[str, float]] = []
    for column in ordered:
        fit = fit if column.verdict == UNREADABLE else column.fit
        marks.append((fit, column.wall_time))
    return [latest_of_each_step([ordered[k] for k in positions]) for positions in order_fits(marks)]


def latest_of_each_step(columns: Sequence[Column]) -> list[Column]:
    """Returns the columns by step; where a step was checked again, the later report counts."""
    by_step: dict[int, Column] = {}
    for column in sorted(columns, key=lambda c: c.wall_time):
        by_step[column.step] = column
    return [by_step[step] for step in sorted(by_step)]


def drop_repeated(fits: Sequence[Sequence[Column]]) -> list[Column]:
    """Returns the checks that no later fit repeats, by step.

    A fit that goes on where another ended leaves the checks of that one standing;
    one that starts anew replaces them.

    Args:
        fits: From `group_fits`.
    """
    kept: list[Column] = []
    for fit in reversed(fits):
        kept = [*(c for c in fit if not kept or c.step < kept[0].step), *kept]
    return kept


def describe_fits(fits: Sequence[Sequence[Column]], shown: Sequence[Column]) -> dict[str, Any]:
    """Returns what is known of the fits of a run, as a dict for JSON.

    Args:
        fits: From `group_fits`.
        shown: The checks that the page draws, by step.

    Returns:
        `earlier`: how many fits came before the latest; `failed`: in how many of them a
        check failed; `first`: how many of the shown checks are of earlier fits;
        `is_repaired`: whether an earlier fit failed and the latest passes.
    """
    *earlier, latest = fits or [[]]
    own = {column.step for column in latest}
    failed = sum(_has(fit, Verdict.FAIL) for fit in earlier)
    is_healthy = _has(latest, Verdict.PASS) and not _has(latest, Verdict.FAIL)
    return {
        "earlier": len(earlier),
        "failed": failed,
        "first": sum(column.step not in own for column in shown),
        "is_repaired": bool(failed) and is_healthy,
    }


def _has(fit: Sequence[Column], verdict: Verdict) -> bool:
    return any(column.verdict == verdict.name for column in fit)
