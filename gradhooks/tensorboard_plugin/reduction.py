"""Reduces one stored report to what the overview shows: a code and a level per variable and term.

A run may hold hundreds of reports of thousands of comparisons each. Making
records of all of them would take half a minute, so the fields that the overview
needs are read from the JSON directly. The JSON may hold anything.
"""

import dataclasses
import json
import math

import numpy as np

from gradhooks.reports.message import reproduction
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TERMS, TRAINED, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.reports.serialization import rename_old_fields
from gradhooks.reports.text import location, printable

# In order of severity: of several comparisons of one variable the most severe is shown.
CODES = ("unsampled", "vacuous", "pass", "declared", "inconclusive", "fail")
ALL_TERMS = (*TERMS, TRAINED)
# Levels 0 to 254 are log10 of the relative difference from -18 to 0. A byte per cell keeps a long
# run small; -18 lies below the smallest relative difference that float64 resolves.
LOWEST, UNKNOWN = -18.0, 255
_VACUOUS = CODES.index("vacuous")
_LEVELS = UNKNOWN - 1
# Free choices: characters of a name and of a sentence, findings in the list of failures, and bytes
# of a report, to keep page and server responsive whatever an event file holds.
LONGEST_LABEL, LONGEST_TEXT, SHOWN_FINDINGS = 1000, 500, 5
LARGEST_REPORT = 32 * 2**20
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class UnreadableError(ValueError):
    """A stored tensor is no report; the message is for people and safe to show."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One check as a column of the matrix.

    Args:
        step: Step under which the check was stored.
        wall_time: Seconds since 1970 at which it was.
        verdict: Name of the verdict; `"UNREADABLE"` for what is no report.
        reason: The reason in lower case, or why it cannot be read.
        positions: Label of a variable -> flat index of a parameter in it.
        cells: Term -> (labels, uint8 codes, uint8 levels), one entry per variable.
        differences: Term -> relative difference of the whole check.
        thresholds: Term -> what is drawn as its threshold.
        failure: The entry in the list of failures, or None.
        facts: Circumstances for people.
    """

    step: int
    wall_time: float
    verdict: str
    reason: str
    positions: dict = dataclasses.field(default_factory=dict)
    cells: dict = dataclasses.field(default_factory=dict)
    differences: dict = dataclasses.field(default_factory=dict)
    thresholds: dict = dataclasses.field(default_factory=dict)
    failure: dict | None = None
    facts: dict = dataclasses.field(default_factory=dict)


def column(step, wall_time, value):
    """Returns a stored tensor as a `Column`, whatever it holds.

    Args:
        step: Step under which it was stored.
        wall_time: Seconds since 1970 at which it was.
        value: NumPy array that should hold one JSON text.
    """
    try:
        return _column(step, wall_time, fields(text(value)))
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
    return Column(step, wall_time, "UNREADABLE", reason, failure=failure)


def text(value):
    """Returns the text that a stored tensor holds.

    Raises:
        UnreadableError: If it is not a single, reasonably small text.
    """
    if value.size != 1 or value.dtype.kind not in "OSU":
        raise UnreadableError("the tensor does not hold one text")
    stored = value.reshape(-1)[0]
    if not isinstance(stored, (bytes, str)):
        raise UnreadableError("the tensor does not hold one text")
    if len(stored) > LARGEST_REPORT:
        raise UnreadableError(f"the report is larger than {LARGEST_REPORT // 2**20} MB")
    return stored if isinstance(stored, str) else stored.decode("utf-8", "replace")


def fields(stored):
    """Returns the fields of a report as a dict.

    Raises:
        UnreadableError: If the text is not a JSON object.
    """
    try:
        found = json.loads(stored)
    except (ValueError, RecursionError) as cause:
        raise UnreadableError("the text is not JSON; it may have been cut off") from cause
    if not isinstance(found, dict):
        raise UnreadableError("the JSON is not an object with the fields of a report")
    return found


def label(path):
    """Returns a variable's path as it is shown and asked for: one line, no control characters.

    Raises:
        UnreadableError: If it is not a path.
    """
    if not isinstance(path, str) or len(path) > LONGEST_LABEL:
        raise UnreadableError(
            f"the path of a variable is not a text of at most {LONGEST_LABEL} characters"
        )
    return printable(path)


def clip(words, longest=LONGEST_TEXT):
    """Returns text for people in one line, cut to `longest` characters."""
    shown = printable(words)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def level(difference):
    """Returns a relative difference as a byte, `UNKNOWN` for NaN and infinities.

    Example:

    >>> level(0.0), level(1.0), level(float("nan"))
    (0, 254, 255)
    """
    if not math.isfinite(difference) or difference < 0:
        return UNKNOWN
    decades = math.log10(max(difference, 10**LOWEST))
    return round(min(1.0, 1.0 - decades / LOWEST) * _LEVELS)


def _column(step, wall_time, report):
    comparisons = report["comparisons"]
    failed = [c for c in comparisons if c["verdict"] == Verdict.FAIL.name]
    # Reading it as a record checks everything except the comparisons, of which some failed ones are
    # enough for the list of failures.
    shown = CheckReport.from_json(json.dumps({**report, "comparisons": failed[:SHOWN_FINDINGS]}))
    groups = _group(comparisons)
    positions = {}
    for (name, _), group in groups.items():
        positions.setdefault(name, group[0][_POSITION])
    thresholds = dict.fromkeys(TERMS, shown.threshold) | {TRAINED: _trained_threshold(groups)}
    return Column(
        step,
        wall_time,
        shown.verdict.name,
        str(shown.reason),
        positions,
        {term: _cells(groups, term) for term in ALL_TERMS},
        {term: _number(shown.relative_difference.get(term, math.nan)) for term in ALL_TERMS},
        thresholds,
        _failure(step, wall_time, shown, len(failed)),
        _facts(shown),
    )


_CODE, _ANALYTIC, _NUMERIC, _GAP, _ALLOWED, _POSITION = range(6)


def _group(comparisons):
    """(label, term) -> [(code, analytic, numeric, gap, allowed, position), ...].

    Of whole gradients the two numbers are norms, and the gap is their distance.
    """
    groups = {}
    labels = {}
    for c in comparisons:
        path = c["path"]
        if path not in labels:
            labels[path] = label(path)
        if c["term"] == TRAINED:
            stored = rename_old_fields(GradientComparison, c)
            analytic, numeric = _number(stored["analytic_norm"]), _number(stored["received_norm"])
            gap = _number(stored["distance"])
        else:
            analytic, numeric = _number(c["analytic"]), _number(c["numeric"])
            gap = abs(analytic - numeric)
        code = _CODES_BY_NAME[c["verdict"], c["reason"]]
        entry = (code, analytic, numeric, gap, _number(c["allowed"]), int(c["position"]))
        groups.setdefault((labels[path], c["term"]), []).append(entry)
    return groups


def _code(verdict, reason):
    if reason is Reason.VACUOUS:
        return CODES.index("vacuous")
    return CODES.index("declared" if reason is Reason.DECLARED else verdict.value)


# A table by name, as a long run looks up a million of them.
_CODES_BY_NAME = {(v.name, r.name): _code(v, r) for v in Verdict for r in Reason}


def _cells(groups, term):
    """The labels of the variables compared in a term, with a code and a level for each."""
    found = [(name, group) for (name, of), group in groups.items() if of == term]
    codes = np.array([max(entry[_CODE] for entry in group) for _, group in found], np.uint8)
    levels = np.array([level(_difference(group)) for _, group in found], np.uint8)
    return [name for name, _ in found], codes, levels


def _difference(group):
    """`||a - n|| / (||a|| + ||n||)` over the comparisons of a variable, without vacuous ones."""
    entries = [entry for entry in group if entry[_CODE] != _VACUOUS]
    if not entries:
        return math.nan
    if len(entries) == 1:
        (only,) = entries
        gap, size = only[_GAP], abs(only[_ANALYTIC]) + abs(only[_NUMERIC])
    else:
        gap = math.hypot(*(e[_GAP] for e in entries))
        analytic = math.hypot(*(e[_ANALYTIC] for e in entries))
        numeric = math.hypot(*(e[_NUMERIC] for e in entries))
        size = analytic + numeric
    return gap / size if size > 0 else gap


def _trained_threshold(groups):
    """The smallest relative difference that the precision of training allowed a variable."""
    fractions = []
    for (_, term), group in groups.items():
        for entry in group if term == TRAINED else ():
            norms = entry[_ANALYTIC] + entry[_NUMERIC]
            if norms > 0 and math.isfinite(entry[_ALLOWED] / norms):
                fractions.append(entry[_ALLOWED] / norms)
    return min(fractions, default=math.nan)


def _failure(step, wall_time, report, count):
    """The entry in the list of failures: what is wrong where, and the line that reproduces it."""
    if not report.error and report.verdict is not Verdict.FAIL:
        return None
    diagnoses = sorted(report.diagnoses, key=lambda d: not d.is_culprit)
    findings = []
    for d in diagnoses[:SHOWN_FINDINGS]:
        findings.append(_finding(d.path, location(d.path), clip(d.sentence), d.is_culprit))
    if not findings:
        for c in report.failures:
            findings.append(_finding(c.path, location(c.label), c.reason.explanation))
    return {
        "step": step,
        "wall_time": wall_time,
        "kind": "error" if report.error else "fail",
        "count": count,
        "findings": findings,
        "more": max(0, len(diagnoses) - SHOWN_FINDINGS),
        "note": clip(report.error or report.reason.explanation),
        "reproduction": clip(reproduction(report)),
    }


def _finding(path, place, sentence, is_culprit=False):
    return {
        "variable": label(path),
        "place": place,
        "sentence": sentence,
        "culprit": is_culprit,
    }


def _facts(report):
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


def _number(value):
    """The number in a field of stored JSON, where infinities and NaN are strings."""
    if type(value) is float:
        return value
    if isinstance(value, str):
        return _NUMBERS[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a number is needed, not {type(value).__name__}")
    return float(value)
