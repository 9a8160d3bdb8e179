"""Reports as the text of warnings and errors, for somebody who has to act on them.

What is wrong and where comes first, then the numbers that prove it, what to
do, and the line that reproduces it.
"""

import math
import re
from collections.abc import Iterable, Sequence

from gradhooks.reports.evidence import list_evidence, summarize
from gradhooks.reports.reasons import Reason
from gradhooks.reports.records import (
    EVERYTHING,
    Comparison,
    Culprit,
    Diagnosis,
    Report,
)
from gradhooks.reports.table import describe_culprit, diagnosis_line, merge_diagnoses
from gradhooks.reports.text import location, omission, printable

# How much of a report a message shows; free choices, so that it fits one screen of a terminal.
SHOWN = 3
SHOWN_NOTES = 4
CAUSE_LINES = 12

_SMALLER_BATCH = (
    "use a smaller batch_size for the check, or precision='model', which needs less memory."
)
# What to try, by the class of the error; {} stands for what its message says was received.
REMEDIES = {
    "CannotRestoreError": (
        "another batch or precision does not help; change {}, so that the model's code neither "
        "advances it nor leaves a tensor in it: keep state in an attribute, a list, a dict or a "
        "keras.Variable, and draw random numbers by a keras.random.SeedGenerator."
    ),
    "StateWriteError": (
        "another batch or precision does not help; replace what {} write to by a keras.Variable, "
        "and random generators by a keras.random.SeedGenerator."
    ),
    "BadInputError": "change {}; the message above says what is expected instead.",
    "ResourceExhaustedError": _SMALLER_BATCH,
    "MemoryError": _SMALLER_BATCH,
    "": (
        "see whether model.train_on_batch takes the batch, and pass it in the form that fit() "
        "accepts; use precision='model' if the model cannot be traced at float64."
    ),
}
# Where the message of an error of gradhooks names what it was given.
_RECEIVED = re.compile(r"Received: (.+?)\. Expected ", re.DOTALL)

_MEANT = "If it is meant:"
_SAMPLE_MORE = "Try larger `samples`, a larger batch, or a loss that is not zero on it."
# What to do about a run in which nothing could be decided, for the reasons whose explanation does
# not say it.
WAYS_OUT = {
    Reason.NOT_DETERMINISTIC: (
        "Let layers draw by keras.random, or pass a `loss_fn` that leaves the noise out."
    ),
    Reason.KINK: (
        "Try larger `samples` or another batch; for a check alone, a smooth activation such as "
        "gelu."
    ),
    Reason.NOTHING_SAMPLED: _SAMPLE_MORE,
    Reason.VACUOUS: _SAMPLE_MORE,
    Reason.NOT_RECORDED: (
        "Try train_step=False, which checks everything except what the optimizer receives."
    ),
}


def failure_message(report: Report) -> str:
    """Returns the text of the warning, or of the error, about a failed check.

    The first line is complete in itself, for logs that show only one.

    Args:
        report: A `CheckReport` with verdict FAIL.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.reports.reasons import Verdict
    >>> from gradhooks.reports.records import DerivativeComparison
    >>> wrong = DerivativeComparison(
    ...     "dense/kernel", (3, 4), "total", 0.5, 1.0, 1e-9, 1e-4, 1 / 3, Verdict.FAIL,
    ...     Reason.MISMATCH,
    ... )
    >>> report = Report(7, Verdict.FAIL, Reason.MISMATCH, {"total": 1 / 3}, (wrong,))
    >>> print(failure_message(report).splitlines()[0].partition(": ")[2])
    dense/kernel[3, 4]: the analytic derivative is wrong
    """
    lead = _leading_diagnosis(report)
    known = None if lead is None else lead.sentence
    others = merge_diagnoses([d for d in report.diagnoses if d is not lead], known)
    failures = report.failures

    lines = [f"gradient check failed {_when(report)}: {_finding(report)}"]
    lines += _indent(describe_culprit(report))
    for comparison in failures[:SHOWN]:
        lines += list_evidence(comparison, report)
    lines += [
        omission(len(failures) - SHOWN, "failures, see the report"),
        "What to do:",
        *_indent(others[:SHOWN]),
        omission(len(others) - SHOWN, "diagnoses, see the report"),
        *_indent(advice(report)),
        _reproduction_line(report),
    ]
    return _join_lines(lines)


def error_message(report: Report) -> str:
    """Returns the text of the warning about a check that could not be carried out.

    Args:
        report: A `CheckReport` whose `error` names the cause.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.reports.reasons import Verdict
    >>> report = Report(7, Verdict.INCONCLUSIVE, Reason.ERROR, {}, error="ValueError: no loss")
    >>> print(error_message(report).splitlines()[0])
    gradient check could not be carried out at step 7 (gradcheck): ValueError: no loss
    """
    first, *rest = (report.error.strip() or report.reason.explanation).splitlines()
    lines = [
        f"gradient check could not be carried out {_when(report)}: {printable(first)}",
        *_indent(printable(line) for line in rest[:CAUSE_LINES]),
        omission(len(rest) - CAUSE_LINES, "lines, see the report"),
        "Training was not touched and goes on; nothing is known about its gradients at this step.",
        f"What to try: {_remedy(report.error)}",
        _reproduction_line(report),
    ]
    return _join_lines(lines)


def inconclusive_message(report: Report, count: int) -> str:
    """Returns the text of the warning about a run in which no check has decided anything.

    Args:
        report: The latest `CheckReport`, with verdict INCONCLUSIVE.
        count: How many checks there were.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.reports.reasons import Verdict
    >>> report = Report(4, Verdict.INCONCLUSIVE, Reason.KINK, {}, threshold=1e-6)
    >>> print(inconclusive_message(report, 2).splitlines()[0].partition(", ")[2])
    the latest of 2 at step 4 (gradcheck): the loss has a kink here
    """
    finding, notes = report.reason.headline, report.notes
    lines = [
        "gradient checks have decided nothing in this run, "
        f"the latest of {count} {_when(report)}: {finding}",
        *_indent(printable(note) for note in notes[:SHOWN_NOTES]),
        omission(len(notes) - SHOWN_NOTES, "notes, see the report"),
        "Training was not touched; nothing is known about its gradients.",
        "What to do:",
        *_indent(advice(report)),
    ]
    if report.reason in WAYS_OUT:
        lines += _indent([WAYS_OUT[report.reason]])
    return _join_lines([*lines, _reproduction_line(report)])


def advice(report: Report) -> list[str]:
    """Returns a line for every reason: what it means, what usually causes it, what to try."""
    reasons = dict.fromkeys(c.reason for c in report.failures) or (report.reason,)
    lines = [f"{reason}: {reason.explanation}" for reason in reasons]
    return [*lines, *declaration(report.failures, report.culprit)]


def declaration(failures: Sequence[Comparison], culprit: Culprit | None = None) -> list[str]:
    """Returns the line on how to declare intended failures; no line if none can be declared.

    Args:
        failures: `Comparison`s that fail.
        culprit: Where the error is made, if that is known. A layer is declared
            with all that lies below it; otherwise every variable is.
    """
    declarable = [c for c in failures if c.reason in (Reason.MISMATCH, Reason.BLOCKED)]
    if not declarable:
        return []
    reasons: dict[str, set[Reason]] = {}
    for c in declarable:
        if c.path != EVERYTHING:  # a direction over all variables says nothing about any one
            reasons.setdefault(c.path, set()).add(c.reason)
    if culprit is not None and culprit.kind == "layer":
        # A layer that holds what fails may be the whole model, of which much is right.
        is_holder = any(path.startswith(f"{culprit.path}/") for path in reasons)
        if not is_holder:
            found = {c.reason for c in declarable if c.path != EVERYTHING}
            name = _escape(culprit.path.rpartition("/")[2])
            return [f"{_MEANT} expect={printable({f'*/{name}': _kind_of(found)})}"]

    shown: dict[str, str] = {}
    for path, found in list(reasons.items())[:SHOWN]:
        shown[_escape(path)] = _kind_of(found)
    shown = shown or {"path/of/the/variable": "mismatch"}

    more = ""
    if len(reasons) > SHOWN:
        more = f", and so on for {len(reasons) - SHOWN} more; patterns may have a *"
    return [f"{_MEANT} expect={printable(shown)}{more}"]


def _escape(path: str) -> str:
    """Returns a pattern that only a path itself matches: brackets, stars, question marks would."""
    return re.sub(r"([*?[])", r"[\1]", path)


def _kind_of(found: set[Reason]) -> str:
    return "blocked" if found == {Reason.BLOCKED} else "mismatch"


def reproduction(report: Report) -> str:
    """Returns the line of Python that measures the same numbers again."""
    settings: dict[str, float] = {"samples": report.samples, "seed": report.seed}
    if report.checked == "model":
        settings["step"] = report.step
    settings["threshold"] = report.threshold
    # NaN and infinity print as names that Python does not know.
    known = [f"{name}={value}" for name, value in settings.items() if math.isfinite(value)]
    if report.checked == "function":
        return f"gradhooks.check_function(loss, gradient, parameters, {', '.join(known)})"
    return f"gradhooks.check_gradients(model, x, y, {', '.join(known)})"


def _when(report: Report) -> str:
    return f"at step {report.step} ({printable(report.name)})"


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _join_lines(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if line)


def _reproduction_line(report: Report) -> str:
    same = "weights and batch" if report.checked == "model" else "parameters"
    return f"Reproduce with the same {same}: {reproduction(report)}"


def _leading_diagnosis(report: Report) -> Diagnosis | None:
    """The culprit, else the first diagnosis; None without diagnoses."""
    for diagnosis in report.diagnoses:
        if diagnosis.is_leading:
            return diagnosis
    return report.diagnoses[0] if report.diagnoses else None


def _finding(report: Report) -> str:
    lead = _leading_diagnosis(report)
    if lead is not None:
        return diagnosis_line(lead)
    if report.failures:
        worst = report.failures[0]
        return f"{location(worst.label)}: {summarize(worst)}"
    return report.reason.explanation


def _remedy(error: str) -> str:
    """What to try about an error, given as `Class: message`."""
    remedy = REMEDIES.get(error.split(":")[0].strip(), REMEDIES[""])
    received = _RECEIVED.search(error)
    return remedy.format(printable(received[1]) if received else "what the message names")
