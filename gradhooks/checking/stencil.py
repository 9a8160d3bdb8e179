"""Stencils of a loss: its values at a few uneven offsets along one direction, and their kinds."""

import enum
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradhooks._types import Bools, Floats, PerTerm, Vector
from gradhooks.numerics import differences, noise
from gradhooks.numerics.probe import Probe, uncancelled_magnitudes

# Half length of a stencil, in spacings.
REACH = noise.OFFSETS[-1]
MIDDLE = noise.OFFSETS.index(0.0)

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


class LossKind(enum.Enum):
    """How a loss looks along the screening direction."""

    SMOOTH = "its residuals are those of rounding"
    STATIONARY = "a term stands still although its gradient says that it moves"
    DENSE_KINKS = "it is rough, but follows its gradient at the tiny distance: no digits are lost"
    ROUGH = "it is rough: either digits are lost or kinks are dense"


class Line:
    """The loss along a direction.

    Args:
        oracle: The oracle.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        probe: The direction.
    """

    def __init__(
        self,
        oracle: Any,
        point: Vector,
        gradients: Mapping[str, Vector],
        probe: Probe,
    ) -> None:
        self.oracle = oracle
        self.point = point
        self.gradients = gradients
        self.probe = probe
        self._slopes = [probe.slope_of(gradient) for gradient in gradients.values()]
        self._magnitudes = uncancelled_magnitudes(probe, gradients)

    def sample(self, *spacings: float) -> dict[float, Floats]:
        """Maps each spacing to the losses of its stencil: float64, shape (POINTS, T)."""
        pairs: list[tuple[int, float]] = []
        for spacing in spacings:
            pairs += [(0, float(spacing * offset)) for offset in noise.OFFSETS]
        losses = np.asarray(self.oracle.losses(self.point, [self.probe], pairs))
        stencils = losses.reshape(len(spacings), noise.POINTS, -1)
        return dict(zip(spacings, stencils, strict=True))

    def is_stationary(
        self,
        stencil: Floats,
        spacing: float,
        level: PerTerm,
    ) -> Bools:
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
        stencil: Floats,
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
        slopes = offsets @ (stencil - stencil[MIDDLE]) / extent**2
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


def classify(is_stationary: Bools, is_rough: Bools, follows: bool) -> LossKind:
    """Returns the `LossKind` of a loss; a term that stands still decides before one that is rough.

    Args:
        is_stationary: bool, shape (T,). Whether each term stands still.
        is_rough: bool, shape (T,). Whether each term is rougher than its noise.
        follows: Whether the loss follows its gradient at the tiny distance.
    """
    if is_stationary.any():
        return LossKind.STATIONARY
    if not is_rough.any():
        return LossKind.SMOOTH
    if follows:
        return LossKind.DENSE_KINKS
    return LossKind.ROUGH


def estimate_roughness(
    stencil: Floats,
    degree: int,
    has_kink: bool = False,
) -> PerTerm:
    """Returns the roughness of each term: float64, shape (T,)."""
    terms = stencil.T
    return np.array([noise.roughness(term, degree, noise.OFFSETS, has_kink) for term in terms])
