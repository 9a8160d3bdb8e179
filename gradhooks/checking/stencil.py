"""Stencils of a loss: its values at a few uneven offsets along one direction, and their kinds."""

import enum
from collections.abc import Mapping

import numpy as np

from gradhooks._types import Bools, Floats, PerTerm, Vector
from gradhooks.checking.oracle import Oracle
from gradhooks.numerics import differences, noise
from gradhooks.numerics.probe import Probe, uncancelled_magnitudes

# Half length of a stencil, in spacings, and which of its points is the point itself.
REACH = noise.OFFSETS[-1]
MIDDLE = noise.OFFSETS.index(0.0)

# A stencil is rough if its residuals exceed this many times the noise level of a smaller one.
# Two estimates of the same rounding seldom differ by more than a factor of two or three, so that
# ten is no chance. Native stencils are wider and cross more kinks, hence the smaller factor. Both
# are free choices.
ROUGH, ROUGH_NATIVE = 10.0, 4.0
# A part of the loss may have lost digits unnoticed if it contributes at most this fraction of the
# slope; a larger part shows at the tiny distance. A free choice: with a smaller value more losses
# with kinks need a wider stencil.
_VISIBLE = 2e-3
# Beyond its noise, the slope of the stencil may differ from that of backpropagation by this
# fraction of `_VISIBLE`. A free choice.
_MISMATCH = 0.01
# A loss stands still if it moves by less than the first fraction of what the parts of its slope
# predict by their sizes, and by less than the second of what they predict with their signs. Free
# choices: without its digits a loss does not move at all, with them it moves as predicted.
_STILL = 0.01
_STILL_NET = 0.5
# A loss can be seen to stand still only if the first prediction exceeds its noise level by this
# factor, the inverse of the first fraction.
_SIGNAL = 100.0


class LossKind(enum.Enum):
    """The behaviour of a loss along the screening direction."""

    SMOOTH = "its residuals are those of rounding"
    STATIONARY = "a term stands still although its gradient says that it moves"
    DENSE_KINKS = "it is rough, but follows its gradient at the tiny distance: no digits are lost"
    ROUGH = "it is rough: either digits are lost or kinks are dense"


class Line:
    """The loss along a direction.

    Args:
        oracle: The `Oracle`.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        probe: The direction.
    """

    def __init__(
        self,
        oracle: Oracle,
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
            is_predicted = predicted > _SIGNAL * level[t]
            is_still = moved[t] < min(_STILL * predicted, _STILL_NET * net)
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
