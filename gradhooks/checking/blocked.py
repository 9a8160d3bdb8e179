"""Fails the variables with a gradient of zero everywhere on which the loss depends."""

from gradhooks.checking import unreached, zero_gradients
from gradhooks.checking.context import CheckContext
from gradhooks.checking.zero_gradients import ZeroGradient
from gradhooks.numerics import sampling
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison


def compare_blocked(context: CheckContext) -> tuple[list[DerivativeComparison], list[str]]:
    """Moves the variables with a gradient of zero everywhere, and compares the blocked ones.

    Args:
        context: The `CheckContext`, with the oracle.

    Returns:
        One failed `DerivativeComparison` per blocked variable; and remarks for
        people on the variables that no loss reaches or that were not moved.
    """
    oracle, layout, baseline = context.oracle, context.layout, context.baseline
    settings = context.settings
    without_gradient = zero_gradients.find_zero_gradients(layout, baseline.gradients["total"])
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.BLOCKED)
    moved = zero_gradients.move_variables(
        layout,
        oracle,
        baseline,
        context.scales,
        without_gradient,
        rng,
    )
    # The check cannot replace the values of variables inside compiled code.
    compiled = {*oracle.bypassed}
    unknown = {*without_gradient} - compiled
    unmoved: list[int] = []
    comparisons: list[DerivativeComparison] = []
    for zero in moved:
        unknown.discard(zero.variable)
        if zero.is_blocked:
            path = layout.paths[zero.variable]
            comparisons.append(_compare(path, zero))
        elif zero.change <= baseline.noise[0] and zero.variable not in compiled:
            unmoved.append(zero.variable)
    notes = unreached.describe_unreached(context, unmoved, sorted(unknown))
    return comparisons, list(notes)


def _compare(path: str, zero: ZeroGradient) -> DerivativeComparison:
    """The failure of a blocked variable, with the slope of the line to the farthest change."""
    return DerivativeComparison(
        path,
        None,
        "total",
        analytic=0.0,
        numeric=zero.change / abs(zero.distance),
        error=0.0,
        step_size=abs(zero.distance),
        relative_difference=1.0,
        verdict=Verdict.FAIL,
        reason=Reason.BLOCKED,
        allowed=0.0,
        position=zero.probe.start,
    )
