"""The answer of a failed check: in one sentence what is wrong and where, then what else is known.

Of the variables that fail by one error all but the guilty one are innocent: they are
counted in one line, and nothing is said about each.
"""

from collections.abc import Iterable

from gradhooks.reports.culprit import Culprit
from gradhooks.reports.evidence import summarize
from gradhooks.reports.reasons import Reason
from gradhooks.reports.records import TRAINED, Diagnosis, Report
from gradhooks.reports.text import list_names, location, printable

# Reasons of an error in a backward pass, which has a place.
OF_BACKPROPAGATION = (
    Reason.MISMATCH,
    Reason.BLOCKED,
    Reason.NON_FINITE_GRADIENT,
    Reason.GRADIENT_FAILS,
)


def describe_finding(report: Report) -> str:
    """Returns what is wrong and where, in one sentence.

    Where the place of the error is not known, the sentence is about the variable
    in which it was measured, and says so.
    """
    if report.culprit is not None:
        return printable(report.culprit.sentence)
    lead = _leading_diagnosis(report)
    if lead is not None:
        found, terms = diagnosis_line(lead), set(lead.terms)
        reach = " (it lies there, or nearer to the loss)"
    elif report.failures:
        worst = report.failures[0]
        found, terms = f"{location(worst.label)}: {summarize(worst)}", {worst.term}
        reach = ""
    else:
        return report.reason.explanation
    reasons = {c.reason for c in report.failures if c.term != TRAINED}
    has_place = report.checked != "function" and not reasons.isdisjoint(OF_BACKPROPAGATION)
    if not has_place or terms == {TRAINED}:
        return found
    return f"the place could not be told; the error was measured in {found}{reach}"


def list_evidence_of_place(report: Report) -> list[str]:
    """Returns what was measured at the place of the error, and whom the error reaches; a line each.

    Then come the errors that are others, or could not be told from others.
    """
    lines: list[str] = []
    culprit = report.culprit
    if culprit is not None:
        lines += [printable(sentence) for sentence in culprit.evidence]
        lines += _count_heirs(culprit)
    return [*lines, *_list_others(report)]


def diagnosis_line(diagnosis: Diagnosis) -> str:
    """Returns a diagnosis in one line: where, and what is wrong there."""
    return f"{location(diagnosis.path)}: {printable(diagnosis.sentence)}"


def merge_diagnoses(diagnoses: Iterable[Diagnosis], known: str | None = None) -> list[str]:
    """Returns a line for every different sentence, with all the places it holds for.

    Args:
        diagnoses: `Diagnosis` records.
        known: A sentence shown before, for which `the same` stands.
    """
    places: dict[str, dict[str, None]] = {}
    for d in diagnoses:
        places.setdefault(d.sentence, {})[location(d.path)] = None
    lines: list[str] = []
    for sentence, paths in places.items():
        shown = "the same" if sentence == known else printable(sentence)
        lines.append(f"{list_names(list(paths))}: {shown}")
    return lines


def is_guilty(culprit: Culprit, path: str) -> bool:
    """Whether a variable is what the error was measured in, or belongs to the layer that makes it.

    Args:
        culprit: The `Culprit`.
        path: Path of the variable.
    """
    is_weight = culprit.kind == "layer" and path.rpartition("/")[0] == culprit.path
    return is_weight or path in (culprit.variable, culprit.path)


def _count_heirs(culprit: Culprit) -> list[str]:
    count = len(culprit.heirs)
    if not count:
        return []
    if count == 1:
        return [f"1 variable below it inherits the error: {printable(culprit.heirs[0])}"]
    return [f"{count} variables below it inherit the error"]


def _list_others(report: Report) -> list[str]:
    """The diagnoses that the finding does not cover."""
    culprit = report.culprit
    if culprit is None:
        lead = _leading_diagnosis(report)
        known = None if lead is None else lead.sentence
        return merge_diagnoses([d for d in report.diagnoses if d is not lead], known)
    others: list[Diagnosis] = []
    # Of the step itself: NaN of backpropagation reaches the optimizer as well.
    changed: set[str] = set()
    for c in report.failures:
        if c.term == TRAINED and c.reason not in OF_BACKPROPAGATION:
            changed.add(c.path)
    for d in report.diagnoses:
        is_known = d.path in culprit.heirs or is_guilty(culprit, d.path)
        if set(d.terms) == {TRAINED} and d.path in changed:
            is_known = printable(d.sentence) in culprit.sentence
        if not is_known:
            others.append(d)
    return [f"besides, {line}" for line in merge_diagnoses(others, culprit.finding)]


def _leading_diagnosis(report: Report) -> Diagnosis | None:
    """The diagnosis that leads, else the first one; None without diagnoses."""
    for diagnosis in report.diagnoses:
        if diagnosis.is_leading:
            return diagnosis
    return report.diagnoses[0] if report.diagnoses else None
