"""Measures probes until they are decided.

Single quotients decide most of them, sequences of steps the others, and what
fails then is confirmed. Where jitter hides a derivative, losses are averaged.
"""

from collections.abc import Sequence

from gradhooks.checking import measure, step_control
from gradhooks.checking.confirm import confirm
from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Magnitudes, Measurement
from gradhooks.numerics.probe import Probe

# How often each loss is evaluated where jitter hides a derivative that less noise would show. A
# free choice, which divides the noise by four.
_REPEATS = 16


def measure_probes(
    context: CheckContext,
    probes: Sequence[Probe],
    magnitudes: Sequence[Magnitudes] | None = None,
) -> list[Measurement]:
    """Measures probes until they are decided, and confirms failures.

    Args:
        context: The `CheckContext`.
        probes: The `Probe`s.
        magnitudes: Per probe and term, the size of the slope before its parts
            cancel; zeros if None.
    """
    first = step_control.measure(
        context.oracle,
        context.baseline,
        probes,
        context.threshold,
        magnitudes,
    )
    return _refine(context, first)


def resolve(context: CheckContext, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Measures on from first estimates until all are decided, and confirms failures."""
    refined = step_control.refine_steps(
        context.oracle,
        context.baseline,
        measurements,
        context.threshold,
    )
    return _refine(context, refined)


def _refine(context: CheckContext, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Measures what is unresolved at a sequence of steps, and confirms its failures."""
    unresolved = [k for k, m in enumerate(measurements) if not (m.is_accepted or m.is_on_kink)]
    refined = measure.refine(
        context.oracle,
        context.baseline,
        [measurements[k] for k in unresolved],
        context.threshold,
    )
    refined = _average(context, refined)
    decided = list(measurements)
    confirmed = confirm(context, refined)
    for k, measurement in zip(unresolved, confirmed, strict=True):
        decided[k] = measurement
    return decided


def _average(context: CheckContext, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Measures by the mean of several evaluations what jitter hides, where that may decide."""
    averaged = list(measurements)
    if not context.baseline.is_jittering:
        return averaged
    selected: list[int] = []
    for k, measurement in enumerate(measurements):
        if measure.would_averaging_help(measurement, _REPEATS):
            selected.append(k)
    again = measure.refine(
        context.oracle,
        context.baseline,
        [measurements[k] for k in selected],
        context.threshold,
        repeats=_REPEATS,
    )
    for k, measurement in zip(selected, again, strict=True):
        averaged[k] = measurement
    return averaged
