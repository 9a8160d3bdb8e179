"""The evidence of one failed comparison: the numbers that a message of a failure prints."""

import math
from collections.abc import Iterator

from gradhooks.reports.reasons import Reason
from gradhooks.reports.records import (
    EVERYTHING,
    Comparison,
    DerivativeComparison,
    GradientComparison,
    Report,
)
from gradhooks.reports.text import SURROGATE, exact, location, printable, rough

# Digits behind the decimal point of numbers that a reader compares: a free choice, one more than
# needed to tell two float32 numbers apart.
DIGITS = 9


def summarize(comparison: Comparison) -> str:
    """Returns in one sentence what is wrong with a comparison that fails."""
    c = comparison
    if (
        isinstance(c, DerivativeComparison)
        and c.reason is Reason.MISMATCH
        and abs(c.numeric) <= c.error < abs(c.analytic)
    ):
        return f"the gradient is not zero but the loss does not move: {SURROGATE}"
    return c.reason.headline


def list_evidence(comparison: Comparison, report: Report) -> Iterator[str]:
    """Yields the lines about a failed comparison, its numbers aligned digit by digit.

    Args:
        comparison: A `Comparison` that fails.
        report: The report that holds it, for the threshold and the circumstances.
    """
    yield f"  {location(comparison.label)}, term {printable(comparison.term)}: {comparison.reason}"
    if isinstance(comparison, GradientComparison):
        yield from _list_norms(comparison, report)
    elif comparison.reason is not Reason.GRADIENT_FAILS:  # which leaves no numbers
        yield from _list_derivatives(comparison, report)


def _list_derivatives(comparison: DerivativeComparison, report: Report) -> Iterator[str]:
    c = comparison
    step_size = rough(c.step_size)
    circumstances = f"precision {printable(report.precision.level)}, seed {report.seed}"

    yield f"    analytic {_pad_sign(c.analytic)}"
    if c.reason is Reason.BLOCKED and not c.allowed:
        change = rough(c.numeric * c.step_size)
        yield (
            f"    the loss moves in steps, by {change} where each parameter moves by {step_size} "
            f"({circumstances})"
        )
        return

    error = rough(c.error)
    yield f"    numeric  {_pad_sign(c.numeric)} +- {error} (step {step_size}, {circumstances})"
    if math.isfinite(c.gap):
        rule = f"threshold {report.threshold:g} * size of the derivative + error bar"
        yield f"    gap      {_pad_sign(c.gap)}, allowed {rough(c.allowed)} = {rule}"


def _list_norms(comparison: GradientComparison, report: Report) -> Iterator[str]:
    """The norms of two gradients and their distance; no line if only losses were compared."""
    c = comparison
    if c.path == EVERYTHING:
        return
    dtype = printable(c.dtype)
    in_dtype = f" ({dtype})" if dtype else ""
    precision = printable(report.precision.level)

    yield f"    ||backpropagation|| {_pad_sign(c.analytic_norm)} (precision {precision})"
    yield f"    ||received||        {_pad_sign(c.received_norm)}{in_dtype}"
    if not math.isfinite(c.gap):
        return
    distance = f"    distance            {_pad_sign(c.gap)}"
    if c.reason is Reason.UNDERFLOW:  # a failure however small the distance is
        yield f"{distance}, {c.zeros:.0%} of the entries lost to zero"
        return
    yield f"{distance}, allowed {rough(c.allowed)} = {_allowance_rule(c, dtype)}"


def _allowance_rule(comparison: GradientComparison, dtype: str) -> str:
    """How the allowed distance of two gradients comes about."""
    c = comparison
    if c.allowed > c.rounding:
        fraction = rough(c.allowed / (c.analytic_norm + c.received_norm))
        in_dtype = f", {dtype}" if dtype else ""
        return f"{fraction} * (both norms){in_dtype}"
    return f"{dtype or 'rounding'} beside the gradients of other variables"


def _pad_sign(number: float) -> str:
    """A number with all its digits and room for a sign."""
    digits = exact(number, DIGITS)
    return digits if number < 0 else f" {digits}"
