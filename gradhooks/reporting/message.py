"""A failed check as the text of a warning or an error, for somebody who has to act on it.

What is wrong and where comes first, then the numbers that prove it, what to
do, and the line that reproduces it.
"""

import math

from gradhooks.numerics.reasons import Reason
from gradhooks.reporting.table import diagnosed, left_out, place, printable, rough

SHOWN = 3
CAUSE_LINES = 12
REMEDIES = (
    "pass the batch in the form that fit() accepts; use precision='model' if the model cannot be traced at "
    "float64; use a smaller batch if memory ran out."
)


def failure_message(report):
    """Returns the text of the warning, or of the error, about a failed check.

    The first line stands alone, as in a log that shows no more than that.

    Args:
        report: A `CheckReport` with verdict FAIL.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.numerics.records import CheckReport, Comparison, Reason, Verdict
    >>> wrong = Comparison(
    ...     "dense/kernel", (3, 4), "total", 0.5, 1.0, 1e-9, 1e-4, 1 / 3, Verdict.FAIL, Reason.MISMATCH
    ... )
    >>> report = CheckReport(7, Verdict.FAIL, Reason.MISMATCH, {"total": 1 / 3}, (wrong,), threshold=1e-6)
    >>> print(failure_message(report).splitlines()[0])
    gradient check failed at step 7 (gradcheck): dense/kernel[3, 4]: the analytic derivative is wrong
    """
    failures, others = report.failures, [d for d in report.diagnoses if d is not _culprit(report)]
    lines = (
        f"gradient check failed {_when(report)}: {_finding(report)}",
        *(line for comparison in failures[:SHOWN] for line in _evidence(comparison, report)),
        left_out(len(failures) - SHOWN, "failures, see the report"),
        "What to do:",
        *(f"  {diagnosed(d)}" for d in others[:SHOWN]),
        left_out(len(others) - SHOWN, "diagnoses, see the report"),
        *(f"  {line}" for line in advice(report)),
        f"Reproduce with the same weights and batch: {reproduction(report)}",
    )
    return "\n".join(line for line in lines if line)


def error_message(report):
    """Returns the text of the warning about a check that could not be carried out.

    Args:
        report: A `CheckReport` whose `error` names the cause.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.numerics.records import CheckReport, Reason, Verdict
    >>> report = CheckReport(7, Verdict.INCONCLUSIVE, Reason.ERROR, {}, error="ValueError: no loss")
    >>> print(error_message(report).splitlines()[0])
    gradient check could not be carried out at step 7 (gradcheck): ValueError: no loss
    """
    first, *rest = (report.error.strip() or report.reason.explanation).splitlines()
    lines = (
        f"gradient check could not be carried out {_when(report)}: {printable(first)}",
        *(f"  {printable(line)}" for line in rest[:CAUSE_LINES]),
        left_out(len(rest) - CAUSE_LINES, "lines, see the report"),
        "Training was not touched and goes on; nothing is known about its gradients at this step.",
        f"What to try: {REMEDIES}",
        f"Reproduce with the same weights and batch: {reproduction(report)}",
    )
    return "\n".join(line for line in lines if line)


def advice(report):
    """Returns a line for every reason found: what it means, what usually causes it, what to try."""
    reasons = dict.fromkeys(c.reason for c in report.failures) or (report.reason,)
    return [f"{reason}: {reason.explanation}" for reason in reasons]


def reproduction(report):
    """Returns the line of Python that measures the same numbers again."""
    settings = {name: getattr(report, name) for name in ("samples", "seed", "step", "threshold")}
    # NaN and infinity print as names that Python does not know.
    told = ", ".join(f"{name}={value}" for name, value in settings.items() if math.isfinite(value))
    return f"gradhooks.check_gradients(model, x, y, {told})"


def _when(report):
    return f"at step {report.step} ({printable(report.name)})"


def _culprit(report):
    """The diagnosis to lead with: the culprit, else the first; None without diagnoses."""
    return next((d for d in report.diagnoses if d.is_culprit), next(iter(report.diagnoses), None))


def _finding(report):
    if report.diagnoses:
        return diagnosed(_culprit(report))
    if report.failures:
        worst = report.failures[0]
        return f"{place(worst.label)}: {worst.reason.explanation.split(':')[0]}"
    return report.reason.explanation


def _evidence(comparison, report):
    """The numbers of one failed comparison, one below the other to be compared digit by digit."""
    c = comparison
    if c.reason is Reason.GRADIENT_FAILS:
        return (f"  {place(c.label)}, term {printable(c.term)}: {c.reason}",)  # there are no numbers
    measured = f"step {rough(c.step)}, precision {printable(report.precision.rung)}, seed {report.seed}"
    rule = f"threshold {report.threshold:g} * size of the derivative + error bar"
    return (
        f"  {place(c.label)}, term {printable(c.term)}: {c.reason}",
        f"    analytic {c.analytic: .9e}",
        f"    numeric  {c.numeric: .9e} +- {rough(c.error)} ({measured})",
        f"    gap      {c.gap: .9e}, allowed {rough(c.allowed)} = {rule}",
    )
