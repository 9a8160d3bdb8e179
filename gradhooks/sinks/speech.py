"""What a callback prints while a model trains, by its verbosity."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from gradhooks._types import Verbosity
from gradhooks.reports.report import CheckReport
from gradhooks.reports.stages import StageObserver, tell_nobody
from gradhooks.reports.table import headline
from gradhooks.reports.text import printable, rough
from gradhooks.sinks.progress import SlowWork

# Values of `verbose` in `fit` with which Keras draws a bar, whose line stays open.
_BARS = ("auto", 1)


class Speaker:
    """Prints what a check does and what it has found, beside the bar that Keras draws.

    Args:
        name: Name of the check.
        verbose: 0 for silence; `"auto"` for what a first check does that takes long;
            1 for a line about every check besides; 2 for its table.
    """

    def __init__(self, name: str, verbose: Verbosity) -> None:
        self._name, self._verbose = name, verbose
        self.begin({})

    def begin(self, params: Mapping[str, Any] | None) -> None:
        """Begins a run.

        Args:
            params: The parameters of `fit`, of which `verbose` is read.
        """
        self._has_bar = (params or {}).get("verbose") in _BARS
        self._is_line_open = False
        self._is_first = True

    def begin_epoch(self) -> None:
        """Notes that Keras has ended its line."""
        self._is_line_open = False

    def end_batch(self) -> None:
        """Notes that a batch was trained on, behind which Keras draws its bar."""
        self._is_line_open = self._has_bar

    @contextlib.contextmanager
    def working(self, step: int) -> Iterator[StageObserver]:
        """A context for one check; gives what is to be told of its stages.

        Args:
            step: Number of batches trained before the check.
        """
        if self._verbose == 2:
            self._print(f"{self._name}: checking gradients before batch {step} ...", sys.stderr)
        is_silent = self._verbose == 0 or not self._is_first
        self._is_first = False
        if is_silent:
            yield tell_nobody
            return
        with SlowWork(self._name, sys.stderr, self._end_line) as work:
            yield work.note

    def show(self, report: CheckReport) -> None:
        """Prints a report, as a line or as a table."""
        if self._verbose == 1:
            self._print(summarize(report), sys.stdout)
        elif self._verbose == 2:
            self._print(str(report), sys.stdout)

    def _print(self, text: str, stream: TextIO) -> None:
        self._end_line()
        print(text, file=stream, flush=True)

    def _end_line(self) -> None:
        """Ends the line of the bar, which Keras draws on stdout."""
        if self._is_line_open:
            self._is_line_open = False
            print(flush=True)


def summarize(report: CheckReport) -> str:
    """Returns a report in one line: verdict, relative difference, seconds, place of an error.

    Example:

    >>> from gradhooks.reports.reasons import Reason, Verdict
    >>> passed = Verdict.PASS, Reason.AGREES
    >>> summarize(CheckReport(7, *passed, {"total": 3e-10}, seconds=0.25))
    'PASS (agrees) at step 7, gradcheck: relative difference 3.0e-10, 0.25 s'
    """
    difference = rough(report.relative_difference.get("total"))
    line = f"{headline(report)}: relative difference {difference}, {report.seconds:.2f} s"
    if report.culprit is None:
        return line
    return f"{line}, error in {printable(report.culprit.path)}"
