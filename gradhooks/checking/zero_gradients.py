"""Variables whose gradient is zero everywhere: does the loss depend on them or not?

Behind rounding, an argmax or a hard gate the loss is a staircase. It is flat
around the point, so that numeric and analytic derivative agree on zero, but it
changes when the variable moves far. A ReLU that is off looks the same nearby,
but is on at some distance, and then the variable has a gradient there. So has a
sigmoid far out on both sides, but only in a small part of the way between them.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.random import Generator

from gradhooks._types import Floats, PerVariable, Vector
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.oracle import Oracle
from gradhooks.numerics import sampling
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe

# Offsets at which the loss is evaluated, in units of the variable's scale: from a change that keeps
# the network as it is to one that replaces the variable. Free choices.
_DISTANCES = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
# A staircase shows at least this many levels. Two may be the two sides of a single jump between
# regions in which a continuous function is off.
_LEVELS = 3
# The loss changes if it does so by more than this many standard deviations of its noise. A free
# choice, far above any chance: the changes in question are those of a network without a variable.
_VISIBLE = 100.0
# Factors that bring sigmoids back from far out, whatever their weights: a free choice, from a tenth
# to the smallest number of float32.
_SHRINKAGES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 1e-16, 1e-24, 1e-32, 1e-38)
# How often the way across a jump is halved: below this part of it a steep function cannot be told
# from a jump. A free choice: a millionth.
_HALVINGS = 20
# Variables that are moved at most: each takes as many evaluations as there are distances. A bound
# on the cost; a note names those that are left out.
_MOST = 16


@dataclasses.dataclass(frozen=True)
class ZeroGradient:
    """A variable without any gradient, and how the loss changes when it moves far.

    Args:
        variable: Number of the variable.
        change: Largest change of the loss, in loss units.
        distance: The offset along `probe` at which it was found.
        is_blocked: Whether the loss moves in steps while the gradient stays zero.
        probe: The direction over the variable.
    """

    variable: int
    change: float
    distance: float
    is_blocked: bool
    probe: Probe


def find_zero_gradients(layout: Layout, gradient: Vector) -> list[int]:
    """Returns the numbers of the variables whose analytic gradient is exactly zero.

    Args:
        layout: The `Layout`.
        gradient: float64, shape (P,).
    """
    zero: list[int] = []
    for variable in range(len(layout)):
        part = gradient[layout.slice(variable)]
        if len(part) and not part.any():
            zero.append(variable)
    return zero


def move_variables(
    layout: Layout,
    oracle: Oracle,
    at: EvaluationPoint,
    scales: PerVariable,
    variables: Iterable[int],
    rng: Generator,
) -> list[ZeroGradient]:
    """Moves variables without a gradient far, one by one, and evaluates loss and gradient there.

    Args:
        layout: The `Layout`.
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        scales: float64, shape (V,). Typical parameter size per variable.
        variables: Numbers of the variables.
        rng: The random number generator.

    Returns:
        One `ZeroGradient` per variable, at most 16.
    """
    variables = list(variables)[:_MOST]
    # Dead units look like a blocked gradient until their gradient far away is known.
    if not variables or not oracle.has_gradient_elsewhere:
        return []
    probes = _make_probes(layout, scales, variables, rng)
    pairs: list[tuple[int, float]] = []
    for k, probe in enumerate(probes):
        for distance in _DISTANCES:
            pairs.append((k, distance * probe.length_scale))
    losses = oracle.losses(at.point, probes, pairs)
    totals = losses[:, 0].reshape(len(probes), len(_DISTANCES))
    changes = totals - at.base[0]
    threshold = _VISIBLE * at.noise[0]
    is_visible = np.abs(changes) > threshold

    # Gradients are evaluated wherever the loss has changed, for all these variables at once.
    moving = [probe for probe, row in zip(probes, is_visible, strict=True) if row.any()]
    distances = np.array(_DISTANCES)[is_visible.any(axis=0)]
    with_gradient = _find_distant_gradients(layout, oracle, at, moving, distances.tolist())

    results: list[ZeroGradient] = []
    for k, variable in enumerate(variables):
        row = changes[k]
        farthest = 0
        if np.isfinite(row).any():
            farthest = int(np.nanargmax(np.abs(row)))
        is_blocked = (
            bool(is_visible[k].any())
            and variable not in with_gradient
            and _count_levels(row, threshold) >= _LEVELS
        )
        change = float(abs(row[farthest]))
        offset = _DISTANCES[farthest] * probes[k].length_scale
        zero = ZeroGradient(variable, change, offset, is_blocked, probes[k])
        results.append(zero)
    return _withdraw_saturated(layout, oracle, at, results)


def _withdraw_saturated(
    layout: Layout,
    oracle: Oracle,
    at: EvaluationPoint,
    zeros: list[ZeroGradient],
) -> list[ZeroGradient]:
    """Returns the variables, blocked only where the loss jumps.

    Between the two flat sides of a continuous function lies a slope. It is found
    where the weights are small, or by halving the way on which the loss changes.
    """
    blocked = {zero.variable: zero.probe for zero in zeros if zero.is_blocked}
    if not blocked:
        return zeros
    points: list[Vector] = []
    for factor in _SHRINKAGES:
        point = at.point.copy()
        for variable in blocked:
            point[layout.slice(variable)] *= factor
        points.append(point)
    distances = [abs(zero.distance) for zero in zeros if zero.is_blocked]
    points.append(_find_jump(oracle, at, [*blocked.values()], max(distances)))
    saturated: set[int] = set()
    for point in points:
        gradient = oracle.gradients(point).terms["total"]
        saturated |= {v for v in blocked if gradient[layout.slice(v)].any()}
    remaining: list[ZeroGradient] = []
    for zero in zeros:
        is_blocked = zero.is_blocked and zero.variable not in saturated
        remaining.append(dataclasses.replace(zero, is_blocked=is_blocked))
    return remaining


def _find_jump(
    oracle: Oracle,
    at: EvaluationPoint,
    probes: list[Probe],
    distance: float,
) -> Vector:
    """Returns a point on the steepest part of a way along all probes, float64, shape (P,)."""
    direction = np.zeros(len(at.point))
    for probe in probes:
        direction[probe.entries] += probe.weights
    way = Probe(0, direction)
    losses = {0.0: float(at.base[0])}

    def loss(offset: float) -> float:
        if offset not in losses:
            losses[offset] = float(oracle.losses(at.point, [way], [(0, offset)])[0, 0])
        return losses[offset]

    near, far = 0.0, distance
    if abs(loss(-distance) - loss(0.0)) > abs(loss(distance) - loss(0.0)):
        far = -distance
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        if abs(loss(middle) - loss(near)) > abs(loss(far) - loss(middle)):
            far = middle
        else:
            near = middle
    return way.move(at.point, (near + far) / 2)


def _make_probes(
    layout: Layout,
    scales: PerVariable,
    variables: list[int],
    rng: Generator,
) -> list[Probe]:
    """Returns a random direction over each variable."""
    no_gradient = np.zeros(layout.size)
    probes: list[Probe] = []
    for variable in variables:
        probe = sampling.variable_probe(
            layout,
            variable,
            scales[variable],
            no_gradient,
            rng,
            aligned=False,
        )
        probes.append(probe)
    return probes


def _find_distant_gradients(
    layout: Layout,
    oracle: Oracle,
    at: EvaluationPoint,
    probes: list[Probe],
    distances: list[float],
) -> set[int]:
    """Returns the numbers of the variables that have a gradient at one of the distances."""
    with_gradient: set[int] = set()
    for distance in distances:
        point = at.point.copy()
        for probe in probes:
            point[probe.entries] += distance * probe.length_scale * probe.weights
        gradient = oracle.gradients(point).terms["total"]
        for probe in probes:
            if gradient[probe.start : probe.stop].any():
                with_gradient.add(layout.variable_of(probe.start))
    return with_gradient


def _count_levels(changes: Floats, threshold: float) -> int:
    """Returns how many values differ by more than the threshold, zero among them."""
    finite = changes[np.isfinite(changes)]
    levels = np.sort(np.append(finite, 0.0))
    jumps = np.diff(levels) > threshold
    return 1 + int(np.sum(jumps))
