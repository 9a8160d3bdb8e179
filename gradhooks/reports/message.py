"""A failed check as the text of a warning or an error, for somebody who has to act on it.

What is wrong and where comes first, then the numbers that prove it, what to
do, and the line that reproduces it.
"""

import math
import re

from gradhooks.reports.reasons import Reason
from gradhooks.reports.records import EVERYTHING, DerivativeComparison, GradientComparison
from gradhooks.reports.table import diagnosis_line, merge_diagnoses
from gradhooks.reports.text import SURROGATE, exact, location, omission, printable, rough

SHOWN = 3
SHOWN_NOTES = 4
CAUSE_LINES = 12
# What to try, by the class of the error; {} stands for what its message says was received.
REMEDIES = {
    "CannotRestoreError": (
        "another batch or precision does not help; change {}, so that the model's code neither advances it nor leaves "
        "a tensor in it: keep state in an attribute, a list, a dict or a keras.Variable, and draw random numbers by a "
        "keras.random.SeedGenerator."
    ),
    "StateWriteError": (
        "another batch or precision does not help; replace what {} write to by a keras.Variable, and random generators "
        "by a keras.random.SeedGenerator."
    ),
    "BadInputError": "change {}; what is expected in its place is said above.",
    "ResourceExhaustedError": "use a smaller batch_size for the check, or precision='model', which needs less memory.",
    "MemoryError": "use a smaller batch_size for the check, or precision='model', which needs less memory.",
    "": (
        "see whether model.train_on_batch takes the batch, and pass it in the form that fit() accepts; use "
        "precision='model' if the model cannot be traced at float64."
    ),
}
# Where a message in the house's form says what it is about.
_RECEIVED = re.compile(r"Received: (.+?)\. Expected ", re.DOTALL)

# What to do about a run of which nothing could be decided, where the explanation of the reason does
# not say it.
WAYS_OUT = {
    Reason.NOT_DETERMINISTIC: "Let layers draw by keras.random, or pass a `loss_fn` that leaves the noise out.",
    Reason.KINK: "Try larger `samples` or another batch; for a check alone, a smooth activation such as gelu.",
    Reason.NOTHING_SAMPLED: "Try larger `samples`, a larger batch, or a loss that is not zero on it.",
    Reason.VACUOUS: "Try larger `samples`, a larger batch, or a loss that is not zero on it.",
    Reason.NOT_RECORDED: "Try train_step=False, which checks all but what the optimizer receives.",
}


def failure_message(report):
    """Returns the text of the warning, or of the error, about a failed check.

    The first line stands alone, as in a log that shows no more than that.

    Args:
        report: A `CheckReport` with verdict FAIL.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.reports.records import CheckReport, DerivativeComparison, Reason, Verdict
    >>> wrong = DerivativeComparison(
    ...     "dense/kernel", (3, 4), "total", 0.5, 1.0, 1e-9, 1e-4, 1 / 3, Verdict.FAIL, Reason.MISMATCH
    ... )
    >>> report = CheckReport(7, Verdict.FAIL, Reason.MISMATCH, {"total": 1 / 3}, (wrong,), threshold=1e-6)
    >>> print(failure_message(report).splitlines()[0])
    gradient check failed at step 7 (gradcheck): dense/kernel[3, 4]: the analytic derivative is wrong
    """
    failures, lead = report.failures, _culprit(report)
    others = merge_diagnoses([d for d in report.diagnoses if d is not lead], lead and lead.sentence)
    lines = (
        f"gradient check failed {_when(report)}: {_finding(report)}",
        *(line for comparison in failures[:SHOWN] for line in _evidence(comparison, report)),
        omission(len(failures) - SHOWN, "failures, see the report"),
        "What to do:",
        *(f"  {line}" for line in others[:SHOWN]),
        omission(len(others) - SHOWN, "diagnoses, see the report"),
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

    >>> from gradhooks.reports.records import CheckReport, Reason, Verdict
    >>> report = CheckReport(7, Verdict.INCONCLUSIVE, Reason.ERROR, {}, error="ValueError: no loss")
    >>> print(error_message(report).splitlines()[0])
    gradient check could not be carried out at step 7 (gradcheck): ValueError: no loss
    """
    first, *rest = (report.error.strip() or report.reason.explanation).splitlines()
    lines = (
        f"gradient check could not be carried out {_when(report)}: {printable(first)}",
        *(f"  {printable(line)}" for line in rest[:CAUSE_LINES]),
        omission(len(rest) - CAUSE_LINES, "lines, see the report"),
        "Training was not touched and goes on; nothing is known about its gradients at this step.",
        f"What to try: {_remedy(report.error)}",
        f"Reproduce with the same weights and batch: {reproduction(report)}",
    )
    return "\n".join(line for line in lines if line)


def inconclusive_message(report, count):
    """Returns the text of the warning about a run whose checks have all decided nothing.

    Args:
        report: The latest `CheckReport`, with verdict INCONCLUSIVE.
        count: How many checks there were.

    Returns:
        str of several lines, without a final newline.

    Example:

    >>> from gradhooks.reports.records import CheckReport, Reason, Verdict
    >>> report = CheckReport(4, Verdict.INCONCLUSIVE, Reason.KINK, {}, threshold=1e-6)
    >>> print(undecided_message(report, 2).splitlines()[0])
    gradient checks have decided nothing in this run, the latest of 2 at step 4 (gradcheck): the loss has a corner here
    """
    finding, notes = report.reason.explanation.split(":")[0], report.notes
    lines = (
        f"gradient checks have decided nothing in this run, the latest of {count} {_when(report)}: {finding}",
        *(f"  {printable(note)}" for note in notes[:SHOWN_NOTES]),
        omission(len(notes) - SHOWN_NOTES, "notes, see the report"),
        "Training was not touched; nothing is known about its gradients.",
        "What to do:",
        *(f"  {line}" for line in advice(report)),
        f"  {WAYS_OUT[report.reason]}" if report.reason in WAYS_OUT else "",
        f"Reproduce with the same weights and batch: {reproduction(report)}",
    )
    return "\n".join(line for line in lines if line)


def advice(report):
    """Returns a line for every reason found: what it means, what usually causes it, what to try."""
    reasons = dict.fromkeys(c.reason for c in report.failures) or (report.reason,)
    return [
        *(f"{reason}: {reason.explanation}" for reason in reasons),
        *declaration(report.failures),
    ]


def declaration(failures):
    """Returns the line that says how to declare failures that are meant; none where nothing can be declared.

    Args:
        failures: `Comparison`s that fail.
    """
    declarable = [c for c in failures if c.reason in (Reason.MISMATCH, Reason.BLOCKED)]
    reasons = {}
    for c in declarable:
        if c.path != "*":  # a direction over all variables tells of none of them
            reasons.setdefault(c.path, set()).add(c.reason)
    kinds = {
        p: "blocked" if found == {Reason.BLOCKED} else "mismatch" for p, found in reasons.items()
    }
    # Brackets, stars and question marks would be a pattern.
    shown = {re.sub(r"([*?[])", r"[\1]", path): kind for path, kind in [*kinds.items()][:SHOWN]}
    more = (
        f", and so on for {len(kinds) - SHOWN} more; patterns may have a *"
        if len(kinds) > SHOWN
        else ""
    )
    shown = shown or {"path/of/the/variable": "mismatch"}
    return [f"meant? declare it with expect={printable(shown)}{more}"] if declarable else []


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
        return diagnosis_line(_culprit(report))
    if report.failures:
        worst = report.failures[0]
        return f"{location(worst.label)}: {_in_short(worst)}"
    return report.reason.explanation


def _in_short(comparison):
    c = comparison
    is_measured = isinstance(c, DerivativeComparison) and c.reason is Reason.MISMATCH
    if is_measured and abs(c.numeric) <= c.error < abs(c.analytic):
        return f"the gradient is not zero but the loss does not move: {SURROGATE}"
    return c.reason.explanation.split(":")[0]


def _remedy(error):
    """What to try, for an error told as `Class: message`."""
    remedy = REMEDIES.get(error.split(":")[0].strip(), REMEDIES[""])
    received = _RECEIVED.search(error)
    return remedy.format(printable(received[1]) if received else "what the message names")


def _evidence(comparison, report):
    """The numbers of one failed comparison, one below the other to be compared digit by digit."""
    yield f"  {location(comparison.label)}, term {printable(comparison.term)}: {comparison.reason}"
    if isinstance(comparison, GradientComparison):
        yield from _norms(comparison, report)
    elif comparison.reason is not Reason.GRADIENT_FAILS:  # which leaves no numbers
        yield from _derivatives(comparison, report)


def _derivatives(comparison, report):
    c = comparison
    circumstances = f"precision {printable(report.precision.level)}, seed {report.seed}"
    analytic = f"    analytic {_aligned(c.analytic)}"
    if c.reason is Reason.BLOCKED and not c.allowed:
        steps = f"moves in steps, by {rough(c.numeric * c.step_size)} where each parameter moves by {rough(c.step_size)}"
        return (analytic, f"    the loss {steps} ({circumstances})")
    numeric = f"    numeric  {_aligned(c.numeric)} +- {rough(c.error)} (step {rough(c.step_size)}, {circumstances})"
    if not math.isfinite(c.gap):
        return (analytic, numeric)
    rule = f"threshold {report.threshold:g} * size of the derivative + error bar"
    return (
        analytic,
        numeric,
        f"    gap      {_aligned(c.gap)}, allowed {rough(c.allowed)} = {rule}",
    )


def _norms(comparison, report):
    """The norms of two whole gradients, and the distance between them; nothing where only losses were compared."""
    c, dtype = comparison, printable(comparison.dtype)
    if c.path == EVERYTHING:
        return
    yield f"    ||backpropagation|| {_aligned(c.analytic_norm)} (precision {printable(report.precision.level)})"
    yield f"    ||received||        {_aligned(c.received_norm)}{dtype and f' ({dtype})'}"
    if not math.isfinite(c.gap):
        return
    distance = f"    distance            {_aligned(c.gap)}"
    if c.reason is Reason.UNDERFLOW:
        yield f"{distance}, {c.zeros:.0%} of the entries lost to zero"  # however near the rest is
    elif c.allowed > c.rounding:
        share = c.allowed / (c.analytic_norm + c.received_norm)
        yield f"{distance}, allowed {rough(c.allowed)} = {rough(share)} * (both norms){dtype and f', {dtype}'}"
    else:
        yield f"{distance}, allowed {rough(c.allowed)} = {dtype or 'rounding'} beside the gradients of other variables"


def _aligned(number):
    """A number with all its digits and room for a sign."""
    return f" {exact(number, 9)}" if not number < 0 else exact(number, 9)
