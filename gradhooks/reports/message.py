"""Reports as the text of warnings and errors, for somebody who has to act on them.

What is wrong and where comes first, then the numbers that prove it, what to
do, and the line that reproduces it.
"""

import math
import re
from collections.abc import Iterable, Sequence

from gradhooks.reports.actions import advice, reproduction_line
from gradhooks.reports.answer import describe_finding, is_guilty, list_evidence_of_place
from gradhooks.reports.evidence import list_evidence
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TRAINED, Comparison, Report
from gradhooks.reports.table import ACTIONS, EVIDENCE, render_body
from gradhooks.reports.text import indent, omission, printable

# How much of a report a message shows; free choices, so that it fits one screen of a terminal.
SHOWN = 3
SHOWN_EVIDENCE = 6
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

_SAMPLE_MORE = "Try larger `samples`, a larger batch, or a loss that is not zero on it."
# What to do about a run in which nothing could be decided, for the reasons whose explanation does
# not say it.
WAYS_OUT = {
    Reason.NOT_DETERMINISTIC: (
        "Pass a `loss_fn` that leaves the noise out, if the noise is meant."
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
    >>> print(failure_message(report).splitlines()[0].partition("; ")[2])
    the error was measured in dense/kernel[3, 4]: the analytic derivative is wrong
    """
    shown = _choose_shown(report)
    of_place = list_evidence_of_place(report)
    lines = [
        _first_line(report),
        EVIDENCE,
        *indent(of_place[:SHOWN_EVIDENCE]),
        *indent([omission(len(of_place) - SHOWN_EVIDENCE, "lines, see the report")]),
    ]
    for comparison in shown:
        lines += list_evidence(comparison, report)
    lines += [
        *indent([omission(_count_with_numbers(report) - len(shown), "failures, see the report")]),
        ACTIONS,
        *indent(advice(report)),
        reproduction_line(report),
    ]
    return _join_lines(lines)


def assertion_message(report: Report) -> str:
    """Returns the text of a failed test: what is wrong and where, then the whole report.

    Args:
        report: A `CheckReport` with verdict FAIL.
    """
    return f"{_first_line(report)}\n{render_body(report)}"


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
        *indent(printable(line) for line in rest[:CAUSE_LINES]),
        omission(len(rest) - CAUSE_LINES, "lines, see the report"),
        "Training was not touched and goes on; nothing is known about its gradients at this step.",
        f"What to try: {_remedy(report.error)}",
        reproduction_line(report),
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
        *indent(printable(note) for note in notes[:SHOWN_NOTES]),
        omission(len(notes) - SHOWN_NOTES, "notes, see the report"),
        "Training was not touched; nothing is known about its gradients.",
        "What to do:",
        *indent(advice(report)),
    ]
    if report.reason in WAYS_OUT:
        lines += indent([WAYS_OUT[report.reason]])
    return _join_lines([*lines, reproduction_line(report)])


def _first_line(report: Report) -> str:
    return f"gradient check failed {_when(report)}: {describe_finding(report)}"


def _count_with_numbers(report: Report) -> int:
    return sum(c.reason is not Reason.GRADIENT_FAILS for c in report.failures)


def _choose_shown(report: Report) -> Sequence[Comparison]:
    """The failures whose numbers are shown: one of the guilty, if the place is known."""
    culprit = report.culprit
    if culprit is None:
        return report.failures[:SHOWN]
    failed: list[Comparison] = []
    for c in report.comparisons:
        is_of_place = (c.term == TRAINED) == (culprit.kind == "train_step")
        # A backward pass that raises leaves no numbers.
        has_numbers = c.reason is not Reason.GRADIENT_FAILS
        if c.verdict is Verdict.FAIL and is_of_place and has_numbers:
            failed.append(c)
    guilty = [c for c in failed if is_guilty(culprit, c.path)]
    heirs = [c for c in failed if c.path in culprit.heirs and c.index is not None]
    return sorted(guilty or heirs or failed, key=_gap_rank)[:1]


def _gap_rank(comparison: Comparison) -> float:
    """What failures of one error are sorted by, of which many may have one relative difference."""
    gap = comparison.gap
    # Digits by which two terms of one loss differ decide nothing.
    return -float(f"{gap:.2e}") if math.isfinite(gap) else -math.inf


def _when(report: Report) -> str:
    return f"at step {report.step} ({printable(report.name)})"


def _join_lines(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if line)


def _remedy(error: str) -> str:
    """What to try about an error, given as `Class: message`."""
    remedy = REMEDIES.get(error.split(":")[0].strip(), REMEDIES[""])
    received = _RECEIVED.search(error)
    return remedy.format(printable(received[1]) if received else "what the message names")
