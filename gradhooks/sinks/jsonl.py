"""Reports as JSON lines, one report a line: for programs, `gradhooks show` and `gradhooks judge`.

A line is appended in a single write. The kernel keeps what a killed process has
written, so there is no `fsync`: it would only protect against a loss of power,
and would make training wait for everything else that is on its way to the disk.
"""

import os
from io import FileIO
from typing import NamedTuple

from gradhooks.reports.report import CheckReport
from gradhooks.sinks.appending import append

FILE_NAME = "reports.jsonl"


class JsonLinesSink:
    """Appends reports to `<log_dir>/<name>/reports.jsonl`, one JSON object a line.

    A line is written as a whole or not at all: a write that fails half-way is
    undone. What a killed process left unfinished remains as a damaged line of
    its own. A resumed run appends to the file, which can be read at any time.

    No file is open between two writes, so that a sink can be copied, and goes on
    writing if the directory has been moved away.

    Args:
        log_dir: Local directory.
        name: Name of the run.

    Raises:
        ValueError: If `log_dir` is a URL.

    Example:

    >>> import tempfile
    >>> from gradhooks.reports.reasons import Reason, Verdict
    >>> sink = JsonLinesSink(tempfile.mkdtemp())
    >>> sink.write(CheckReport(7, Verdict.PASS, Reason.AGREES, {"total": 3e-10}))
    >>> reports, damaged = read_reports(sink.path)
    >>> reports[0].step, damaged
    (7, 0)
    """

    def __init__(self, log_dir: str | os.PathLike[str], name: str = "gradcheck"):
        # open() would take a URL for a relative path and hide the reports in a local folder.
        if "://" in os.fspath(log_dir):
            raise ValueError(
                "JsonLinesSink writes to a local directory. "
                f"Received: log_dir={log_dir!r}. Expected a path without '://'. "
                "Try a local directory, and copy the file to where it is wanted."
            )
        self.log_dir = log_dir
        self.name = name

    @property
    def path(self) -> str:
        """The file that is written."""
        return os.path.join(self.log_dir, self.name, FILE_NAME)

    def write(self, report: CheckReport) -> None:
        """Appends a report.

        Raises:
            OSError: If it cannot be written; the file is then as it was before.
        """
        line = report.to_json().encode("ascii") + b"\n"
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "a+b", buffering=0) as file:
            append(file, line if _ends_with_a_line(file) else b"\n" + line)

    def close(self) -> None:
        """Does nothing, since no file is open."""


class StoredReports(NamedTuple):
    """What a file of JSON lines holds.

    Args:
        reports: tuple of `CheckReport`, in the order in which they were written.
        damaged: Number of lines that hold no report.
    """

    reports: tuple[CheckReport, ...]
    damaged: int


def read_reports(path: str | os.PathLike[str]) -> StoredReports:
    """Returns the reports in a file, and how many of its lines are damaged.

    The last line may be one that is just being written; it is readable a
    moment later.

    Args:
        path: The file.

    Returns:
        `StoredReports`, that is `(reports, damaged)`.

    Raises:
        OSError: If the file cannot be read.
    """
    damaged = 0
    reports: list[CheckReport] = []
    with open(path, "rb") as file:
        for line in file:
            if line.isspace():
                continue
            try:
                reports.append(CheckReport.from_json(line))
            except ValueError:
                damaged += 1
    return StoredReports(tuple(reports), damaged)


def _ends_with_a_line(file: FileIO) -> bool:
    """Whether the last line is complete; a process killed while writing leaves half a line."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return True
    file.seek(end - 1)
    return file.read(1) == b"\n"
