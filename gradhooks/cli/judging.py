"""`gradhooks judge`: judges stored reports, also under another threshold."""

import argparse
import collections
import dataclasses
import functools
import sys
from collections.abc import Sequence

from gradhooks.cli.formats import build_junit, list_annotations
from gradhooks.cli.reading import FAILED, Fit, count_of, describe_left_out, read_fits, warn
from gradhooks.cli.showing import Outcome, print_json
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import ROWS, headline
from gradhooks.reports.text import location, omission, printable, rough
from gradhooks.sinks.console import console
from gradhooks.verdicts.rejudge import rejudge

# A report as it was, and as it is judged now.
Pair = tuple[CheckReport, CheckReport]


def judge(options: argparse.Namespace) -> Outcome:
    """Returns the exit status, and a function that prints the verdicts."""
    fits, status = read_fits(options.log_dir, options.all_fits)
    judged = [_rejudge_fit(fit, options.threshold) for fit in fits]
    pairs: list[list[Pair]] = []
    for fit, other in zip(fits, judged, strict=True):
        pairs.append(list(zip(fit.reports, other.reports, strict=True)))
    _warn_of_coarse_numbers([pair for of_fit in pairs for pair in of_fit])

    verdicts = collections.Counter(new.verdict for of_fit in pairs for _, new in of_fit)
    is_open = verdicts[Verdict.INCONCLUSIVE] or any(fit.damaged for fit in fits)
    if verdicts[Verdict.FAIL] or (options.strict and is_open):
        status = FAILED
    if options.format == "json":
        return status, functools.partial(print_json, judged)
    if options.format == "github":
        return status, functools.partial(_print_annotations, judged, verdicts, options.strict)
    if options.format == "junit":
        return status, lambda: print(build_junit(judged, options.strict))
    return status, functools.partial(_print_judged, judged, pairs, verdicts)


def _rejudge_fit(fit: Fit, threshold: float | None) -> Fit:
    if threshold is None:
        return fit
    judged = tuple(rejudge(report, threshold) for report in fit.reports)
    return dataclasses.replace(fit, reports=judged)


def _warn_of_coarse_numbers(pairs: Sequence[Pair]) -> None:
    """Warns of new failures under a threshold smaller than the one that was measured for."""
    failed: list[CheckReport] = []
    for old, new in pairs:
        if new.threshold < old.threshold and len(new.failures) > len(old.failures):
            failed.append(new)
    if failed:
        reports = count_of(len(failed), "report")
        warn(
            [
                f"{reports} with new failures under a threshold smaller than that of the check, "
                "which measured no finer than it had to. "
                f"Try GradientCheck(..., threshold={failed[0].threshold:g})"
            ]
        )


def _print_annotations(
    fits: Sequence[Fit], verdicts: collections.Counter[Verdict], is_strict: bool
) -> None:
    for line in list_annotations(fits, is_strict):
        print(line)
    if fits:
        print(summarize(verdicts)[0])


def _print_judged(
    fits: Sequence[Fit], pairs: Sequence[Sequence[Pair]], verdicts: collections.Counter[Verdict]
) -> None:
    out = console(sys.stdout)
    for fit, of_fit in zip(fits, pairs, strict=True):
        counts = collections.Counter(new.verdict for _, new in of_fit)
        known = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
        out.heading(f"{fit.title}: {count_of(len(of_fit), 'report')}: {', '.join(known)}")
        if fit.left_out:
            out.line(describe_left_out(fit))
        remarkable: list[Pair] = []
        for old, new in of_fit:
            if {old.verdict, new.verdict} != {Verdict.PASS}:
                remarkable.append((old, new))
        if len(remarkable) > ROWS:
            out.line(omission(len(remarkable) - ROWS, "before these"))
        for old, new in remarkable[-ROWS:]:
            out.line(_outcome(old, new), new.verdict)
    if pairs:
        out.line(*summarize(verdicts))


def _outcome(old: CheckReport, new: CheckReport) -> str:
    """One line on a report that does not simply pass."""
    before = "" if old.verdict is new.verdict else f"; {old.verdict} under {rough(old.threshold)}"
    line = f"{headline(new)}; threshold {rough(new.threshold)}{before}"
    if not new.failures:
        return line
    worst = new.failures[0]
    return (
        f"{line}; {count_of(len(new.failures), 'failure')}, the worst: {location(worst.label)}, "
        f"term {printable(worst.term)}, relative difference {rough(worst.relative_difference)}, "
        f"gap {rough(worst.gap)}, allowed {rough(worst.allowed)}"
    )


def summarize(verdicts: collections.Counter[Verdict]) -> tuple[str, Verdict]:
    """Returns the verdict on all reports together, in one line, and by itself."""
    count = count_of(verdicts.total(), "report")
    if verdicts[Verdict.FAIL]:
        return f"FAIL: {verdicts[Verdict.FAIL]} of {count}", Verdict.FAIL
    if verdicts[Verdict.INCONCLUSIVE]:
        undecided = f"{verdicts[Verdict.INCONCLUSIVE]} of {count} could not be decided"
        return f"INCONCLUSIVE: nothing fails, but {undecided}", Verdict.INCONCLUSIVE
    return f"PASS: {count}", Verdict.PASS
