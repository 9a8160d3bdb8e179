"""The noise level of a loss: how many of its digits are meaningful.

The dtype does not say: a float64 model may contain a float32 core. So the loss
is sampled at a few points along a line. Over so short a distance a smooth loss
is a polynomial of low degree, and what a polynomial cannot fit is noise
(compare J. Moré and S. Wild, "Estimating computational noise", 2011).
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gradhooks._types import Floats

# Points of a stencil. Beside a parabola nine leave six degrees of freedom, with which a standard
# deviation is known within a factor of two in 95 of 100 cases (chi-squared distribution).
POINTS = 9
# Offsets of the stencil in units of its spacing. Symmetric at the ends, which serve as a central
# difference; uneven in between, because a staircase sampled at its own period is a straight line.
# The numbers in between are a free choice.
OFFSETS = (-4.0, -3.24, -1.79, -0.87, 0.0, 1.13, 2.21, 2.76, 4.0)
# Machine epsilon of float32.
FLOAT32 = float(np.finfo(np.float32).eps)
# How much roughness may grow at 16 times the spacing and still be lost digits, see `is_staircase`.
_MOST_GROWTH = 8.0
# How much smaller the roughness of a smooth loss is at a quarter of the spacing: `is_curvature`.
_SMOOTHER = 8.0
# Roughness of a loss that is rounded to float32, in units of its machine epsilon, at most. A single
# rounding leaves 0.29 (a uniform error); the margin, for sums of several, is a free choice.
_MOST_EPSILONS = 4.0


def roughness(
    values: ArrayLike,
    degree: int = 2,
    offsets: tuple[float, ...] | None = None,
    has_kink: bool = False,
) -> float:
    """Returns the standard deviation of the noise in values along a line.

    The root mean square of the residuals of a least-squares polynomial, with
    `M - degree - 1` degrees of freedom (Press et al., "Numerical Recipes",
    section 15.1).

    Args:
        values: float64, shape (M,), M > degree + 1.
        degree: Degree of the polynomial.
        offsets: Where the values were taken, shape (M,); equally spaced if None.
        has_kink: Whether to fit `|offset|` too, so that a kink at offset zero
            is not taken for noise: parameters often sit exactly on one. Costs
            one more degree of freedom.

    Returns:
        float in the unit of the values; 0 if a value is not finite.

    Example:

    >>> roughness(np.zeros(9)), bool(roughness(np.arange(9.0) ** 2) < 1e-12)
    (0.0, True)
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        return 0.0
    if offsets is None:
        offsets = tuple(range(len(values)))
    projection = _residual_projection(offsets, degree, has_kink)
    middle = values[len(values) // 2]
    residuals = projection @ (values - middle)
    largest = np.max(np.abs(residuals))
    if not largest:
        return 0.0
    residuals /= largest  # the squares of huge or tiny residuals leave the range of float64
    freedom = len(values) - degree - 1 - has_kink
    return float(largest * np.sqrt(residuals @ residuals / freedom))


@functools.lru_cache(maxsize=8)
def _residual_projection(
    offsets: Sequence[float],
    degree: int,
    has_kink: bool,
) -> Floats:
    """Returns the matrix that maps values to their residuals: float64, shape (M, M)."""
    centred = np.asarray(offsets) - np.mean(offsets)
    reach = np.max(np.abs(centred))
    columns = np.vander(centred / reach, degree + 1)
    if has_kink:
        distances = np.abs(offsets)
        columns = np.column_stack([columns, distances / np.max(distances)])
    basis, _ = np.linalg.qr(columns)
    return np.eye(len(centred)) - basis @ basis.T


def rounding_floor(value: float) -> float:
    """Returns the least noise of a float64 loss of this size: half a unit in the last place."""
    if not math.isfinite(value):
        return 0.0
    return 0.5 * float(np.spacing(abs(value)))


def is_staircase(working: float, wide: float) -> bool:
    """Whether roughness comes from lost digits, not from kinks.

    A loss rounded to few digits is a staircase, whose steps are equally high at
    any distance: at 16 times the spacing a stencil crosses at most 16 times as
    many of them, and at random they add up to four times the roughness. A kink
    bends the loss by 16 times as much there, and 16 times as many kinks by 64
    times. Eight lies in between.

    Args:
        working: Roughness at the working spacing.
        wide: Roughness at 16 times that spacing.
    """
    return working > 0 and wide < _MOST_GROWTH * working


def is_curvature(rough: float, closer: float, moved: float) -> bool:
    """Whether roughness comes from the curvature of a smooth loss, not from lost digits.

    At a quarter of the spacing curvature leaves 4^4 times less of it in a cubic, and the
    loss still moves. The steps of a staircase are as high there, and one that moves by
    more than a step has crossed one. Eight lies between.

    Args:
        rough: Roughness where the loss first moves.
        closer: Roughness at a quarter of that spacing.
        moved: By how much the loss moves there.

    Example:

    >>> is_curvature(1e-8, 4e-11, 1e-6), is_curvature(1e-8, 9e-9, 3e-8)
    (True, False)
    """
    return bool(closer < rough / _SMOOTHER and moved > rough)


def is_float32(rough: float, value: float) -> bool:
    """Whether roughness is as small as rounding the loss to float32 leaves it.

    Args:
        rough: The roughness.
        value: The loss.
    """
    return 0.0 < rough <= float32_roughness(value)


def float32_roughness(value: float) -> float:
    """Returns the largest roughness that rounding a loss of this size to float32 leaves."""
    return _MOST_EPSILONS * FLOAT32 * abs(value)
