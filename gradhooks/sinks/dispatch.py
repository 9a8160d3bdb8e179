"""Sends reports to every sink; an error in one of them never reaches the training."""

import contextlib
import logging
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from gradhooks._types import LogDirectory
from gradhooks.reports.errors import GradientCheckWarning
from gradhooks.reports.message import error_message, inconclusive_message
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.histograms import GradientSnapshot
from gradhooks.sinks.jsonl import JsonLinesSink
from gradhooks.sinks.tensorboard import TensorBoardSink
from gradhooks.sinks.warning import warn_user

# Checks without a decision after which a run is warned of. A free choice above one: the first check
# may have met an unlucky start.
_ENOUGH = 2
# Characters of a message by which a cause is recognized; a free choice, more than messages share.
_CAUSE_LENGTH = 200

_log = logging.getLogger("gradhooks")


class Dispatcher:
    """Hands reports to the log, TensorBoard, JSON lines and sinks.

    Nothing is opened before the first report.

    Args:
        name: Name of the check.
        log_dir: Directory for files, or an object whose `log_dir` is asked for it when a
            run begins; None writes none.
        histograms: Whether TensorBoard gets histograms of gradients.
        sinks: Functions of a `CheckReport`.
    """

    def __init__(
        self,
        name: str,
        log_dir: LogDirectory | None,
        histograms: bool,
        sinks: Sequence[Callable[[CheckReport], Any]],
    ):
        self._name, self._place, self._histograms = name, log_dir, histograms
        self._sinks = sinks
        self.begin()

    def begin(self, is_writing: bool = True) -> None:
        """Forgets which warnings were given.

        Args:
            is_writing: Whether to write files; only one of several processes does.
        """
        self._is_writing = is_writing
        place: Any = self._place
        self._log_dir: str | os.PathLike[str] | None = getattr(place, "log_dir", place)
        self._warned = set()
        self._tensorboard, self._lines = None, None
        self._has_written = False

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy takes along: not the open files, beside which it opens its own."""
        return {**vars(self), "_tensorboard": None, "_lines": None}

    def emit(self, report: CheckReport, gradient: GradientSnapshot | None = None) -> None:
        """Sends a report to every sink.

        Args:
            report: A `CheckReport`.
            gradient: The gradient to show beside it, a `GradientSnapshot`; None
                shows none.
        """
        _log.info("%s at step %d: %s (%s)", self._name, report.step, report.verdict, report.reason)
        if report.error:
            self.warn_once(error_message(report))
        if report.reason is Reason.NON_FINITE_LOSS:
            message = (
                f"{self._name}: gradients cannot be checked at step {report.step}: "
                f"{report.reason.explanation}"
            )
            self.warn_once(message, Reason.NON_FINITE_LOSS)
        if self._log_dir is not None and self._is_writing:
            self._write(self._log_dir, report, gradient)
        for sink in self._sinks:
            with self._warning_on_failure(f"the sink {getattr(sink, '__name__', sink)!r}"):
                sink(report)

    def warn_if_inconclusive(self, reports: Sequence[CheckReport], is_over: bool = False) -> None:
        """Warns once of a run in which no check has decided anything.

        The warning comes when two checks were undecided for the same reason, or
        at the end of the run. An error and a loss that is not finite have
        warnings of their own.

        Args:
            reports: All `CheckReport`s of the run so far.
            is_over: Whether there will be no more.
        """
        reasons = {r.reason for r in reports}
        is_undecided = all(r.verdict is Verdict.INCONCLUSIVE for r in reports)
        if not reports or not is_undecided or reasons & {Reason.ERROR, Reason.NON_FINITE_LOSS}:
            return
        if is_over or (len(reports) >= _ENOUGH and len(reasons) == 1):
            self.warn_once(inconclusive_message(reports[-1], len(reports)), "undecided")

    def log_failures(self, reports: Sequence[CheckReport]) -> None:
        """Logs how many of several checks failed, of which the first was warned of."""
        bad = sum(report.verdict is Verdict.FAIL for report in reports)
        if bad > 1:
            message = "%s: %d of %d checks found a wrong gradient."
            _log.warning(message, self._name, bad, len(reports))

    def log_waiting(self, max_overhead: float | None) -> None:
        """Logs that a check was due and has not been made."""
        _log.warning(
            "%s: training ended before there was time for a check that was due; max_overhead=%g.",
            self._name,
            max_overhead,
        )

    def _write(
        self,
        log_dir: str | os.PathLike[str],
        report: CheckReport,
        gradient: GradientSnapshot | None,
    ) -> None:
        directory = os.path.join(log_dir, self._name)
        if self._has_written and not os.path.isdir(directory):
            # Writing to a deleted event file succeeds, but nothing is kept.
            message = (
                f"{self._name}: {directory} has vanished, with what was logged in it. "
                "Logging starts anew."
            )
            self.warn_once(message, f"writing to {log_dir}")
            self.close()
        if self._tensorboard is None or self._lines is None:
            self._tensorboard = TensorBoardSink(log_dir, self._name, self._histograms)
            self._lines = JsonLinesSink(log_dir, self._name)
        # One at a time, so that a failure of one does not stop the other.
        with self._warning_on_failure(f"writing to {log_dir}"):
            self._tensorboard.write(report, gradient)
        with self._warning_on_failure(f"writing to {log_dir}"):
            self._lines.write(report)
        self._has_written = os.path.isdir(directory)

    def close(self) -> None:
        """Closes the files."""
        if self._tensorboard is not None:
            with self._warning_on_failure(f"closing the TensorBoard log in {self._log_dir}"):
                self._tensorboard.close()
        self._tensorboard, self._lines = None, None

    @contextlib.contextmanager
    def _warning_on_failure(self, doing: str) -> Iterator[None]:
        """Turns an error into one warning; the callback keeps the report in any case."""
        try:
            yield
        except Exception as error:
            message = (
                f"{self._name}: {doing} failed with {type(error).__name__}: {error}. "
                "Training goes on."
            )
            self.warn_once(message, doing)

    def warn_once(self, message: str, cause: Hashable = None) -> None:
        """Warns, unless there was a warning of the same cause since `begin`.

        Args:
            message: The text of the warning.
            cause: Anything hashable; the beginning of the message if None.
        """
        key = cause or message.split(" at step ")[0][:_CAUSE_LENGTH]
        if key not in self._warned:
            self._warned.add(key)
            warn_user(message, GradientCheckWarning)
