"""What is known of a point before derivatives are measured: its loss, its noise level, its kinks.

`estimate_baseline` samples the loss in stencils along one direction over all
parameters, and does two things with them:

* It classifies the loss along the direction, see `LossKind`: smooth, stationary,
  full of kinks, or rough.
* It estimates the noise level accordingly. A smooth loss shows its rounding. A
  stationary one may have lost so many digits that it stands still, which larger
  distances show. A rough one has lost digits, or has kinks, which are no noise.

An oracle is anything with `losses(point, probes, pairs)`, returning float64 of
shape (pairs, T), one column per loss term, and `gradients(point)`.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import PerTerm, Vector
from gradhooks.checking import lost_digits
from gradhooks.numerics import differences, noise
from gradhooks.numerics.probe import Probe

# Half length of a stencil, in spacings.
REACH = noise.OFFSETS[-1]
_MIDDLE = noise.OFFSETS.index(0.0)

# A stencil is rough if its residuals exceed this many times the noise level of a smaller one.
# Ten: among kinks residuals are far larger still, and a factor of ten in the noise harms no
# verdict. Native stencils are wider and cross more kinks, hence less. Both are free choices.
_ROUGH, _ROUGH_NATIVE = 10.0, 4.0
# A rough stencil is compared with one of this many times its spacing, see `noise.is_staircase`.
_WIDER = 16
# Norms between this and its inverse have squares that float64 can hold (1e-308 to 1e308), with
# room for a sum over parameters.
_TAME = 1e-130
# Digits may be lost in a part of the loss that contributes at most this fraction of the slope; a
# larger part would show at the tiny distance. A free choice: smaller values take more of the
# losses with kinks for suspects, and cost evaluations.
_VISIBLE = 2e-3
# The stencil must show the slope that backpropagation gives, this much more exactly. A free choice.
_MISMATCH = 0.01
# A loss is stationary if it moves by less than these fractions of what the gradient predicts, the
# parts of the slope added by their sizes and with their signs. It is asked only if the former
# prediction exceeds the noise level by the factor given. Free choices: a loss that has lost its
# digits does not move at all, and one that has not moves by the whole prediction.
_STATIONARY, _STATIONARY_NET, _STATIONARY_SIGNAL = 0.01, 0.5, 100.0


@dataclasses.dataclass(frozen=True)
class StencilSpacing:
    """How finely the noise is sampled along a direction, in relative parameter changes.

    Args:
        tiny: Shows the rounding of the loss alone: no smooth loss changes its
            shape over this distance.
        working: A quarter of the step of the screening probe: shows lost digits
            that only larger steps meet.
        wide: Further spacings where a core of low precision is known or suspected.
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


@dataclasses.dataclass(frozen=True)
class EvaluationPoint:
    """A point in parameter space and what is known there.

    Args:
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        base: float64, shape (T,). Loss terms at the point.
        noise: float64, shape (T,). Standard deviation of their rounding noise.
        jitter: Largest difference between two evaluations at the point.
        has_dense_kinks: Whether the loss has kinks everywhere, so close to each
            other that the usual steps would cross some.
    """

    point: Vector
    gradients: Mapping[str, Vector]
    base: PerTerm
    noise: PerTerm
    jitter: float = 0.0
    has_dense_kinks: bool = False


class LossKind(enum.Enum):
    """How a loss looks along the screening direction."""

    SMOOTH = "its residuals are those of rounding"
    STATIONARY = "a term stands still although its gradient says that it moves"
    DENSE_KINKS = "it is rough, but follows its gradient at the tiny distance: no digits are lost"
    ROUGH = "it is rough: either digits are lost or kinks are dense"


def estimate_baseline(
    oracle: Any,
    point: Vector,
    gradients: Mapping[str, Vector],
    screening: Probe,
    spacing: StencilSpacing,
    is_suspect: bool = False,
    has_steps: bool = False,
) -> tuple[EvaluationPoint, dict[float, NDArray[np.float64]]]:
    """Evaluates the loss along the screening probe: base value, jitter, noise level, kinks.

    Args:
        oracle: The oracle.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: `Probe` over all parameters, in relative parameter changes.
        spacing: A `StencilSpacing`.
        is_suspect: Whether the loss is known to contain a core of low precision,
            so that wide spacings are sampled in any case.
        has_steps: Whether the loss is known to depend on parameters in steps;
            those are not rounding, however many of them there are.

    Returns:
        (point, stencils): the `EvaluationPoint`, and the losses at each of the two
        nearest spacings, float64, shape (POINTS, T).
    """
    line = _Line(oracle, point, gradients, screening)
    near = line.sample(spacing.tiny, spacing.working)
    tiny, working = near[spacing.tiny], near[spacing.working]
    # Both stencils contain the point itself.
    base, again = tiny[_MIDDLE], working[_MIDDLE]
    if not np.isfinite([base, again]).all():
        return EvaluationPoint(point, gradients, base, np.zeros_like(base)), near

    roughness = _roughness(working, 3)
    floor = [noise.rounding_floor(value) for value in base]
    level = np.maximum(floor, _roughness(tiny, 2, has_kink=True))
    is_rough = roughness > (_ROUGH_NATIVE if spacing.is_native else _ROUGH) * level
    # Two stencils know the noise better than one, unless the larger one shows more than noise.
    level = np.where(is_rough, level, np.maximum(level, roughness))
    is_stationary = line.is_stationary(working, spacing.working, level)
    if is_suspect or spacing.is_native:
        float32_level = noise.FLOAT32 * np.abs(base)
        level = np.maximum(level, np.where(is_stationary, float32_level, 0.0))
    if is_suspect:
        level = np.maximum(level, np.where(is_stationary, 0.0, roughness))
        if not (spacing.is_native or has_steps or is_stationary.any()):
            spacings = (spacing.working, *spacing.wide)
            hidden = lost_digits.hidden_level(oracle, point, gradients, screening, spacings, level)
            level = np.maximum(level, hidden)

    kind = _classify(line, tiny, spacing.tiny, level, is_rough, is_stationary, is_suspect)
    has_dense_kinks = kind is LossKind.DENSE_KINKS
    if kind is LossKind.STATIONARY:
        level = _raise_to_jumps(line, spacing.wide, base, level, is_stationary, is_suspect)
    elif kind is LossKind.ROUGH:
        wider = _WIDER * spacing.working
        roughness_wider = _roughness(line.sample(wider)[wider], 3)
        is_lost = _find_lost_digits(roughness, roughness_wider)
        if has_steps and is_lost.any() and not (is_suspect or spacing.is_native):
            is_lost &= lost_digits.lose_digits(
                oracle, point, gradients, screening, spacing.working, level
            )
        has_dense_kinks = bool((is_rough & ~is_lost).any())
        largest = np.maximum(roughness, roughness_wider)
        level = np.where(is_lost, np.maximum(level, largest), level)
    level[0] = max(level)  # the total is the sum of the other terms, and has their noise
    jitter = float(np.max(np.abs(base - again)))
    return EvaluationPoint(point, gradients, base, level, jitter, has_dense_kinks), near


class _Line:
    """The loss along the screening direction."""

    def __init__(
        self,
        oracle: Any,
        point: Vector,
        gradients: Mapping[str, Vector],
        probe: Probe,
    ) -> None:
        self._oracle = oracle
        self._point = point
        self._probe = probe
        self._slopes = [probe.slope_of(gradient) for gradient in gradients.values()]
        self._magnitudes = uncancelled_magnitudes(probe, gradients)

    def sample(self, *spacings: float) -> dict[float, NDArray[np.float64]]:
        """Maps each spacing to the losses of its stencil: float64, shape (POINTS, T)."""
        pairs: list[tuple[int, float]] = []
        for spacing in spacings:
            pairs += [(0, float(spacing * offset)) for offset in noise.OFFSETS]
        losses = np.asarray(self._oracle.losses(self._point, [self._probe], pairs))
        stencils = losses.reshape(len(spacings), noise.POINTS, -1)
        return dict(zip(spacings, stencils, strict=True))

    def is_stationary(
        self,
        stencil: NDArray[np.float64],
        spacing: float,
        level: PerTerm,
    ) -> NDArray[np.bool_]:
        """Whether each term stands still where its gradient says that it moves: bool, shape (T,).

        It must move by far less than the parts of its slope predict, and by less
        than they predict together: in some directions the parts cancel.
        """
        span = 2 * REACH * spacing
        moved = np.ptp(np.where(np.isfinite(stencil), stencil, 0.0), axis=0)
        is_stationary: list[bool] = []
        for t, magnitude in enumerate(self._magnitudes):
            predicted = span * magnitude
            net = span * abs(self._slopes[t])
            is_predicted = predicted > _STATIONARY_SIGNAL * level[t]
            is_still = moved[t] < min(_STATIONARY * predicted, _STATIONARY_NET * net)
            is_stationary.append(bool(is_predicted and is_still))
        return np.array(is_stationary)

    def follows_gradient(
        self,
        stencil: NDArray[np.float64],
        spacing: float,
        level: PerTerm,
    ) -> bool:
        """Whether the loss follows its gradient so closely that it cannot have lost digits.

        A loss with lost digits stands still or jumps over a tiny distance. A part
        of the loss below `_VISIBLE` may have lost some and is not noticed.
        """
        # The slope of the regression line through all points is more precise than that of two.
        offsets = spacing * (np.array(noise.OFFSETS) - np.mean(noise.OFFSETS))
        extent = np.linalg.norm(offsets)
        slopes = offsets @ (stencil - stencil[_MIDDLE]) / extent**2
        for t, magnitude in enumerate(self._magnitudes):
            if not magnitude:
                continue
            gap = abs(slopes[t] - self._slopes[t])
            error = differences.DEVIATIONS * level[t] / extent
            is_equal = gap <= error + _MISMATCH * _VISIBLE * magnitude
            is_visible = gap + error <= _VISIBLE * magnitude
            if not (is_equal and is_visible):
                return False
        return True


def _classify(
    line: _Line,
    tiny_stencil: NDArray[np.float64],
    tiny_spacing: float,
    level: PerTerm,
    is_rough: NDArray[np.bool_],
    is_stationary: NDArray[np.bool_],
    is_suspect: bool,
) -> LossKind:
    """Returns the `LossKind`, with a term that is stationary before one that is rough."""
    if is_stationary.any():
        return LossKind.STATIONARY
    if not is_rough.any():
        return LossKind.SMOOTH
    if not is_suspect and line.follows_gradient(tiny_stencil, tiny_spacing, level):
        return LossKind.DENSE_KINKS
    return LossKind.ROUGH


def _raise_to_jumps(
    line: _Line,
    spacings: Sequence[float],
    base: PerTerm,
    level: PerTerm,
    is_stationary: NDArray[np.bool_],
    is_suspect: bool,
) -> PerTerm:
    """Returns the noise level of a stationary loss, from the distance at which it first moves.

    If its jumps there are of the size that float32 leaves, it has few digits; if
    they are larger it has real steps, which are no noise.
    """
    level, is_stationary = level.copy(), is_stationary.copy()
    for spacing in spacings:
        stencil = line.sample(spacing)[spacing]
        is_still = line.is_stationary(stencil, spacing, level)
        jumps = _roughness(stencil, 3)
        for t in np.flatnonzero(is_stationary & ~is_still):
            if is_suspect or noise.is_float32(jumps[t], base[t]):
                level[t] = max(level[t], jumps[t])
        is_stationary &= is_still
        if not is_stationary.any():
            break
    return level


def _find_lost_digits(working: PerTerm, wider: PerTerm) -> NDArray[np.bool_]:
    """Whether the roughness of each term comes from lost digits: bool, shape (T,)."""
    return np.array([noise.is_staircase(w, f) for w, f in zip(working, wider, strict=True)])


def _roughness(
    stencil: NDArray[np.float64],
    degree: int,
    has_kink: bool = False,
) -> PerTerm:
    """Returns the roughness of each term: float64, shape (T,)."""
    terms = stencil.T
    return np.array([noise.roughness(term, degree, noise.OFFSETS, has_kink) for term in terms])


def uncancelled_magnitudes(probe: Probe, gradients: Mapping[str, Vector]) -> tuple[float, ...]:
    """Returns, per term, the size of the slope along a probe as if its parts did not cancel.

    Args:
        probe: The `Probe`.
        gradients: Per term name, float64, shape (P,).
    """
    part = slice(probe.start, probe.stop)
    with np.errstate(over="ignore", invalid="ignore"):
        return tuple(_norm(probe.weights * gradient[part]) for gradient in gradients.values())


def _norm(values: NDArray[np.float64]) -> float:
    """Returns the Euclidean norm, also where squares overflow; 0 where an entry is not finite."""
    plain = float(np.linalg.norm(values))
    if _TAME < plain < 1 / _TAME:
        return plain
    largest = np.max(np.abs(values), initial=0.0)
    if not largest or not np.isfinite(largest):
        return 0.0
    norm = float(largest * np.linalg.norm(values / largest))
    return min(norm, float(np.finfo(np.float64).max))
