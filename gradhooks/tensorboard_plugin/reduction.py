"""Reduces one stored report to a column of the matrix, with what the page says about it."""

import dataclasses
import json
import math
from typing import Any

import numpy as np

from gradhooks.reports.actions import reproduction
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import TERMS, TRAINED
from gradhooks.reports.report import CheckReport
from gradhooks.reports.text import location
from gradhooks.tensorboard_plugin.answers import describe_answer, describe_title, is_named
from gradhooks.tensorboard_plugin.cells import (
    ALL_TERMS,
    build_cells,
    group_comparisons,
    smallest_trained_threshold,
)
from gradhooks.tensorboard_plugin.parsing import (
    UnreadableError,
    clip,
    parse_fields,
    parse_label,
    parse_number,
    read_text,
)

# Findings of a check in the list of failures; a free choice, to keep the page short.
SHOWN_FINDINGS = 5
# Stands for a verdict where there is no report.
UNREADABLE = "UNREADABLE"


@dataclasses.dataclass(frozen=True)
class Column:
    """One check as a column of the matrix.

    Args:
        step: Step under which the check was stored.
        wall_time: Seconds since 1970 at which it was.
        verdict: Name of the verdict; `UNREADABLE` for what is no report.
        reason: The reason in lower case, or why it cannot be read.
        positions: Label of a variable -> flat index of a parameter in it.
        cells: Term -> (labels, uint8 codes, uint8 levels), one entry per variable.
        differences: Term -> relative difference of the whole check.
        thresholds: Term -> what is drawn as its threshold.
        failure: The entry in the list of failures, or None.
        answer: Where the error is made, see `answers.describe_answer`, or None.
        facts: Circumstances for people.
        fit: Id of the fit; empty where it is not known.
    """

    step: int
    wall_time: float
    verdict: str
    reason: str
    positions: dict[str, int] = dataclasses.field(default_factory=dict)
    cells: dict[str, tuple] = dataclasses.field(default_factory=dict)
    differences: dict[str, float] = dataclasses.field(default_factory=dict)
    thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    failure: dict[str, Any] | None = None
    answer: dict[str, Any] | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    fit: str = ""


def reduce_report(step: int, wall_time: float, value: np.ndarray) -> Column:
    """Returns a stored tensor as a `Column`, whatever it holds.

    Args:
        step: Step under which it was stored.
        wall_time: Seconds since 1970 at which it was.
        value: NumPy array that should hold one JSON text.
    """
    try:
        return _column(step, wall_time, parse_fields(read_text(value)))
    except UnreadableError as error:
        reason = str(error)
    # Any program may have written the event file; one bad report must not hide the others.
    except Exception as error:
        reason = f"a field of the report is not what it should be ({type(error).__name__})"
    failure = {
        "step": step,
        "wall_time": wall_time,
        "kind": "unreadable",
        "findings": [],
        "more": 0,
        "note": reason,
    }
    return Column(step, wall_time, UNREADABLE, reason, failure=failure)


def _column(step: int, wall_time: float, fields: dict[str, Any]) -> Column:
    comparisons = fields["comparisons"]
    failed = [c for c in comparisons if c["verdict"] == Verdict.FAIL.name]
    # Reading it as a record checks everything except the comparisons, of which some failed ones are
    # enough for the list of failures.
    kept = {**fields, "comparisons": failed[:SHOWN_FINDINGS]}
    report = CheckReport.from_json(json.dumps(kept))

    groups = group_comparisons(comparisons)
    positions: dict[str, int] = {}
    for (name, _), entries in groups.items():
        positions.setdefault(name, entries[0].position)

    cells, differences = {}, {}
    for term in ALL_TERMS:
        cells[term] = build_cells(groups, term)
        differences[term] = parse_number(report.relative_difference.get(term, math.nan))
    thresholds = dict.fromkeys(TERMS, report.threshold)
    thresholds[TRAINED] = smallest_trained_threshold(groups)

    return Column(
        step,
        wall_time,
        report.verdict.name,
        str(report.reason),
        positions,
        cells,
        differences,
        thresholds,
        _failure(step, wall_time, report, len(failed)),
        describe_answer(report),
        _facts(report),
        report.origin.fit,
    )


def _failure(step: int, wall_time: float, report: CheckReport, count: int) -> dict[str, Any] | None:
    """The entry in the list of failures: what is wrong where, and the line that reproduces it."""
    if not report.error and report.verdict is not Verdict.FAIL:
        return None
    diagnoses = sorted(report.diagnoses, key=lambda d: not d.is_leading)
    findings = []
    for d in diagnoses[:SHOWN_FINDINGS]:
        findings.append(_finding(d.path, location(d.path), clip(d.sentence), is_named(d, report)))
    if not findings:
        for c in report.failures:
            findings.append(_finding(c.path, location(c.label), c.reason.explanation))
    return {
        "step": step,
        "wall_time": wall_time,
        "kind": "error" if report.error else "fail",
        "count": count,
        "made_in": "" if report.culprit is None else clip(describe_title(report.culprit)),
        "findings": findings,
        "more": max(0, len(diagnoses) - SHOWN_FINDINGS),
        "note": clip(report.error or report.reason.explanation),
        "reproduction": clip(reproduction(report)),
    }


def _finding(path: str, place: str, sentence: str, is_leading: bool = False) -> dict[str, Any]:
    return {
        "variable": parse_label(path),
        "place": place,
        "sentence": sentence,
        "is_place": is_leading,
    }


def _facts(report: CheckReport) -> dict[str, Any]:
    coverage = report.coverage
    return {
        "level": clip(report.precision.level, 40),
        "note": clip(report.precision.note),
        "variables": int(coverage.variables),
        "variables_total": int(coverage.variables_total),
        "parameters": int(coverage.parameters),
        "parameters_total": int(coverage.parameters_total),
        "samples": int(report.samples),
        "seconds": float(report.seconds),
    }
