"""What one report says about one variable, for the panel that a cell opens."""

import json
import math

from gradhooks.reports.actions import declaration, reproduction
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, TERMS, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import circumstances, worst_first
from gradhooks.reports.text import location, printable
from gradhooks.tensorboard_plugin.answers import describe_answer, is_named
from gradhooks.tensorboard_plugin.cells import ALL_TERMS
from gradhooks.tensorboard_plugin.parsing import UnreadableError, clip, parse_fields, parse_label
from gradhooks.tensorboard_plugin.reduction import SHOWN_FINDINGS

# The panel shows this many comparisons of the variable, and points in the scatter; free choices, to
# keep the page of a large report quick.
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


def describe_variable(stored, variable):
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
    # All fields are there and of their types, but their values cannot be shown.
    except Exception as error:
        raise UnreadableError(
            f"a field of the report is not what it should be ({type(error).__name__})"
        ) from error


def _report(stored):
    try:
        return CheckReport.from_json(json.dumps(parse_fields(stored)))
    except UnreadableError:
        raise
    except Exception as cause:
        raise UnreadableError("the JSON does not have the fields of a report") from cause


def _detail(report, variable):
    own = worst_first([c for c in report.comparisons if parse_label(c.path) == variable])
    return {
        "variable": variable,
        "place": location(variable),
        "verdict": report.verdict.name,
        "reason": str(report.reason),
        "threshold": float(report.threshold),
        "comparisons": [_comparison(c) for c in own[:MOST_COMPARISONS]],
        "left_out": max(0, len(own) - MOST_COMPARISONS),
        "diagnosis": _first(
            [d for d in report.diagnoses if parse_label(d.path) == variable], report
        ),
        "answer": describe_answer(report),
        "advice": _advice(own, report),
        # The term of what is worst, for the scatter of the worst term.
        "worst_term": own[0].term if own else TERMS[0],
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
        shown["pooled"] = int(comparison.pooled)
        numbers = _DERIVATIVE_NUMBERS
    for name in numbers:
        shown[name] = float(getattr(comparison, name))
    return shown


def _first(diagnoses, report):
    """The first of some diagnoses as a dict; None without any."""
    if not diagnoses:
        return None
    diagnosis = diagnoses[0]
    return {
        "variable": parse_label(diagnosis.path),
        "place": location(diagnosis.path),
        "sentence": clip(diagnosis.sentence, 2000),
        "is_place": is_named(diagnosis, report),
        "ratio": float(diagnosis.ratio),
        "cosine": float(diagnosis.cosine),
    }


def _advice(comparisons, report):
    """What every reason means and what to do about it; agreement only if there is nothing else."""
    reasons = list(dict.fromkeys(c.reason for c in comparisons))
    remarkable = [r for r in reasons if r not in (Reason.AGREES, Reason.VACUOUS)]
    advice = []
    for reason in remarkable or reasons:
        advice.append({"reason": str(reason), "explanation": reason.explanation})
    # How to declare intended failures, in the words of the warning.
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL]
    if failed and report.culprit is not None:
        failed = report.failures  # what is declared is the layer, with all that it affects
    for line in declaration(failed, report.culprit):
        heading, explanation = clip(line).split(": ", 1)
        advice.append({"reason": heading, "explanation": explanation})
    return advice


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
        is_own = parse_label(c.path) == variable
        point = [x, y, int(c.verdict is Verdict.FAIL), int(is_own)]
        (own if is_own else others).append(point)
    return [*others[: max(0, MOST_POINTS - len(own))], *own[:MOST_POINTS]]


def _coordinates(comparison):
    if isinstance(comparison, GradientComparison):
        return comparison.analytic_norm, comparison.received_norm
    return comparison.analytic, comparison.numeric


def _notes(report):
    trail, notes = report.trail[:SHOWN_FINDINGS], report.notes[:SHOWN_FINDINGS]
    return [clip(printable(note)) for note in (*trail, report.precision.note, *notes) if note]
