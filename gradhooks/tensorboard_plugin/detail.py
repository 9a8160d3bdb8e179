"""Everything that one report says about one variable, for the panel that a cell opens."""

import json
import math

from gradhooks.reports.message import declaration, reproduction
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import circumstances, worst_first
from gradhooks.reports.text import location, printable
from gradhooks.tensorboard_plugin.reduction import (
    ALL_VARIABLES,
    SHOWN_FINDINGS,
    TERMS,
    UnreadableError,
    clip,
    fields,
    label,
)

# Of a large report the panel shows this many comparisons of the variable, and points in the
# scatter.
MOST_COMPARISONS, MOST_POINTS = 200, 4000
_NUMBERS = (
    "analytic",
    "numeric",
    "error",
    "step",
    "relative_difference",
    "left",
    "right",
    "allowed",
    "gap",
    "distance",
    "cosine",
    "scale",
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
        "points": {term: _points(report.comparisons, term, variable) for term in TERMS},
        "reproduction": clip(reproduction(report)),
        "circumstances": clip(circumstances(report)),
        "notes": _notes(report),
        "error": clip(report.error, 2000),
    }


def _comparison(comparison):
    index = comparison.index
    return {
        "index": "" if index is None else f"[{', '.join(str(int(i)) for i in index)}]",
        "term": clip(comparison.term, 40),
        "verdict": comparison.verdict.name,
        "reason": str(comparison.reason),
        "dtype": clip(comparison.dtype, 40),
        **{name: float(getattr(comparison, name)) for name in _NUMBERS},
    }


def _diagnosis(diagnosis):
    return {
        "variable": label(diagnosis.path),
        "place": location(diagnosis.path),
        "sentence": clip(diagnosis.sentence, 2000),
        "culprit": bool(diagnosis.is_culprit),
        "scale": float(diagnosis.ratio),
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
    """Analytic and numeric derivative of the comparisons in a term, the variable's own last, to be drawn on top."""
    of_term = [
        c
        for c in comparisons
        if c.term == term and (c.path != ALL_VARIABLES or variable == ALL_VARIABLES)
    ]
    known = [c for c in of_term if math.isfinite(c.analytic) and math.isfinite(c.numeric)]
    own = [c for c in known if label(c.path) == variable]
    others = [c for c in known if label(c.path) != variable]
    shown = [*others[: max(0, MOST_POINTS - len(own))], *own[:MOST_POINTS]]
    return [
        [c.analytic, c.numeric, int(c.verdict is Verdict.FAIL), int(label(c.path) == variable)]
        for c in shown
    ]


def _notes(report):
    told = [*report.trail[:SHOWN_FINDINGS], report.precision.note, *report.notes[:SHOWN_FINDINGS]]
    return [clip(printable(note)) for note in told if note]
