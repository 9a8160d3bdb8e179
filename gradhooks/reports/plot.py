"""A report as a picture: derivatives beside measured ones, and how far each variable is off.

matplotlib is imported when a plot is asked for.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradhooks.reports.answer import describe_finding
from gradhooks.reports.errors import bad_input
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import GradientComparison, Report
from gradhooks.reports.scatter import (
    COLOURS,
    GREY,
    LARGEST,
    MARKERS,
    NAME_WIDTH,
    PLAIN,
    SMALL,
    choose_style,
    draw_derivatives,
    write_in_the_middle,
)
from gradhooks.reports.table import headline, worst_first
from gradhooks.reports.text import location, printable, rough, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# How many variables have a row, and the size of the title, in characters and lines; free choices,
# so that a picture can be read.
VARIABLES = 30
TITLE_WIDTH, TITLE_LINES = 145, 3
# Inches: what a notebook shows without shrinking it much; each row of names adds to the height.
WIDTH, HEIGHT, FRAME, ROW = 11.0, 5.0, 2.0, 0.19
# The ends of the axis of relative differences, the same in every picture, so that two can be
# compared: below the resolution of float64, where all is as good as zero, and above 1, the largest
# difference, where there is room for what is not finite.
LEFT, RIGHT = 1e-17, 100.0
NUMBERS = ("1e-13", "1e-10", "1e-7", "1e-4", "1e-1")


def draw_report(report: Report, figure: Any = None) -> "Figure":
    """Draws a report: see `CheckReport.plot`, which has the arguments and the errors."""
    if figure is None:
        figure = _make_figure(report)
    elif not hasattr(figure, "subplots"):
        raise bad_input(
            "A plot needs a figure to draw into.",
            "figure",
            figure,
            "a matplotlib Figure or SubFigure, or None",
            "Try figure=None, which makes a new one.",
        )
    elif figure.get_layout_engine() is None and hasattr(figure, "set_layout_engine"):
        figure.set_layout_engine("constrained")  # else names would lie across the other half
    left, right = figure.subplots(1, 2)
    draw_derivatives(left, report)
    _draw_differences(right, report)

    finding = describe_finding(report) if report.verdict is Verdict.FAIL else report.error
    lines = textwrap.wrap(
        printable(finding), TITLE_WIDTH, max_lines=TITLE_LINES, placeholder=" ..."
    )
    figure.suptitle("\n".join([headline(report), *lines]), fontsize="medium", **PLAIN)
    handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    if handles:
        # Other layouts keep no room outside of the axes.
        is_constrained = "Constrained" in type(figure.get_layout_engine()).__name__
        place = "outside lower center" if is_constrained else "lower center"
        figure.legend(handles=handles, loc=place, ncols=len(handles), fontsize="small")
    return figure


def _make_figure(report: Report) -> Any:
    try:
        from gradhooks.reports.figure import ReportFigure
    except ImportError as cause:
        raise ImportError(
            f"A plot is drawn by matplotlib. Received: {cause}. Expected an environment in which "
            "matplotlib is installed. Try `pip install 'gradhooks[plot]'`; print(report) does "
            "without."
        ) from cause
    rows = min(len({c.path for c in report.comparisons}), VARIABLES)
    return ReportFigure(figsize=(WIDTH, max(HEIGHT, FRAME + ROW * rows)), layout="constrained")


def _draw_differences(axes: Any, report: Report) -> None:
    """The relative difference of every comparison, a row for each variable."""
    if not report.comparisons:
        write_in_the_middle(axes, "nothing was compared")
        return
    row_of = _choose_rows(report)
    shown = [c for c in report.comparisons if c.path in row_of]
    received = [c for c in shown if isinstance(c, GradientComparison)]
    for verdict in MARKERS:
        count = sum(c.verdict is verdict for c in report.comparisons)
        style = choose_style(verdict)
        hollow = style | {"markerfacecolor": "none", "markeredgecolor": COLOURS[verdict]}
        if count:
            axes.plot([], [], label=f"{count} {verdict}", **style)
        of_verdict = [c for c in shown if c.verdict is verdict]
        for is_received, of_kind in ((False, style), (True, hollow)):
            chosen = [c for c in of_verdict if isinstance(c, GradientComparison) is is_received]
            places = [_place(c.relative_difference) for c in chosen]
            axes.plot(places, [row_of[c.path] for c in chosen], **of_kind)
    _draw_limits(axes, report, received, row_of)

    axes.set_xlabel("relative difference")
    axes.set_xscale("log")
    axes.set_xlim(LEFT / 3, 3 * RIGHT)  # so that what lies at the ends is whole
    axes.set_xticks([LEFT, *map(float, NUMBERS), RIGHT], ["0", *NUMBERS, "not finite"])
    axes.set_xticks([], minor=True)
    axes.set_ylim(len(row_of) - 0.4, -0.6)  # the first variable on top
    names = [shorten(location(path), NAME_WIDTH) for path in row_of]
    axes.set_yticks(range(len(row_of)), names, **SMALL)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    total = len({c.path for c in report.comparisons})
    if total > len(row_of):
        axes.set_title(f"the worst {len(row_of)} of {total} variables", **SMALL)


def _choose_rows(report: Report) -> dict[str, int]:
    """The variables with the worst comparisons, in forward order, with their rows."""
    worst = list(dict.fromkeys(c.path for c in worst_first(report.comparisons)))[:VARIABLES]
    positions: dict[str, int] = {}
    for c in report.comparisons:
        positions[c.path] = min(c.position, positions.get(c.path, c.position))
    return {path: row for row, path in enumerate(sorted(worst, key=positions.__getitem__))}


def _draw_limits(
    axes: Any, report: Report, received: Sequence[GradientComparison], row_of: dict[str, int]
) -> None:
    """The threshold, and what is allowed of each gradient that the optimizer receives."""
    if 0 < report.threshold < RIGHT:
        label = f"threshold {rough(report.threshold)}"
        axes.axvline(report.threshold, color=GREY, linestyle="--", label=label)
    if received:
        label = "received by the optimizer"
        axes.plot([], [], "o", markerfacecolor="none", color=GREY, label=label)
    limits: list[tuple[float, int]] = []
    for c in received:
        norms = c.analytic_norm + c.received_norm
        if 0 < c.allowed < LARGEST and 0 < norms < LARGEST:
            limits.append((_place(c.allowed / norms), row_of[c.path]))
    if limits:
        xs, ys = zip(*limits, strict=True)
        axes.plot(xs, ys, "|", color=GREY, markersize=10, label="allowed for it")


def _place(difference: float) -> float:
    """Where a relative difference is drawn: zero at the left end, NaN at the right one."""
    return RIGHT if math.isnan(difference) else min(max(difference, LEFT), RIGHT)
