"""What the commands work on: the stored reports of the latest fit of each run, or of every fit."""

import dataclasses
import sys
from collections.abc import Sequence

from gradhooks.reports.fits import group_fits
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.text import moment, printable
from gradhooks.sinks.jsonl import FILE_NAME
from gradhooks.sinks.stored import Run, find_runs

# Exit statuses.
PASSED, FAILED, UNUSABLE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Fit:
    """The stored reports of one fit.

    Args:
        run: Name of its run, printable.
        reports: Its `CheckReport`s, oldest first.
        begun: When its first check began, in ISO 8601; empty where it is not known.
        number: Which one of the shown fits of its run it is, from 1.
        count: How many fits of its run are shown.
        left_out: The reports of each earlier fit of its run that is not shown.
        damaged: Number of lines of the run that hold no report.
    """

    run: str
    reports: tuple[CheckReport, ...]
    begun: str = ""
    number: int = 1
    count: int = 1
    left_out: tuple[tuple[CheckReport, ...], ...] = ()
    damaged: int = 0

    @property
    def title(self) -> str:
        """Name of the run, and of several fits which one it is."""
        if self.count == 1:
            return self.run
        begun = f" ({self.begun})" if self.begun else ""
        return f"{self.run}, fit {self.number} of {self.count}{begun}"


def read_fits(directory: str, is_every_fit: bool) -> tuple[list[Fit], int]:
    """Returns the fits of all runs in a directory and below, and the exit status.

    What cannot be read is told on standard error.

    Args:
        directory: As for `find_runs`.
        is_every_fit: Whether to take every fit, and not the latest one of each run.

    Returns:
        (list of `Fit`, `PASSED` or `UNUSABLE`). Without any fit it is `UNUSABLE`.
    """
    runs, unreadable = find_runs(directory)
    warn(unreadable)
    for run in runs:
        if run.damaged:
            warn([f"{printable(run.path)}: {count_of(run.damaged, 'damaged line')} skipped"])
    fits: list[Fit] = []
    for run in runs:
        fits += _choose_fits(run, is_every_fit)
    if not any(fit.reports for fit in fits):
        warn([_nothing_found(directory)])
        return [], UNUSABLE
    return fits, UNUSABLE if unreadable else PASSED


def describe_left_out(fit: Fit) -> str:
    """Returns the line on earlier fits that are not shown; empty if there are none."""
    if not fit.left_out:
        return ""
    bad = 0
    for reports in fit.left_out:
        bad += any(report.verdict is Verdict.FAIL for report in reports)
    failed = ""
    if bad:
        failed = f", {'' if len(fit.left_out) == 1 else f'{bad} of them '}with failed checks"
    return f"{count_of(len(fit.left_out), 'earlier fit')} left out{failed}; see --all-fits"


def count_of(number: int, what: str) -> str:
    """Returns a number of things: `"1 report"`, `"2 reports"`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def warn(sentences: Sequence[str]) -> None:
    """Writes sentences to standard error."""
    for sentence in sentences:
        print(f"gradhooks: {sentence}", file=sys.stderr)


def _choose_fits(run: Run, is_every_fit: bool) -> list[Fit]:
    groups = group_fits(run.reports) or [()]  # a file of damaged lines alone
    if not is_every_fit:
        return [Fit(run.name, groups[-1], left_out=tuple(groups[:-1]), damaged=run.damaged)]
    fits: list[Fit] = []
    for number, reports in enumerate(groups, 1):
        begun = moment(reports[0].origin.time) if reports else ""
        fits.append(Fit(run.name, reports, begun, number, len(groups), damaged=run.damaged))
    return fits


def _nothing_found(directory: str) -> str:
    return (
        f"no stored report was found. Received: {printable(directory)}. Expected a directory with "
        f"a {FILE_NAME} in it or below. Try the `log_dir` that GradientCheck was given."
    )
