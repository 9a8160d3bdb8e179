"""Which sampled parameters share a pair of evaluations, and how far each of them moves."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import Floats
from gradhooks.checking import steps
from gradhooks.checking.context import CheckContext
from gradhooks.numerics import differences, sampling
from gradhooks.numerics.probe import Probe
from gradhooks.verdicts import judge

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
PRECISIONS = (10.0, 1.0)


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
        members.sort(key=lambda position: move_of(context, position, PRECISIONS[0]))
        for part in np.array_split(members, math.ceil(len(members) / _MOST)):
            if len(part) < 2:
                single += part.tolist()
            else:
                own = np.sort(part)
                pools.append(Pool(own, np.array([sizes[p] for p in own.tolist()])))
    return sorted(single), pools


def make_probe(context: CheckContext, pool: Pool, precision: float) -> Probe:
    """Returns the probe that moves a pool along its gradient, by one unit of offset."""
    positions: list[int] = pool.positions.tolist()
    moves = pool.sizes * [move_of(context, position, precision) for position in positions]
    # What floating point really moves from here, see `steps.actual_step`.
    values = context.baseline.point[pool.positions]
    moves = ((values + moves) - (values - moves)) / 2
    weights = np.copysign(moves, context.baseline.gradients["total"][pool.positions])
    scales = [context.coordinate(position).length_scale for position in positions]
    length = 1.0 / float(np.linalg.norm(weights / scales))
    return Probe(positions[0], weights, length, pool.positions)


def move_of(context: CheckContext, position: int, precision: float) -> float:
    """Returns how far a parameter moves by itself, at most at a precision."""
    at, probe = context.baseline, context.coordinate(position)
    own = steps.first_step(at, probe, context.threshold)
    return min(own, steps.step_for_precision(at, probe, context.threshold, precision))


def _is_quiet(context: CheckContext) -> bool:
    """Whether losses and gradients are as precise as pools need, and alike in every evaluation."""
    at = context.baseline
    return not (context.spacing.is_native or at.is_jittering or at.gradient_noise is not None)


def _has_signal(context: CheckContext, position: int) -> bool:
    """Whether a quotient of one parameter would resolve its derivatives, but for those of zero.

    A mismatch that is declared would only have its pool taken apart.
    """
    at = context.baseline
    total = float(at.gradients["total"][position])
    is_declared = context.layout.variable_of(position) in context.excused
    if is_declared or not (total and math.isfinite(total)):
        return False
    move = _SIZES[0] * move_of(context, position, PRECISIONS[-1])
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
