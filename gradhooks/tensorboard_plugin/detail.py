"""Everything that one report says about one variable, for the panel that a cell opens."""

import json
import math

from gradhooks.reports.message import declaration, reproduction
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import circumstances, worst_first
from gradhooks.reports.text import location, printable
from gradhooks.tensorboard_plugin.reduction import (
    ALL_TERMS,
    SHOWN_FINDINGS,
    UnreadableError,
    clip,
    fields,
    label,
)

# Of a large report the panel shows this many comparisons of the variable, and points in the
# scatter.
MOST_COMPARISONS, MOST_POINTS = 200, 4000
_DERIVATIVE_NUMBERS = (
    "analytic",
    "numeric",
    "error",
    "step_size",
    "relative_difference",
    "left",
    "right",
    "allowed",
    "gap",
)
_GRADIENT_NUMBERS = (
    "analytic_norm",
    "received_norm",
    "distance",
    "relative_difference",
    "allowed",
    "cosine",
    "ratio",
    "zeros",
)


def detail(stored, variable):
    """Returns what a stored report says about a variable, as a dict for JSON.

    Args:
        stored: JSON text of a `CheckReport`.
        variable: Label of the variable, `"*"` for the direction over all.

    Raises:
        UnreadableError: If the text is no report.
    """
    report = _report(stored)
    try:
        return _detail(report, variable)
    except UnreadableError:
        raise
    # A report that has all fields, but of kinds that nobody can add up or print.
    except Exception as error:
        raise UnreadableError(
            f"a field of the report is not what it should be ({type(error).__name__})"
        ) from error


def _report(stored):
    try:
        return CheckReport.from_json(json.dumps(fields(stored)))
    except UnreadableError:
        raise
    except Exception as cause:
        raise UnreadableError("the JSON does not have the fields of a report") from cause


def _detail(report, variable):
    own = worst_first([c for c in report.comparisons if label(c.path) == variable])
    return {
        "variable": variable,
        "place": location(variable),
        "verdict": report.verdict.name,
        "reason": str(report.reason),
        "threshold": float(report.threshold),
        "comparisons": [_comparison(c) for c in own[:MOST_COMPARISONS]],
        "left_out": max(0, len(own) - MOST_COMPARISONS),
        "diagnosis": next(
            (_diagnosis(d) for d in report.diagnoses if label(d.path) == variable), None
        ),
        "culprit": next((_diagnosis(d) for d in report.diagnoses if d.is_culprit), None),
        "advice": _advice(own),
        "points": {term: _points(report.comparisons, term, variable) for term in ALL_TERMS},
        "reproduction": clip(reproduction(report)),
        "circumstances": clip(circumstances(report)),
        "notes": _notes(report),
        "error": clip(report.error, 2000),
    }


def _comparison(comparison):
    shown = {
        "term": comparison.term,
        "verdict": comparison.verdict.name,
        "reason": str(comparison.reason),
    }
    if isinstance(comparison, GradientComparison):
        shown["dtype"] = clip(comparison.dtype, 40)
        numbers = _GRADIENT_NUMBERS
    else:
        shown["index"] = comparison.label.removeprefix(comparison.path)
        numbers = _DERIVATIVE_NUMBERS
    for name in numbers:
        shown[name] = float(getattr(comparison, name))
    return shown


def _diagnosis(diagnosis):
    return {
        "variable": label(diagnosis.path),
        "place": location(diagnosis.path),
        "sentence": clip(diagnosis.sentence, 2000),
        "culprit": bool(diagnosis.is_culprit),
        "ratio": float(diagnosis.ratio),
        "cosine": float(diagnosis.cosine),
    }


def _advice(comparisons):
    """What each reason found means and what to do about it; what is well only where there is nothing else to say."""
    reasons = dict.fromkeys(c.reason for c in comparisons)
    telling = [r for r in reasons if r not in (Reason.AGREES, Reason.VACUOUS)] or list(reasons)
    told = [(str(reason), reason.explanation) for reason in telling]
    # What is said of failures that are meant is the same as in the warning.
    told += [
        clip(line).split(" ", 1)
        for line in declaration([c for c in comparisons if c.verdict is Verdict.FAIL])
    ]
    return [{"reason": reason, "explanation": explanation} for reason, explanation in told]


def _points(comparisons, term, variable):
    """What the scatter of a term draws: the points of the variable last, on top of the others.

    A point is `[x, y, is_failed, is_own]`: the analytic and the numeric
    derivative, or the two norms of whole gradients.
    """
    own, others = [], []
    for c in comparisons:
        if c.term != term or (c.path == EVERYTHING and variable != EVERYTHING):
            continue
        x, y = _coordinates(c)
        if not math.isfinite(x) or not math.isfinite(y):
            continue
        is_own = label(c.path) == variable
        point = [x, y, int(c.verdict is Verdict.FAIL), int(is_own)]
        (own if is_own else others).append(point)
    return [*others[: max(0, MOST_POINTS - len(own))], *own[:MOST_POINTS]]


def _coordinates(comparison):
    if isinstance(comparison, GradientComparison):
        return comparison.analytic_norm, comparison.received_norm
    return comparison.analytic, comparison.numeric


def _notes(report):
    told = [*report.trail[:SHOWN_FINDINGS], report.precision.note, *report.notes[:SHOWN_FINDINGS]]
    return [clip(printable(note)) for note in told if note]
