"""Reports in colour on a terminal, as plain text anywhere else.

Colour comes from rich, which Keras needs for its own tables.
"""

import os
from collections.abc import Mapping
from typing import TextIO

from gradhooks.reports.answer import describe_finding
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import (
    HEADER,
    ROWS,
    WIDTH,
    circumstances,
    differences,
    fit_digits,
    headline,
    list_below,
    list_evidence,
    render,
    worst_first,
)
from gradhooks.reports.text import describe_origin

STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
_WORDS = ("", "parameter", "term", "reason")
_DIGITS = ("analytic", "numeric", "+-")


def console(
    stream: TextIO, environ: Mapping[str, str] = os.environ
) -> "PlainConsole | ColourConsole":
    """Returns a console that shows reports on a stream, in colour if it is a colour terminal.

    Args:
        stream: A text file, such as `sys.stdout`.
        environ: Mapping; `NO_COLOR` (https://no-color.org) and `TERM=dumb`
            ask for plain text.
    """
    if stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb":
        return ColourConsole(stream)
    return PlainConsole(stream)


class PlainConsole:
    """Shows reports as plain text. Every text must have passed through `printable`."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def heading(self, text: str) -> None:
        """Writes a line above others."""
        self.line(text)

    def line(self, text: str, verdict: Verdict | None = None) -> None:
        """Writes a line; one that begins with a verdict may show its colour."""
        print(text, file=self._stream)

    def report(self, report: CheckReport) -> None:
        """Writes a report."""
        self.line(render(report))


class ColourConsole:
    """Shows reports in colour, in tables as wide as the terminal."""

    def __init__(self, stream: TextIO):
        from rich.console import Console  # late: a pipe does not wait for rich

        # Brackets in a name are no markup.
        self._console = Console(file=stream, markup=False, highlight=False, emoji=False)

    def heading(self, text: str) -> None:
        """Writes a line above others."""
        self._console.print(text, style="bold")

    def line(self, text: str, verdict: Verdict | None = None) -> None:
        """Writes a line; one that begins with a verdict shows its colour."""
        from rich.text import Text

        shown = Text(text)
        if verdict is not None:
            shown.stylize(STYLES[verdict], 0, len(str(verdict)))
        self._console.print(shown)

    def report(self, report: CheckReport) -> None:
        """Writes a report."""
        shown = worst_first(report.comparisons)[:ROWS]
        self.line(headline(report), report.verdict)
        if report.verdict is Verdict.FAIL:
            self._console.print(describe_finding(report), style="bold")
        for text in (*list_evidence(report), differences(report)):
            self.line(text)
        if shown:
            self._console.print(_table(shown, self._console.width))
        for text in list_below(report):
            self.line(text)
        for text in filter(None, (circumstances(report), describe_origin(report.origin))):
            self._console.print(text, style="dim")


def _table(comparisons, width):
    from rich.table import Table
    from rich.text import Text

    # On a narrow terminal the names and the reasons are kept, and the digits left out.
    shown = [k for k, name in enumerate(HEADER) if width >= WIDTH or name not in _DIGITS]
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in (HEADER[k] for k in shown):
        table.add_column(
            name,
            justify="left" if name in _WORDS else "right",
            no_wrap=name != "parameter",
            overflow="fold",
        )
    for c, cells in zip(comparisons, fit_digits(comparisons, width), strict=True):
        row = [Text(cell) for cell in cells]
        row[0].stylize(STYLES[c.verdict])
        table.add_row(*(row[k] for k in shown))
    return table
