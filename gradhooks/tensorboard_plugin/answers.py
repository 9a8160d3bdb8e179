"""What is wrong with a run, and since when: one answer for each place, over all its checks."""

from typing import Any

from gradhooks.reports.answer import describe_finding, is_guilty
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import Diagnosis
from gradhooks.reports.report import CheckReport
from gradhooks.reports.text import printable
from gradhooks.tensorboard_plugin.parsing import clip, parse_label

# Characters of a sentence and lines of evidence; free choices, more than a check writes.
_LONGEST, _MOST = 2000, 8
# What is said in front of the path.
_KINDS = {"layer": "layer", "loss": "loss", "regularizer": "regularizer of"}


def describe_answer(report: CheckReport) -> dict[str, Any] | None:
    """Returns what a failed report says about the place of its error, as a dict for JSON.

    `key` is the same for checks with the same answer. None for a report that did
    not fail.
    """
    if report.verdict is not Verdict.FAIL:
        return None
    found, sentence = report.culprit, clip(describe_finding(report), _LONGEST)
    if found is None:
        # Which variables are sampled, and so which comes first, changes from check to check.
        return {
            "key": ["", report.reason.name, ""],
            "title": report.reason.headline,
            "sentence": sentence,
            "source": "",
            "evidence": [],
            "has_layers": False,
            "variable": _lead(report),
        }
    return {
        "key": [found.kind, printable(found.path), str(found.call)],
        "title": describe_title(found),
        "sentence": sentence,
        "source": clip(found.source or found.package, _LONGEST),
        "evidence": [clip(line, _LONGEST) for line in found.evidence[:_MOST]],
        "has_layers": bool(found.taps),
        "variable": _lead(report),
    }


def describe_title(found: Culprit) -> str:
    """Returns the place of an error in a few words."""
    title = f"{_KINDS.get(found.kind, '')} {clip(found.path, 200)}".strip()
    return title if found.call is None else f"{title}, call {found.call + 1}"


def is_named(diagnosis: Diagnosis, report: CheckReport) -> bool:
    """Whether a variable is where the error is made, and not only affected by it."""
    found = report.culprit
    return found is not None and is_guilty(found, diagnosis.path)


def group_answers(checks: list[tuple[int, str, dict[str, Any] | None]]) -> list[dict[str, Any]]:
    """Returns the answers of a run: those of its latest check first, then the later ones.

    Args:
        checks: (step, name of the verdict, what `describe_answer` returned) of the
            checks, by step.

    Returns:
        list of dicts for JSON: the latest answer of its kind with `step`, the step of its
        check; `standing`, how long it has been so; and `is_over`.
    """
    decided = [(step, answer) for step, verdict, answer in checks if verdict in ("PASS", "FAIL")]
    by_key: dict[tuple[str, ...], list[int]] = {}
    for number, (_, answer) in enumerate(decided):
        if answer is not None:
            by_key.setdefault(tuple(answer["key"]), []).append(number)
    answers = []
    for numbers in sorted(by_key.values(), key=lambda each: -each[-1]):
        step, answer = decided[numbers[-1]]
        is_over = numbers[-1] < len(decided) - 1
        first = decided[numbers[0]][0]
        standing = _describe_standing(first, step, len(numbers), len(decided) - numbers[0], is_over)
        answers.append({**(answer or {}), "step": step, "standing": standing, "is_over": is_over})
    return answers


def _describe_standing(first: int, last: int, count: int, since: int, is_over: bool) -> str:
    """How long it has been so.

    Args:
        first: Step of the first check with the answer.
        last: That of the latest.
        count: How many checks have it.
        since: How many checks were decided from the first on.
        is_over: Whether a later check does not have it.
    """
    checks = f"{count} check{'' if count == 1 else 's'}"
    if is_over:
        span = f"at step {first}" if first == last else f"from step {first} to {last}"
        return f"{span}, in {checks}; not in the latest check"
    return f"since step {first}, in {checks if count == since else f'{count} of {since} checks'}"


def _lead(report: CheckReport) -> str:
    """The label of the variable that the report names first; empty if it names none."""
    for diagnosis in sorted(report.diagnoses, key=lambda d: not d.is_leading):
        return parse_label(diagnosis.path)
    for comparison in report.failures:
        return parse_label(comparison.path)
    return ""
