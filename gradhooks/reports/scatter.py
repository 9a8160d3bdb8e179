"""The left half of a plot: every measured derivative over the analytic one."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import DerivativeComparison, Report
from gradhooks.reports.table import worst_first
from gradhooks.reports.text import location, omission, shorten

# In the order in which they are drawn: failures on top. A verdict is told by shape and by colour;
# these colours can be told apart by the colour-blind (Okabe and Ito, https://jfly.uni-koeln.de) and
# are seen on white and on black.
MARKERS = {Verdict.PASS: "o", Verdict.INCONCLUSIVE: "^", Verdict.FAIL: "X"}
COLOURS = {Verdict.PASS: "#0072b2", Verdict.INCONCLUSIVE: "#c08a00", Verdict.FAIL: "#d55e00"}
GREY = "#888888"
# Names come from users' layers, and are no formulas, for which matplotlib takes what stands between
# two dollar signs.
PLAIN: dict[str, Any] = {"parse_math": False, "usetex": False}
SMALL: dict[str, Any] = {"fontsize": "small"} | PLAIN
# Characters of a name, and how many failures are named; free choices, so that it can be read.
NAME_WIDTH, NAMED = 36, 5
# Numbers beyond this are not drawn: a margin around them must not overflow. Far above any gradient.
LARGEST = 1e100

# From one line of small text to the next, and the radius of a point, as shares of the axes' height.
_LINE, _RADIUS = 0.055, 0.02
# The largest ratio of two derivatives that is drawn on a linear scale, and the decades on each side
# of zero on a logarithmic one. Free choices.
_LINEAR_RANGE, _DECADES = 100.0, 9
# Most numbers along an axis: as many as do not touch.
_TICKS = 7


def draw_derivatives(axes: Any, report: Report) -> None:
    """Draws numeric over analytic derivatives: what is right lies on the diagonal.

    Args:
        axes: matplotlib `Axes`.
        report: A `CheckReport`.
    """
    measured = [c for c in report.comparisons if isinstance(c, DerivativeComparison)]
    drawn = [c for c in measured if abs(c.analytic) < LARGEST and abs(c.numeric) < LARGEST]
    axes.set_box_aspect(1)
    axes.set_xlabel("analytic derivative")
    axes.set_ylabel("numeric derivative")
    if len(drawn) < len(measured):
        axes.set_title(f"not finite, not drawn: {len(measured) - len(drawn)}", **SMALL)
    if not drawn:
        write_in_the_middle(axes, "no derivative to draw")
        return

    low, high = _scale(axes, [x for c in drawn for x in (c.analytic, c.numeric)])
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, zorder=0, label="no difference")
    for verdict in MARKERS:
        chosen = [c for c in drawn if c.verdict is verdict]
        axes.errorbar(
            [c.analytic for c in chosen],
            [c.numeric for c in chosen],
            # Where it is not known, or as good as infinite, there is no bar.
            yerr=[c.error if 0 <= c.error < LARGEST else 0.0 for c in chosen],
            elinewidth=1,
            capsize=2,
            **choose_style(verdict),
        )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    _name_failures(axes, drawn)


def choose_style(verdict: Verdict) -> dict[str, Any]:
    """Returns how matplotlib draws the points of a verdict."""
    return {
        "linestyle": "none",
        "marker": MARKERS[verdict],
        "markersize": 9 if verdict is Verdict.FAIL else 6,
        "color": COLOURS[verdict],
        "markeredgecolor": "white",  # tells points that touch from each other
        "markeredgewidth": 0.5,
    }


def write_in_the_middle(axes: Any, text: str) -> None:
    """Writes why axes are empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, **PLAIN)


def _scale(axes: Any, numbers: Sequence[float]) -> tuple[float, float]:
    """Chooses the scale of both axes, which is the same, and returns its ends."""
    sizes = [abs(x) for x in numbers if abs(x) > 1 / LARGEST]
    smallest, largest = min(sizes, default=1.0), max(sizes, default=1.0)
    low, high = min(numbers), max(numbers)
    if largest <= _LINEAR_RANGE * smallest:
        # The second, because numbers that hardly differ would be drawn as if they did.
        margin = max(0.08 * (high - low), 0.1 * largest)
        return low - margin, high + margin
    # Symmetric to zero, around which it is linear: both signs, and zero itself, have their place.
    linear = max(smallest, largest / 10**_DECADES)
    ends = min(3 * low, -linear), max(3 * high, linear)
    ticks = _choose_ticks(linear, *ends)
    axes.set_xscale("symlog", linthresh=linear, linscale=0.5)
    axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    return ends


def _choose_ticks(linear: float, low: float, high: float) -> list[float]:
    """Zero, and powers of ten on both sides of it, so far apart that their names do not touch."""
    top = math.floor(math.log10(max(-low, high)))
    bottom = math.log10(linear) + 0.5  # nearer to zero they would touch its name
    sides = sum(end > linear for end in (-low, high))
    stride = math.ceil((top - bottom) * sides / _TICKS)
    ticks = [0.0]
    while top > bottom:
        ticks += [x for x in (-(10.0**top), 10.0**top) if low <= x <= high]
        top -= stride
    return ticks


def _name_failures(axes: Any, drawn: Sequence[DerivativeComparison]) -> None:
    """Names the worst failures in the corner on their side of the diagonal, below each other."""
    worst: dict[str, DerivativeComparison] = {}
    for c in worst_first(drawn):
        if c.verdict is Verdict.FAIL and isinstance(c, DerivativeComparison):
            worst.setdefault(c.path, c)
    # Sorted like the points, so that the lines to them do not cross.
    named = sorted(list(worst.values())[:NAMED], key=lambda c: -c.analytic)
    more = omission(len(worst) - NAMED, "variables")
    for is_above in (True, False):
        of_side = [c for c in named if (c.numeric > c.analytic) is is_above]
        rows = _find_free_rows(axes, drawn, is_above)
        x, start, ha, va = (0.02, 1, "left", "top") if is_above else (0.98, 0, "right", "bottom")
        line = {"arrowstyle": "-", "color": COLOURS[Verdict.FAIL], "linewidth": 0.7}
        # From the end of the name that is further inside.
        style: dict[str, Any] = {"ha": ha, "va": va, "arrowprops": line | {"relpos": (start, 0.5)}}
        for c in of_side if is_above else reversed(of_side):
            name, point = shorten(location(c.label), NAME_WIDTH), (c.analytic, c.numeric)
            axes.annotate(
                name, point, (x, next(rows)), textcoords="axes fraction", **style, **SMALL
            )
        if more and of_side:
            axes.text(x, next(rows), more, transform=axes.transAxes, ha=ha, va=va, **SMALL)
            more = ""


def _find_free_rows(
    axes: Any, drawn: Sequence[DerivativeComparison], is_above: bool
) -> Iterator[float]:
    """The heights of lines of text that lie on no point, from a corner inwards.

    Heights are shares of the axes, of the upper end of a line in the upper left corner,
    of the lower end in the lower right one.
    """
    to_shares = axes.transScale + axes.transLimits
    points = to_shares.transform([(c.analytic, c.numeric) for c in drawn]).tolist()
    for row in range(round(1 / _LINE)):
        inwards = 0.02 + _LINE * row
        bottom = 1 - inwards - _LINE if is_above else inwards
        # A name is about half as wide as the axes.
        heights = [y - bottom for x, y in points if (x < 0.5) is is_above]
        if not any(-_RADIUS < height < _LINE + _RADIUS for height in heights):
            yield 1 - inwards if is_above else inwards
    while True:  # no line is free
        yield 0.5
