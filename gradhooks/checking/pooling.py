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
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import Floats
from gradhooks.checking import steps
from gradhooks.checking.context import CheckContext
from gradhooks.checking.evaluation_point import EvaluationPoint
from gradhooks.checking.measurement import Measurement, accepts, judge_estimates
from gradhooks.numerics import differences, sampling
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.verdicts import judge
from gradhooks.verdicts.replication import Comparand

# How many sampled parameters are measured one by one in every check, others each time. A free
# choice: what is shown of the numbers does not rest on pools alone.
ALONE = 4
# Most parameters of a pool. A free choice that changes the cost: two pools hold the 28 of 32
# sampled parameters that are not measured alone. Larger ones meet more kinks and more curvature.
_MOST = 14
# Parameters of a pool move by between these times the step of their own. A free choice: random
# sizes, so that errors do not cancel.
_SIZES = (0.75, 1.25)
# Precisions of the steps, see `numerics.step_sizes`: that of a parameter by itself, and a smaller
# one, which crosses fewer kinks. Derived: one quotient of precision 1 is accepted up to
# `2 + 4 / sqrt(2)` thresholds, so that a relative error of ten, 1e-6, does not pass.
_PRECISIONS = (10.0, 1.0)
# The smaller step is tried if the gap seen so far exceeds what it would accept by this factor, as
# for parameters by themselves.
_DETECTABLE = 2


@dataclasses.dataclass(frozen=True)
class Pool:
    """Parameters that move together.

    Args:
        positions: int64, shape (K,), ascending. Their flat indices.
        sizes: float64, shape (K,). How far they move, in units of the step of their own.
    """

    positions: NDArray[np.int64]
    sizes: Floats

    def halve(self) -> "list[Pool]":
        """Returns two pools of half the parameters each."""
        middle = len(self.sizes) // 2
        return [
            Pool(self.positions[:middle], self.sizes[:middle]),
            Pool(self.positions[middle:], self.sizes[middle:]),
        ]


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


def split_sample(
    context: CheckContext, positions: Sequence[int], alone: int = ALONE
) -> tuple[list[int], list[Pool]]:
    """Returns which parameters are measured one by one, and the pools of the others.

    Args:
        context: The `CheckContext`.
        positions: Flat indices of the sampled parameters.
        alone: How many are measured one by one in any case.
    """
    groups = context.oracle.pooling_groups
    if not groups or not _is_quiet(context):
        return [*positions], []
    settings = context.settings
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.POOLING, alone)
    order: list[int] = rng.permutation(np.asarray(positions, np.int64)).tolist()
    sizes = dict(zip(order, rng.uniform(*_SIZES, size=len(order)).tolist(), strict=True))
    single = order[:alone]
    alike: dict[tuple[int, ...], list[int]] = {}
    for position in order[alone:]:
        if not _has_signal(context, position):
            single.append(position)
            continue
        # Only parameters of one group share an evaluation. Those without a penalty have none whose
        # curvature they could bear.
        variable = context.layout.variable_of(position)
        group = int(np.searchsorted(groups, variable, side="right"))
        terms = [int(g[position] != 0) for g in context.baseline.gradients.values()]
        alike.setdefault((group, *terms), []).append(position)

    pools: list[Pool] = []
    for members in alike.values():
        # The longest moves leave the largest truncation, which the others would bear.
        members.sort(key=lambda position: _move_of(context, position, _PRECISIONS[0]))
        for part in np.array_split(members, math.ceil(len(members) / _MOST)):
            if len(part) < 2:
                single += part.tolist()
            else:
                own = np.sort(part)
                pools.append(Pool(own, np.array([sizes[p] for p in own.tolist()])))
    return sorted(single), pools


def measure_pools(context: CheckContext, pools: Sequence[Pool]) -> Pooled:
    """Measures pools, two evaluations each.

    One that meets kinks is measured once more at smaller steps, and then by halves.

    Args:
        context: The `CheckContext`.
        pools: The `Pool`s of `split_sample`.
    """
    found = Pooled([], [], [])
    usual, smaller = _PRECISIONS
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


def _is_quiet(context: CheckContext) -> bool:
    """Whether losses and gradients are as precise as pools need, and alike in every evaluation."""
    at = context.baseline
    return not (context.spacing.is_native or at.is_jittering or at.gradient_noise is not None)


def _move_of(context: CheckContext, position: int, precision: float) -> float:
    """Returns how far a parameter moves by itself, at most at a precision."""
    at, probe = context.baseline, context.coordinate(position)
    own = steps.first_step(at, probe, context.threshold)
    return min(own, steps.step_for_precision(at, probe, context.threshold, precision))


def _has_signal(context: CheckContext, position: int) -> bool:
    """Whether a quotient of one parameter would resolve its derivatives, but for those of zero.

    A mismatch that is declared would only have its pool taken apart.
    """
    at = context.baseline
    total = float(at.gradients["total"][position])
    is_declared = context.layout.variable_of(position) in context.excused
    if is_declared or not (total and math.isfinite(total)):
        return False
    move = _SIZES[0] * _move_of(context, position, _PRECISIONS[-1])
    value = float(at.point[position])
    if not (value + move) - (value - move):
        return False
    for gradient, level in zip(at.gradients.values(), at.noise, strict=True):
        part = abs(float(gradient[position]))
        if part and not differences.rounding_error(float(level), move) <= (
            2 * judge.RESOLUTION * part
        ):
            return False
    return True


def _is_worthwhile(context: CheckContext, pool: Pool, members: Sequence[Measurement]) -> bool:
    """Whether the smaller step may decide: it would show the gap of a pool, or there is none.

    Without a gap, only curvature keeps a pool from being accepted.
    """
    gaps: list[float] = []
    remaining: list[float] = []
    for member, size in zip(members, pool.sizes.tolist(), strict=True):
        smaller = size * _move_of(context, member.probe.start, _PRECISIONS[-1])
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
    probes = [_make_probe(context, pool, precision) for pool in pools]
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


def _make_probe(context: CheckContext, pool: Pool, precision: float) -> Probe:
    """Returns the probe that moves a pool along its gradient, by one unit of offset."""
    positions: list[int] = pool.positions.tolist()
    moves = pool.sizes * [_move_of(context, position, precision) for position in positions]
    # What floating point really moves from here, see `steps.actual_step`.
    values = context.baseline.point[pool.positions]
    moves = ((values + moves) - (values - moves)) / 2
    weights = np.copysign(moves, context.baseline.gradients["total"][pool.positions])
    scales = [context.coordinate(position).length_scale for position in positions]
    length = 1.0 / float(np.linalg.norm(weights / scales))
    return Probe(positions[0], weights, length, pool.positions)


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
