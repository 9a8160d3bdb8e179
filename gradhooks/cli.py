"""The command line: shows stored reports and judges them again, without model or framework."""

import argparse
import collections
import dataclasses
import functools
import io
import json
import math
import os
import sys
from collections.abc import Sequence

import gradhooks
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import ROWS, headline
from gradhooks.reports.text import location, omission, printable, rough
from gradhooks.sinks.console import console
from gradhooks.sinks.jsonl import FILE_NAME
from gradhooks.sinks.stored import Run, find_runs
from gradhooks.verdicts.rejudge import rejudge

PASSED, FAILED, UNUSABLE = 0, 1, 2
STATUSES = """exit status:
  0  show: reports were shown; judge: no report fails
  1  judge: a report fails; with --strict also: one is not decided, or a line is damaged
  2  bad usage, no stored report was found, or something could not be read
"""
COLOUR = "Colour on a terminal needs rich: pip install 'gradhooks[cli]'. NO_COLOR=1 turns it off."
SHOWING = """Shows what gradient checks found while a model trained.

That is the last report of each run, or all of them."""
JUDGING = """Judges all stored reports under another threshold, by their own numbers.

Agreements and mismatches are judged anew. Kinks, noise, blocked gradients,
declared mismatches and what the optimizer received do not depend on the
threshold and stay as they are. Under a threshold smaller than that of the check,
a failure may be due to the measurement: check again before you trust it."""


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
    options = _parser().parse_args(arguments)
    runs, unreadable = find_runs(options.log_dir)
    _warn(unreadable)
    for run in runs:
        if run.damaged:
            _warn([f"{printable(run.path)}: {_count(run.damaged, 'damaged line')} skipped"])
    if not any(run.reports for run in runs):
        _warn([_nothing_found(options.log_dir)])
        return UNUSABLE
    status, print_results = options.command(options, runs)
    try:
        print_results()
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more when it ends, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A reader that stops early, such as `head`, is no error.
        if not isinstance(error, BrokenPipeError):
            _warn([printable(error)])
            return UNUSABLE
    return status or (UNUSABLE if unreadable else PASSED)


def _show(options, runs):
    """Returns the exit status, and a function that prints the reports."""
    shown = runs
    if not options.all:
        shown = [dataclasses.replace(run, reports=run.reports[-1:]) for run in runs]
    if options.json:
        return PASSED, functools.partial(_print_json, shown)
    return PASSED, functools.partial(_print_reports, shown, [len(run.reports) for run in runs])


def _print_json(runs: list[Run]) -> None:
    for run in runs:
        for report in run.reports:
            line = {"run": run.name, **json.loads(report.to_json())}
            print(json.dumps(line, separators=(",", ":")))


def _print_reports(runs: list[Run], counts: list[int]) -> None:
    out = console(sys.stdout)
    for run, count in zip(runs, counts, strict=True):
        which = "the last of " if count > len(run.reports) else ""
        out.heading(f"{run.name}: {which}{_count(count, 'report')}")
        for report in run.reports:
            out.report(report)
            out.line("")


def _judge(options, runs):
    """Returns the exit status, and a function that prints the verdicts."""
    judged = [_rejudge_run(run, options.threshold) for run in runs]
    pairs = []  # per run, of every report as it was and as it is judged now
    for run, other in zip(runs, judged, strict=True):
        pairs.append(list(zip(run.reports, other.reports, strict=True)))
    _warn_of_coarse_numbers([pair for of_run in pairs for pair in of_run])

    verdicts = collections.Counter(new.verdict for of_run in pairs for _, new in of_run)
    is_open = verdicts[Verdict.INCONCLUSIVE] or any(run.damaged for run in runs)
    status = FAILED if verdicts[Verdict.FAIL] or (options.strict and is_open) else PASSED
    if options.json:
        return status, functools.partial(_print_json, judged)
    return status, functools.partial(_print_judged, [run.name for run in runs], pairs, verdicts)


def _rejudge_run(run: Run, threshold: float | None) -> Run:
    if threshold is None:
        return run
    judged = tuple(rejudge(report, threshold) for report in run.reports)
    return dataclasses.replace(run, reports=judged)


def _warn_of_coarse_numbers(pairs):
    """Warns of new failures under a threshold smaller than the one that was measured for."""
    failed = []
    for old, new in pairs:
        if new.threshold < old.threshold and len(new.failures) > len(old.failures):
            failed.append(new)
    if failed:
        reports = _count(len(failed), "report")
        _warn(
            [
                f"{reports} with new failures under a threshold smaller than that of the check, "
                "which measured no finer than it had to. "
                f"Try GradientCheck(..., threshold={failed[0].threshold:g})"
            ]
        )


def _print_judged(names, pairs, verdicts):
    out = console(sys.stdout)
    for name, of_run in zip(names, pairs, strict=True):
        counts = collections.Counter(new.verdict for _, new in of_run)
        known = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
        out.heading(f"{name}: {_count(len(of_run), 'report')}: {', '.join(known)}")
        remarkable = []
        for old, new in of_run:
            if {old.verdict, new.verdict} != {Verdict.PASS}:
                remarkable.append((old, new))
        if len(remarkable) > ROWS:
            out.line(omission(len(remarkable) - ROWS, "before these"))
        for old, new in remarkable[-ROWS:]:
            out.line(_outcome(old, new), new.verdict)
    out.line(*_summary(verdicts))


def _outcome(old: CheckReport, new: CheckReport) -> str:
    """One line on a report that does not simply pass."""
    before = "" if old.verdict is new.verdict else f"; {old.verdict} under {rough(old.threshold)}"
    line = f"{headline(new)}; threshold {rough(new.threshold)}{before}"
    if not new.failures:
        return line
    worst = new.failures[0]
    return (
        f"{line}; {_count(len(new.failures), 'failure')}, the worst: {location(worst.label)}, "
        f"term {printable(worst.term)}, relative difference {rough(worst.relative_difference)}, "
        f"gap {rough(worst.gap)}, allowed {rough(worst.allowed)}"
    )


def _summary(verdicts):
    count = _count(verdicts.total(), "report")
    if verdicts[Verdict.FAIL]:
        return f"FAIL: {verdicts[Verdict.FAIL]} of {count}", Verdict.FAIL
    if verdicts[Verdict.INCONCLUSIVE]:
        undecided = f"{verdicts[Verdict.INCONCLUSIVE]} of {count} could not be decided"
        return f"INCONCLUSIVE: nothing fails, but {undecided}", Verdict.INCONCLUSIVE
    return f"PASS: {count}", Verdict.PASS


def _nothing_found(directory: str) -> str:
    return (
        f"no stored report was found. Received: {printable(directory)}. Expected a directory with "
        f"a {FILE_NAME} in it or below. Try the `log_dir` that GradientCheck was given."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _warn(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        print(f"gradhooks: {sentence}", file=sys.stderr)


def _threshold(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(
            f"it is a relative difference. Received: {printable(text)}. "
            "Expected a number above 0. Try 1e-6."
        )
    return number


def _parser() -> argparse.ArgumentParser:
    texts = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "epilog": f"{STATUSES}\n{COLOUR}",
    }
    parser = argparse.ArgumentParser(
        "gradhooks", description="What gradient checks found, without the model.", **texts
    )
    parser.add_argument("--version", action="version", version=f"gradhooks {gradhooks.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="show stored reports", description=SHOWING, **texts)
    show.add_argument(
        "--all", action="store_true", help="show every report, not only the last one of each run"
    )
    show.set_defaults(command=_show)
    judge = commands.add_parser(
        "judge", help="judge stored reports again", description=JUDGING, **texts
    )
    judge.add_argument(
        "--threshold",
        type=_threshold,
        metavar="T",
        help="relative difference; default: each report's",
    )
    judge.add_argument(
        "--strict", action="store_true", help="what is not decided, or damaged, is a failure"
    )
    judge.set_defaults(command=_judge)
    for command in (show, judge):
        command.add_argument(
            "log_dir", metavar="LOG_DIR", help=f"every {FILE_NAME} in it and below is a run"
        )
        command.add_argument(
            "--json", action="store_true", help="one JSON object a line, with the name of its run"
        )
    return parser
