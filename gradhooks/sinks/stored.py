"""Finds the stored reports of runs: every `reports.jsonl` in a directory and below."""

import dataclasses
import os

from gradhooks.reports.report import CheckReport
from gradhooks.reports.text import printable
from gradhooks.sinks import jsonl


@dataclasses.dataclass(frozen=True)
class Run:
    """The stored reports of one check.

    Args:
        name: Path of its directory below the one asked for, printable.
        path: The file.
        reports: tuple of `CheckReport`, oldest first.
        damaged: Number of lines that hold no report.
    """

    name: str
    path: str
    reports: tuple[CheckReport, ...]
    damaged: int = 0


def find_runs(directory: str | os.PathLike[str]) -> tuple[list[Run], list[str]]:
    """Reads every `reports.jsonl` in a directory and below.

    Args:
        directory: Path of a log directory, of a run in it, of a directory
            above several, or of one file. Links to directories below it are
            not followed, as they would show a run twice.

    Returns:
        (list of `Run` by path, list of str: what could not be read, and why).
    """
    runs: list[Run] = []
    unreadable: list[str] = []
    for path in _files(directory, unreadable):
        try:
            runs.append(Run(_name(path, directory), path, *jsonl.read_reports(path)))
        except OSError as error:
            unreadable.append(printable(error))
    return runs, unreadable


def _files(directory: str | os.PathLike[str], unreadable: list[str]) -> list[str]:
    if os.path.isfile(directory):
        return [os.fspath(directory)]
    found: list[str] = []
    walk = os.walk(directory, onerror=lambda error: unreadable.append(printable(error)))
    for parent, _, names in walk:
        if jsonl.FILE_NAME in names:
            found.append(os.path.join(parent, jsonl.FILE_NAME))
    # Only regular files: opening a named pipe would wait for a writer.
    return sorted(path for path in found if os.path.isfile(path))


def _name(path: str, directory: str | os.PathLike[str]) -> str:
    parent = os.path.dirname(os.path.abspath(path))
    relative = os.path.relpath(parent, os.path.abspath(directory)).replace(os.sep, "/")
    return printable(os.path.basename(parent) if relative in (".", "..") else relative)
