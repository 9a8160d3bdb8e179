"""Pooled probes: several sampled parameters decided by one pair of evaluations.

Each parameter of a pool is moved along its gradient, about as far as it would be by
itself. The noise of the loss stays what it is, so that the quotient of the pool shows
an error in one of them as sharply as a quotient of its own would: whatever differs is
put down to each in turn, as if it alone made all of the difference, and each must be
accepted so. Errors of several could cancel, but only by chance, for their sizes are
random. The idea is that of group testing (R. Dorfman, "The detection of defective
members of large populations", 1943): a pool that disagrees is taken apart, and its
parameters are measured one by one.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gradhooks.checking.context import CheckContext
from gradhooks.checking.evaluation_point import EvaluationPoint
from gradhooks.checking.measurement import Measurement, accepts, judge_estimates
from gradhooks.checking.pools import PRECISIONS, Pool, make_probe, move_of
from gradhooks.numerics import differences
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.verdicts import judge
from gradhooks.verdicts.replication import Comparand

# The smaller step is tried if the gap seen so far exceeds what it would accept by this factor, as
# for parameters by themselves.
_DETECTABLE = 2


@dataclasses.dataclass(frozen=True)
class Pooled:
    """What pools show.

    Args:
        measured: The measurements of the parameters whose pool agrees.
        open: Flat indices of the parameters of pools that do not, as for a kink.
        wrong: The same where the difference is clearly an error of the gradient.
    """

    measured: list[Measurement]
    open: list[int]
    wrong: list[int]


def measure_pools(context: CheckContext, pools: Sequence[Pool]) -> Pooled:
    """Measures pools, two evaluations each.

    One that meets kinks is measured once more at smaller steps, and then by halves.

    Args:
        context: The `CheckContext`.
        pools: The `Pool`s of `split_sample`.
    """
    found = Pooled([], [], [])
    usual, smaller = PRECISIONS
    if context.baseline.has_dense_kinks:
        # Where the first meets kinks at the smaller step, so will the others.
        if _sort_out(context, pools[:1], smaller, found):
            found.open.extend(_list_positions(pools))
            return found
        waiting = [*pools[1:]]
    else:
        waiting: list[Pool] = []
        for pool, members in _sort_out(context, pools, usual, found):
            if _is_worthwhile(context, pool, members):
                waiting.append(pool)
            else:
                found.open.extend(_list_positions([pool]))
    halves: list[Pool] = []
    for pool, _ in _sort_out(context, waiting, smaller, found):
        halves += pool.halve()
    still_open = _sort_out(context, halves, smaller, found)
    found.open.extend(_list_positions([pool for pool, _ in still_open]))
    return found


def _list_positions(pools: Sequence[Pool]) -> list[int]:
    return [position for pool in pools for position in pool.positions.tolist()]


def _sort_out(
    context: CheckContext, pools: Sequence[Pool], precision: float, found: Pooled
) -> list[tuple[Pool, list[Measurement]]]:
    """Measures pools at one precision, and adds to what was found.

    Returns:
        The pools that neither agree nor are clearly wrong, with their measurements.
    """
    undecided: list[tuple[Pool, list[Measurement]]] = []
    measured = _measure_each(context, pools, precision)
    for pool, (probe, quotients, members) in zip(pools, measured, strict=True):
        if all(m.is_accepted and m.has_passed for m in members):
            found.measured.extend(members)
        elif _fails_clearly(context, probe, quotients):
            found.wrong.extend(_list_positions([pool]))
        else:
            undecided.append((pool, members))
    return undecided


def _fails_clearly(
    context: CheckContext, probe: Probe, quotients: Sequence[DerivativeEstimate]
) -> bool:
    """Whether the quotient of a pool differs by far more than its error bar and its opening."""
    gradients = context.baseline.gradients.values()
    return any(
        judge.is_clear_failure(probe.slope_of(gradient), quotient)
        for gradient, quotient in zip(gradients, quotients, strict=True)
    )


def _is_worthwhile(context: CheckContext, pool: Pool, members: Sequence[Measurement]) -> bool:
    """Whether the smaller step may decide: it would show the gap of a pool, or there is none.

    Without a gap, only curvature keeps a pool from being accepted.
    """
    gaps: list[float] = []
    remaining: list[float] = []
    for member, size in zip(members, pool.sizes.tolist(), strict=True):
        smaller = size * move_of(context, member.probe.start, PRECISIONS[-1])
        for t, level in enumerate(context.baseline.noise):
            compared = member.comparand(t)
            gap = abs(compared.analytic - compared.estimate.slope)
            gaps.append(gap - _accepted_gap(context, compared, level, compared.estimate.step_size))
            remaining.append(gap - _DETECTABLE * _accepted_gap(context, compared, level, smaller))
    return max(gaps) <= 0 or max(remaining) > 0


def _accepted_gap(context: CheckContext, compared: Comparand, level: float, step: float) -> float:
    """The largest gap at which a quotient of one parameter at some step is accepted."""
    rounding = differences.rounding_error(float(level), step)
    return judge.accepted_gap(compared.analytic, compared.estimate, rounding, context.threshold)


def _measure_each(
    context: CheckContext, pools: Sequence[Pool], precision: float
) -> list[tuple[Probe, list[DerivativeEstimate], list[Measurement]]]:
    """Measures each pool: its probe, its quotient per term, and what that says of each parameter.

    See `_attribute`.
    """
    if not pools:
        return []
    probes = [make_probe(context, pool, precision) for pool in pools]
    pairs = [(k, offset) for k in range(len(pools)) for offset in (1.0, -1.0)]
    at = context.baseline
    losses = context.oracle.losses(at.point, probes, pairs).reshape(len(pools), 2, -1)
    each: list[tuple[Probe, list[DerivativeEstimate], list[Measurement]]] = []
    for probe, (plus, minus) in zip(probes, losses, strict=True):
        quotients: list[DerivativeEstimate] = []
        for t, level in enumerate(at.noise):
            quotients.append(
                differences.central(at.base[t], plus[t], minus[t], 1.0, level, probe.length_scale)
            )
        each.append((probe, quotients, _attribute(context, probe, quotients)))
    return each


def _attribute(
    context: CheckContext, pool: Probe, quotients: Sequence[DerivativeEstimate]
) -> list[Measurement]:
    """Returns a `Measurement` of each parameter, as if it alone made all of the difference."""
    at: EvaluationPoint = context.baseline
    slopes = [pool.slope_of(gradient) for gradient in at.gradients.values()]
    no_errors = np.zeros(len(slopes))
    members: list[Measurement] = []
    assert pool.positions is not None
    for position, weight in zip(pool.positions.tolist(), pool.weights.tolist(), strict=True):
        probe = context.coordinate(position)
        analytic: list[float] = []
        estimates: list[DerivativeEstimate] = []
        is_accepted = True
        for t, gradient in enumerate(at.gradients.values()):
            own = probe.slope_of(gradient)
            estimate = _estimate_alone(own, slopes[t], quotients[t], weight)
            level = float(at.noise[t])
            is_accepted = is_accepted and accepts(
                probe, own, estimate, level, context.threshold, 0.0
            )
            analytic.append(own)
            estimates.append(estimate)
        members.append(
            judge_estimates(
                probe,
                tuple(analytic),
                tuple(estimates),
                (0.0,) * len(analytic),
                is_accepted,
                context.threshold,
                no_errors,
                len(pool.weights),
            )
        )
    return members


def _estimate_alone(
    analytic: float, slope: float, quotient: DerivativeEstimate, weight: float
) -> DerivativeEstimate:
    """Returns the derivative of one parameter if the others of its pool are right.

    Args:
        analytic: Its derivative by backpropagation.
        slope: What backpropagation says of the whole pool.
        quotient: The quotient of the pool.
        weight: How far the parameter moved.
    """
    size = abs(weight)
    return DerivativeEstimate(
        analytic + (quotient.slope - slope) / weight,
        quotient.error / size,
        size * quotient.step_size,
        analytic + (quotient.left - slope) / weight,
        analytic + (quotient.right - slope) / weight,
        truncation=quotient.truncation / size,
    )
