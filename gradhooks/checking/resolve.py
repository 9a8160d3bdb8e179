"""Measures probes until they are decided.

Single quotients decide most of them, sequences of steps the others, and what
fails then is confirmed. Where jitter hides a derivative, losses are averaged.

Of several that fail clearly in one variable one is measured and confirmed first.
If it stands, the others do by the quotients that they have.
"""

from collections.abc import Sequence

from gradhooks.checking import clear_failures, measure, step_control, steps
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
    first = step_control.first_quotients(
        context.oracle,
        context.baseline,
        probes,
        context.threshold,
        magnitudes,
    )
    return resolve(context, first)


def resolve(context: CheckContext, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Measures on from first estimates until all are decided, and confirms failures."""
    decided = list(measurements)
    is_among_kinks = steps.is_among_kinks(measurements)
    waiting = _find_alike(context, measurements)
    some = [k for k in range(len(measurements)) if k not in waiting]
    while some:
        refined = step_control.refine_steps(
            context.oracle,
            context.baseline,
            [decided[k] for k in some],
            context.threshold,
            is_among_kinks,
        )
        for k, measurement in zip(some, _refine(context, refined), strict=True):
            decided[k] = measurement
        kinds = context.confirmed.kinds
        some = [k for k in waiting if context.kind_of(decided[k]) not in kinds]
        waiting = []
    return decided


def _find_alike(context: CheckContext, measurements: Sequence[Measurement]) -> list[int]:
    """Returns the numbers of clear failures of which another of the same kind is measured."""
    settled = [context.kind_of(m) for m in measurements if m.is_clear_failure]
    kinds = {*context.confirmed.kinds, *settled}
    alike: list[int] = []
    for k, measurement in enumerate(measurements):
        if measurement.is_settled or not measurement.fails_clearly:
            continue
        kind = context.kind_of(measurement)
        if kind is not None and kind in kinds:
            alike.append(k)
        kinds.add(kind)
    return alike


def _refine(context: CheckContext, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Measures what is unresolved at a sequence of steps, and confirms its failures."""
    unresolved = [k for k, m in enumerate(measurements) if not (m.is_accepted or m.is_on_kink)]
    refined = clear_failures.refine_until_clear(
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
