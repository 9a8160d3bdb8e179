"""What is known of a point before derivatives are measured: its loss, its noise level, its kinks.

`estimate_baseline` samples the loss in stencils along one direction over all
parameters, and does two things with them:

* It classifies the loss along the direction, see `LossKind`: smooth, stationary,
  full of kinks, or rough.
* It estimates the noise level accordingly. A smooth loss shows its rounding. A
  stationary one may have lost the digits in which it moves, which larger
  distances show. A rough one has lost digits, or has kinks, which are no noise.

Where two evaluations at the point itself differ, the loss jitters: that is noise
like any other, and more evaluations there show how large it is.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from gradhooks._types import Bools, Floats, PerTerm, Vector
from gradhooks.checking import lost_digits
from gradhooks.checking.evaluation_point import EvaluationPoint
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.stencil import (
    MIDDLE,
    ROUGH,
    ROUGH_NATIVE,
    Line,
    LossKind,
    classify,
    estimate_roughness,
)
from gradhooks.numerics import noise
from gradhooks.numerics.probe import Probe

# A rough stencil is compared with one of this many times its spacing, see `noise.is_staircase`.
_WIDER = 16


@dataclasses.dataclass(frozen=True)
class StencilSpacing:
    """How finely the noise is sampled along a direction, in relative parameter changes.

    Args:
        tiny: Shows the rounding of the loss alone: no smooth loss changes its
            shape over this distance.
        working: A quarter of the step of the screening probe: shows lost digits
            that only larger steps meet.
        wide: Further spacings where a core of low precision is known or possible.
        is_native: Whether low precision is expected.
    """

    tiny: float
    working: float
    wide: tuple[float, ...]
    is_native: bool = False


# In float64: far below the curvature of a network but well above the spacing of float64; a quarter
# of the step 1e-5 that balances rounding and truncation; and three steps up to where a network
# changes. At native precision the same roles for float32 and less. Free choices of about a digit.
PROMOTED = StencilSpacing(1e-9, 2.5e-6, (1e-4, 3e-3, 5e-2))
NATIVE = StencilSpacing(1e-4, 2.5e-3, (), True)


def estimate_baseline(
    oracle: Oracle,
    point: Vector,
    gradients: Mapping[str, Vector],
    screening: Probe,
    spacing: StencilSpacing,
    may_lose_digits: bool = False,
    has_steps: bool = False,
) -> tuple[EvaluationPoint, dict[float, Floats]]:
    """Evaluates the loss along the screening probe: base value, jitter, noise level, kinks.

    Args:
        oracle: The `Oracle`.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: `Probe` over all parameters, in relative parameter changes.
        spacing: A `StencilSpacing`.
        may_lose_digits: Whether the loss contains a core of low precision, or code
            that may be one, so that wide spacings are sampled in any case.
        has_steps: Whether the loss is known to depend on parameters in steps;
            those are not rounding, however many of them there are.

    Returns:
        (point, stencils): the `EvaluationPoint`, and the losses at each of the two
        nearest spacings, float64, shape (POINTS, T).
    """
    line = Line(oracle, point, gradients, screening)
    near = line.sample(spacing.tiny, spacing.working)
    tiny = near[spacing.tiny]
    working = near[spacing.working]
    base, deviation = _repeat(line, tiny[MIDDLE], working[MIDDLE])
    if not np.isfinite(base).all():
        no_noise = np.zeros_like(base)
        return EvaluationPoint(point, gradients, base, no_noise), near

    nearby = _estimate_nearby(line, spacing, near, deviation, may_lose_digits)
    level, is_stationary = nearby.level, nearby.is_stationary
    if may_lose_digits and not (spacing.is_native or has_steps or is_stationary.any()):
        level = np.maximum(level, _find_hidden_level(line, spacing, level))

    follows = not may_lose_digits and line.follows_gradient(tiny, spacing.tiny, level)
    kind = classify(is_stationary, nearby.is_rough, follows)
    has_dense_kinks = kind is LossKind.DENSE_KINKS
    if kind is LossKind.STATIONARY:
        level = lost_digits.raise_to_jumps(
            line,
            spacing.wide,
            base,
            level,
            is_stationary,
            may_lose_digits,
        )
    elif kind is LossKind.ROUGH:
        needs_singles = has_steps and not (may_lose_digits or spacing.is_native)
        level, is_lost = _raise_to_lost_digits(
            line,
            spacing.working,
            level,
            nearby.roughness,
            needs_singles,
        )
        has_dense_kinks = bool((nearby.is_rough & ~is_lost).any())
    level[0] = max(level)  # the total is the sum of the other terms, and has their noise
    # The difference of two independent evaluations.
    jitter = math.sqrt(2.0) * float(np.max(deviation))
    evaluation_point = EvaluationPoint(
        point, gradients, base, level, jitter, has_dense_kinks, oracle.gradient_noise
    )
    return evaluation_point, near


def _repeat(line: Line, first: PerTerm, again: PerTerm) -> tuple[PerTerm, PerTerm]:
    """Returns the loss at the point, and the standard deviation of one evaluation there.

    A loss that gives the same number twice is not evaluated more often. Of one
    that does not, two evaluations tell little: they may lie close by chance.

    Args:
        line: The loss along the screening direction.
        first: float64, shape (T,). The loss at the point.
        again: The same, evaluated once more.

    Returns:
        Two arrays, float64, shape (T,); the loss is not finite where one of its
        evaluations is not.
    """
    none = np.zeros_like(first)
    if np.array_equal(first, again, equal_nan=True):
        return first, none
    values = np.stack([first, again, *line.sample(0.0)[0.0]])
    if not np.isfinite(values).all():
        return np.sum(values, axis=0), none
    differences = values - first
    return first + np.mean(differences, axis=0), np.std(differences, axis=0, ddof=1)


@dataclasses.dataclass(frozen=True)
class _Nearby:
    """What the two nearest stencils show of each term.

    Args:
        level: float64, shape (T,). Noise level.
        roughness: float64, shape (T,). Roughness of the working stencil.
        is_rough: bool, shape (T,). Whether that is more than noise.
        is_stationary: bool, shape (T,). Whether the term stands still.
    """

    level: PerTerm
    roughness: PerTerm
    is_rough: Bools
    is_stationary: Bools


def _estimate_nearby(
    line: Line,
    spacing: StencilSpacing,
    near: Mapping[float, Floats],
    deviation: PerTerm,
    may_lose_digits: bool,
) -> _Nearby:
    tiny = near[spacing.tiny]
    working = near[spacing.working]
    base = tiny[MIDDLE]
    least = [noise.rounding_floor(value) for value in base]
    least = np.maximum(least, deviation)
    level = np.maximum(least, estimate_roughness(tiny, 2, has_kink=True))
    roughness = estimate_roughness(working, 3)
    factor = ROUGH_NATIVE if spacing.is_native else ROUGH
    is_rough = roughness > factor * level
    # Two stencils know the noise better than one, unless the larger one shows more than noise.
    raised = np.maximum(level, roughness)
    level = np.where(is_rough, level, raised)
    is_stationary = line.is_stationary(working, spacing.working, level)
    if may_lose_digits or spacing.is_native:
        float32_level = noise.FLOAT32 * np.abs(base)
        level = np.where(is_stationary, np.maximum(level, float32_level), level)
    if may_lose_digits:
        raised = np.maximum(level, roughness)
        level = np.where(is_stationary, level, raised)
    return _Nearby(level, roughness, is_rough, is_stationary)


def _find_hidden_level(line: Line, spacing: StencilSpacing, level: PerTerm) -> PerTerm:
    """Returns the size of jumps that single parameters show at larger distances."""
    return lost_digits.hidden_level(
        line.oracle,
        line.point,
        line.gradients,
        line.probe,
        (spacing.working, *spacing.wide),
        level,
    )


def _raise_to_lost_digits(
    line: Line,
    spacing: float,
    level: PerTerm,
    roughness: PerTerm,
    needs_singles: bool,
) -> tuple[PerTerm, Bools]:
    """Returns the noise level of a rough loss, and which terms have lost digits.

    Args:
        line: The loss along the screening direction.
        spacing: The working spacing.
        level: float64, shape (T,). Noise level nearby.
        roughness: float64, shape (T,). Roughness at the working spacing.
        needs_singles: Whether single parameters must show the roughness too,
            because the loss depends on parameters in steps.
    """
    wider = _WIDER * spacing
    stencil = line.sample(wider)[wider]
    roughness_wider = estimate_roughness(stencil, 3)
    pairs = zip(roughness, roughness_wider, strict=True)
    is_lost = np.array([noise.is_staircase(near, far) for near, far in pairs])
    if needs_singles and is_lost.any():
        is_lost &= lost_digits.lose_digits(
            line.oracle,
            line.point,
            line.gradients,
            line.probe,
            spacing,
            level,
        )
    raised = np.maximum(level, np.maximum(roughness, roughness_wider))
    return np.where(is_lost, raised, level), is_lost
