"""`gradhooks show`: prints stored reports."""

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence

from gradhooks.cli.reading import Fit, count_of, describe_left_out, read_fits, warn
from gradhooks.sinks.console import console

# What a command returns: the exit status, and a function that prints.
Outcome = tuple[int, Callable[[], None]]


def show(options: argparse.Namespace) -> Outcome:
    """Returns the exit status, and a function that prints the reports."""
    fits, status = read_fits(options.log_dir, options.all_fits)
    shown = fits
    if not options.all:
        shown = [dataclasses.replace(fit, reports=fit.reports[-1:]) for fit in fits]
    if options.json:
        return status, functools.partial(print_json, shown)
    return status, functools.partial(_print_reports, shown, [len(fit.reports) for fit in fits])


def print_json(fits: Sequence[Fit]) -> None:
    """Prints reports as JSON, one a line; what is left out is told on standard error."""
    for fit in fits:
        for report in fit.reports:
            line = {"run": fit.run, **json.loads(report.to_json())}
            print(json.dumps(line, separators=(",", ":")))
    for fit in fits:
        if fit.left_out:
            warn([f"{fit.run}: {describe_left_out(fit)}"])


def _print_reports(fits: Sequence[Fit], counts: Sequence[int]) -> None:
    out = console(sys.stdout)
    for fit, count in zip(fits, counts, strict=True):
        which = "the last of " if count > len(fit.reports) else ""
        out.heading(f"{fit.title}: {which}{count_of(count, 'report')}")
        if fit.left_out:
            out.line(describe_left_out(fit))
        for report in fit.reports:
            out.report(report)
            out.line("")
