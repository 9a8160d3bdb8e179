"""Are jumps of the loss lost digits or steps of the model? Single parameters show the difference.

Along a direction over all parameters the steps of many quantized units look like
a loss of few digits. Along one parameter they are far apart, and most parameters
cross none; lost digits show in every parameter on which the rounded value
depends.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from gradhooks._types import Bools, Floats, PerTerm, Vector
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.stencil import ROUGH, Line, estimate_roughness
from gradhooks.numerics import differences, noise
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe

# How many variables are sampled, and how many parameters of each. More make it less likely that a
# step is met by chance, at nine evaluations each; only networks full of jumps get this far. Free
# choices.
_VARIABLES, _PARAMETERS = 8, 3
# The same where a core of low precision is known. Half as many, since every check of such a model
# pays for them.
_VARIABLES_IF_KNOWN = 4
# A slope agrees with its gradient if they differ by less than this fraction. A free choice: a value
# that is rounded away takes the whole slope with it, or a large part.
_MISMATCH = 0.02
# Where a term first moves, it is sampled this many times closer too, see `noise.is_curvature`.
_CLOSER = 4


def lose_digits(
    oracle: Oracle,
    point: Vector,
    gradients: Mapping[str, Vector],
    screening: Probe,
    spacing: float,
    level: PerTerm,
) -> Bools:
    """Returns whether single parameters show the roughness of a direction over all of them.

    Meant for a loss that is known to depend on parameters in steps. Digits that
    are lost in the last sum of all show in few parameters too, so one variable is
    enough in which most parameters show them.

    Args:
        oracle: The `Oracle`.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: The direction, a `Probe` over all parameters.
        spacing: Spacing of the rough stencil, in units of the direction.
        level: float64, shape (T,). Noise level of each term nearby.

    Returns:
        bool, shape (T,); True if there is no parameter to sample.
    """
    sample = _select_parameters(oracle.layout, gradients["total"], screening, _VARIABLES)
    are_lost = np.zeros(len(gradients), bool)
    if not sample:
        return ~are_lost
    for positions in sample:
        rough: list[Bools] = []
        for position in positions:
            line = _CoordinateLine(
                oracle,
                point,
                gradients,
                screening,
                position,
                level,
            )
            rough.append(line.is_rough(spacing))
        are_lost |= 2 * np.sum(rough, axis=0) > len(positions)
    return are_lost


def hidden_level(
    oracle: Oracle,
    point: Vector,
    gradients: Mapping[str, Vector],
    screening: Probe,
    spacings: Sequence[float],
    level: PerTerm,
) -> PerTerm:
    """Returns the size of jumps that no small distance shows: float64, shape (T,), 0 without any.

    A core of few digits that carries a value far from zero rounds it coarsely:
    the loss stands still along the parameters on which the value depends, and
    jumps at a larger distance.

    Args:
        oracle: The `Oracle`.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: The direction, a `Probe` over all parameters.
        spacings: Spacings, ascending, in units of the direction.
        level: float64, shape (T,). Noise level of each term nearby.
    """
    gradient = gradients["total"]
    largest = np.zeros(len(gradients))
    for positions in _select_parameters(oracle.layout, gradient, screening, _VARIABLES_IF_KNOWN):
        levels: list[PerTerm] = []
        for position in positions:
            line = _CoordinateLine(
                oracle,
                point,
                gradients,
                screening,
                position,
                level,
            )
            levels.append(line.hidden_level(spacings))
        largest = np.maximum(largest, np.median(levels, axis=0))
    return largest


def _select_parameters(
    layout: Layout,
    gradient: Vector,
    screening: Probe,
    count: int,
) -> list[list[int]]:
    """Returns the parameters with the largest gradients, of variables from all over the model.

    Returns:
        For each variable, at most `count` of them, the flat indices.
    """
    live: list[slice] = []
    for variable in range(len(layout)):
        part = layout.slice(variable)
        has_gradient = gradient[part].any()
        if has_gradient and screening.weights[part].any():
            live.append(part)
    if not live:
        return []
    selected: list[list[int]] = []
    spread = np.linspace(0, len(live) - 1, count, dtype=int)
    for k in np.unique(spread):
        part = live[k]
        order = np.argsort(-np.abs(gradient[part]), kind="stable")
        selected.append([part.start + int(index) for index in order[:_PARAMETERS]])
    return selected


class _CoordinateLine:
    """The loss along a single parameter, moved by as much as the direction moves it."""

    def __init__(
        self,
        oracle: Oracle,
        point: Vector,
        gradients: Mapping[str, Vector],
        screening: Probe,
        position: int,
        level: PerTerm,
    ) -> None:
        self._oracle = oracle
        self._point = point
        self._level = level
        self._probe = Probe(position, np.ones(1))
        self._unit = abs(float(screening.weights[position]))
        self._expected = np.array([gradient[position] for gradient in gradients.values()])

    def is_rough(self, spacing: float) -> Bools:
        """Whether each term is rough along the parameter: bool, shape (T,)."""
        _, stencil = self._sample(spacing)
        return estimate_roughness(stencil, 3) > ROUGH * self._level

    def hidden_level(self, spacings: Sequence[float]) -> PerTerm:
        """Returns how rough each term is at the spacing at which it first moves.

        Returns:
            float64, shape (T,); 0 for a term that follows its gradient at the
            first spacing, or moves at none.
        """
        levels = np.zeros(len(self._expected))
        is_still = np.ones(len(levels), bool)
        for number, spacing in enumerate(spacings):
            offsets, stencil = self._sample(spacing)
            if number == 0:
                is_still = ~self._follows_gradient(offsets, stencil)
            movement = np.ptp(stencil, axis=0)
            is_moving = is_still & (movement > ROUGH * self._level)
            roughness = estimate_roughness(stencil, 3)
            levels = np.where(is_moving, roughness, levels)
            is_still = is_still & ~is_moving
            if not is_still.any():
                break
        return levels

    def _sample(self, spacing: float) -> tuple[Floats, Floats]:
        """Returns (offsets, losses): float64, shapes (POINTS,) and (POINTS, T)."""
        offsets = spacing * self._unit * np.array(noise.OFFSETS)
        pairs = [(0, float(offset)) for offset in offsets]
        losses = self._oracle.losses(self._point, [self._probe], pairs)
        return offsets, np.asarray(losses)

    def _follows_gradient(
        self,
        offsets: Floats,
        stencil: Floats,
    ) -> Bools:
        span = offsets[-1] - offsets[0]
        slopes = (stencil[-1] - stencil[0]) / span
        error = differences.DEVIATIONS * self._level / abs(offsets[-1])
        allowed = _MISMATCH * np.abs(self._expected) + error
        return np.abs(slopes - self._expected) <= allowed


def raise_to_jumps(
    line: Line,
    spacings: Sequence[float],
    base: PerTerm,
    level: PerTerm,
    is_stationary: Bools,
    may_lose_digits: bool,
) -> PerTerm:
    """Returns the noise level of a stationary loss, from the distance at which it first moves.

    If its jumps there are of the size that float32 leaves, it has few digits; if
    they are larger it has real steps, which are no noise.

    Args:
        line: The loss along the screening direction.
        spacings: Where it is sampled, ascending.
        base: float64, shape (T,). The loss terms at the point.
        level: float64, shape (T,). Noise level nearby.
        is_stationary: bool, shape (T,). Which terms stand still nearby.
        may_lose_digits: Whether the loss contains a core of low precision, or code that may.
    """
    level = level.copy()
    is_stationary = is_stationary.copy()
    for spacing in spacings:
        stencil = line.sample(spacing)[spacing]
        is_still = line.is_stationary(stencil, spacing, level)
        jumps = estimate_roughness(stencil, 3)
        begins = is_stationary & ~is_still
        if begins.any():
            begins &= ~_is_curved(line, spacing, jumps)
        for t in np.flatnonzero(begins):
            if may_lose_digits or noise.is_float32(jumps[t], base[t]):
                level[t] = max(level[t], jumps[t])
        is_stationary &= is_still
        if not is_stationary.any():
            break
    return level


def _is_curved(line: Line, spacing: float, jumps: PerTerm) -> Bools:
    """Whether what looks like jumps is the curvature of a smooth term: bool, shape (T,).

    A loss may stand almost still along one direction because its slopes cancel there, while a
    wrong gradient says that they do not.

    Args:
        line: The loss along the screening direction.
        spacing: Where the term first moves.
        jumps: float64, shape (T,). Its roughness there.
    """
    closer = spacing / _CLOSER
    stencil = line.sample(closer)[closer]
    values = zip(jumps, estimate_roughness(stencil, 3), np.ptp(stencil, axis=0), strict=True)
    return np.array([noise.is_curvature(*of_term) for of_term in values])
