"""Confirms every failure before it is reported.

A failure that is clear, by a gap far above the error bars of quotients at two steps,
is measured once more at a perturbed point. If the same error occurs there it stands,
and so do the others of its kind in its variable: one is measured of each.

What is not clear, or not repeated, is examined in three stages. Each may withdraw
the failure, and only what fails all of them stands:

1. It is measured again at a finer sequence of steps. If that passes, it holds.
2. Backpropagation is evaluated at a few points within the step. If it varies there
   by as much as the gap, no step shows the derivative at one point, and the
   comparison is inconclusive (noise).
3. It is measured again at perturbed points, and `replication.confirm` decides: in
   float64 by one replicate, at native precision by five. What is not confirmed
   is put down to a kink if one was seen; to an operation that is wrong at exactly
   this point if the gradient right beside it agrees; else to noise.
"""

from collections.abc import Sequence

from gradhooks.checking import measure, replicates
from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.numerics import sampling
from gradhooks.reports.reasons import Reason

# How many failures of one kind are examined in one variable. A free choice, which changes the cost:
# the others are reported of a variable that is wrong anyway.
_EXAMINED = 2
# How far beside the point the gradient is evaluated to see whether it is wrong at exactly this
# point, in units of each variable's scale. Derived: not only the nudge but its square too must be
# far above float64's roundoff, for a special case may be left by a square; and a smooth gradient
# changes by about as much, which is small beside most gaps. Where it is not, noise is said.
_BESIDE = 1e-6
# Points along a step, in units of the step, at which the gradient is evaluated. A free choice: both
# sides, near and far; the first one that shows a large change ends the search.
_POINTS_ALONG_STEP = (0.5, -0.5, 0.9, -0.9, 0.2, -0.3)
# Distances along a step at which means of opposite gradients are compared, in the same units. A
# free choice on several scales, and not multiples of one: a wave whose period divides them all
# would look the same everywhere.
_DISTANCES_ALONG_STEP = (0.9, 0.37, 0.13, 0.61, 0.053, 0.23, 0.019, 0.007, 1e-4)


def confirm(context: CheckContext, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Returns the measurements without the failures that are not confirmed.

    A declared mismatch is not reported as a failure and is not examined. Of the
    parameters of one variable that fail in the same terms, where their one-sided
    slopes meet, the first two are examined; if both stand the others do, too.

    Args:
        context: The `CheckContext`.
        measurements: The `Measurement`s, failed or not.
    """
    measurements, standing = _confirm_clear(context, measurements)
    alike: dict[object, list[int]] = {}
    for k, measurement in enumerate(measurements):
        is_open = measurement.has_failed and k not in standing
        if is_open and not context.is_declared(measurement):
            kind = _kind_of(context, measurement, k)
            if kind not in context.confirmed.kinds:
                alike.setdefault(kind, []).append(k)
    examined: list[int] = []
    for numbers in alike.values():
        examined += numbers[:_EXAMINED]
    confirmed = _confirm_each(context, measurements, sorted(examined))

    others: list[int] = []
    for numbers in alike.values():
        if not all(confirmed[k].has_failed for k in numbers[:_EXAMINED]):
            others += numbers[_EXAMINED:]
    return _confirm_each(context, confirmed, sorted(others))


def _confirm_clear(
    context: CheckContext,
    measurements: Sequence[Measurement],
) -> tuple[list[Measurement], set[int]]:
    """Replicates a clear failure of each kind, and measures further what is not repeated.

    Returns:
        The measurements, and the numbers of the failures that stand.
    """
    kinds = context.confirmed.kinds
    standing: set[int] = set()
    alike: dict[object, list[int]] = {}
    for k, measurement in enumerate(measurements):
        if not (measurement.has_failed and measurement.is_clear_failure):
            continue
        kind = context.kind_of(measurement)
        if not measurement.is_finite or context.is_declared(measurement):
            standing.add(k)
            kinds |= {kind} if kind else set()
        else:
            alike.setdefault(kind or k, []).append(k)
    first = {kind: numbers[0] for kind, numbers in alike.items() if kind not in kinds}
    repeated = replicates.confirm_clear(context, [measurements[k] for k in first.values()])
    unrepeated: list[int] = []
    for kind, is_repeated in zip(first, repeated, strict=True):
        if not is_repeated:
            unrepeated += alike.pop(kind)
        elif isinstance(kind, tuple):
            kinds.add(kind)
    for numbers in alike.values():
        standing.update(numbers)

    measured = list(measurements)
    doubtful = [measurements[k] for k in unrepeated]
    refined = measure.refine(context.oracle, context.baseline, doubtful, context.threshold)
    for k, measurement in zip(unrepeated, refined, strict=True):
        measured[k] = measurement
    return measured, standing


def _kind_of(context: CheckContext, measurement: Measurement, number: int) -> object:
    """Returns what failures of one kind have in common; the number alone for one of its own."""
    if not (measurement.probe.is_coordinate and measurement.do_slopes_meet):
        return number
    return context.kind_of(measurement)


def _confirm_each(
    context: CheckContext,
    measurements: Sequence[Measurement],
    candidates: Sequence[int],
) -> list[Measurement]:
    """Examines some failures, given by their numbers, as this module's docstring says."""
    failures = [measurements[k] for k in candidates]
    finer = measure.refine(
        context.oracle, context.baseline, failures, context.threshold, is_fine=True
    )

    confirmed = list(measurements)
    remaining: list[int] = []
    meets: list[bool] = []
    has_kink: list[bool] = []
    for k, first, second in zip(candidates, failures, finer, strict=True):
        if _varies_along_step(context, second):
            second = second.withdraw(Reason.KINK if second.failed_at_kink else Reason.NOISE)
        if not second.has_failed:
            confirmed[k] = second
        elif first.is_finite:
            remaining.append(k)
            meets.append(first.do_slopes_meet and second.do_slopes_meet)
            has_kink.append(first.failed_at_kink or second.failed_at_kink)
    failures = [confirmed[k] for k in remaining]
    stands = replicates.confirm(context, failures, meets)
    for k, failure, is_confirmed, is_kinked in zip(
        remaining, failures, stands, has_kink, strict=True
    ):
        if not is_confirmed:
            confirmed[k] = failure.withdraw(_explain_withdrawal(context, failure, is_kinked))
    return confirmed


def _varies_along_step(context: CheckContext, measurement: Measurement) -> bool:
    """Whether backpropagation varies within the step of a failure by as much as it is wrong.

    Of an estimate that may be that of a wave, the means of opposite points are compared: a
    smooth derivative changes from one end of the step to the other, too, but its means do not,
    and neither do quotients, which are the mean of all.
    """
    failed = measurement.failed_comparands.values()
    if any(comparand.is_imprecise for comparand in failed):
        return varies_along_step(context, measurement)
    has_gradient = measurement.is_finite and context.oracle.has_gradient_elsewhere
    if not has_gradient or not any(comparand.may_be_wave for comparand in failed):
        return False
    means: list[list[float]] = []
    for fraction in _DISTANCES_ALONG_STEP:
        ahead, behind = (_slopes_along_step(context, measurement, f) for f in (fraction, -fraction))
        means.append([(a + b) / 2 for a, b in zip(ahead, behind, strict=True)])
        changes = [max(of_term) - min(of_term) for of_term in zip(*means, strict=True)]
        pairs = zip(failed, changes, strict=True)
        if all(comparand.is_explained_by(change) for comparand, change in pairs):
            return True
    return False


def varies_along_step(context: CheckContext, measurement: Measurement) -> bool:
    """Whether backpropagation varies within the step of a failure by as much as it is wrong."""
    if not measurement.is_finite or not context.oracle.has_gradient_elsewhere:
        return False
    failed = measurement.failed_comparands.values()
    for fraction in _POINTS_ALONG_STEP:
        slopes = _slopes_along_step(context, measurement, fraction)
        pairs = zip(failed, slopes, strict=True)
        if all(comparand.is_explained_by(slope - comparand.analytic) for comparand, slope in pairs):
            return True
    return False


def _slopes_along_step(
    context: CheckContext,
    measurement: Measurement,
    fraction: float,
) -> list[float]:
    """Returns the analytic derivatives of the terms that failed, at a fraction of the step."""
    failed = measurement.failed_comparands
    step = max(comparand.estimate.step_size for comparand in failed.values())
    point = measurement.probe.move(context.baseline.point, fraction * step)
    slopes = context.slopes_at(point, measurement.probe)
    return [slopes[t] for t in failed]


def _explain_withdrawal(context: CheckContext, measurement: Measurement, has_kink: bool) -> Reason:
    """Returns why a failure was not confirmed at other points."""
    if has_kink:
        return Reason.KINK
    if not context.spacing.is_native and _is_right_beside(context, measurement):
        return Reason.ONLY_HERE
    return Reason.NOISE


def _is_right_beside(context: CheckContext, measurement: Measurement) -> bool:
    """Whether the gradient right beside the point agrees with the derivative at the point.

    The loss is smooth, so its derivative is the same there.
    """
    failed = measurement.failed_comparands
    if any(comparand.is_imprecise for comparand in failed.values()):
        return False
    point = context.nudge(sampling.Stream.BESIDE, 0, _BESIDE)
    slopes = context.slopes_at(point, measurement.probe)
    for t, comparand in failed.items():
        if comparand.is_explained_by(slopes[t] - comparand.estimate.slope):
            return False
    return True
