"""The command line: shows stored reports and judges them again, without model or framework."""

import io
import os
import sys
from collections.abc import Sequence

from gradhooks.cli.arguments import STATUSES, build_parser
from gradhooks.cli.reading import UNUSABLE, warn
from gradhooks.reports.text import printable

__all__ = ["STATUSES", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: list of str. Defaults to those of the process.

    Returns:
        The exit status, see `STATUSES`.

    Raises:
        SystemExit: With status 2 for bad usage, 0 for `--help`.
    """
    for stream in (sys.stdout, sys.stderr):
        # A notebook or a test may have put something else there.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # any encoding can show any report
    options = build_parser().parse_args(arguments)
    status, print_results = options.command(options)
    try:
        print_results()
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more when it ends, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A reader that stops early, such as `head`, is no error.
        if not isinstance(error, BrokenPipeError):
            warn([printable(error)])
            return UNUSABLE
    return status
