"""How many digits of a loss can be believed: its rounding level, measured.

The dtype does not tell: a float64 model may hide a float32 core. So the loss is
sampled at a few places along a line. Over so short a way it is a polynomial
of low degree; what a polynomial cannot follow is noise.
"""

import functools
import math

import numpy as np

# Enough to know a standard deviation within a factor of two in 95 of 100 cases, beside a parabola.
POINTS = 9
# Where, in units of the spacing. Symmetric at the ends, which serve as a central difference; uneven
# between, because a staircase looked at in steps of its own length is a straight line.
OFFSETS = (-4.0, -3.24, -1.79, -0.87, 0.0, 1.13, 2.21, 2.76, 4.0)
# A unit in the last place of float32, relative.
FLOAT32 = float(np.finfo(np.float32).eps)


def roughness(values, degree=2, offsets=None, has_corner=False):
    """Returns the standard deviation of the noise in values along a line.

    The root mean square of what remains beside the least-squares polynomial,
    with `M - degree - 1` degrees of freedom (the textbook estimate, as in
    Press et al., "Numerical Recipes", section 15.1).

    Args:
        values: float64, shape (M,), M > degree + 1.
        degree: Degree of the polynomial.
        offsets: Where the values were taken, shape (M,); equal distances if
            None.
        has_corner: Whether the line may have a corner at offset zero, where
            parameters often sit exactly on one; it is no noise. Costs one more
            degree of freedom.

    Returns:
        float, in the unit of the values; 0 if a value is not finite, for then
        there is nothing to measure.

    Example:

    >>> roughness(np.zeros(9)), bool(roughness(np.arange(9.0) ** 2) < 1e-12)
    (0.0, True)
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        return 0.0
    remover = _remover(offsets or tuple(range(len(values))), degree, has_corner)
    remainder = remover @ (values - values[len(values) // 2])
    largest = np.max(np.abs(remainder))
    if not largest:
        return 0.0
    remainder /= largest  # squares of huge and tiny losses leave float64
    return float(largest * np.sqrt(remainder @ remainder / (len(values) - degree - 1 - has_corner)))


@functools.lru_cache(maxsize=8)
def _remover(offsets, degree, has_corner):
    """The matrix that takes the best polynomial, and a corner at zero if asked for, off a column of values."""
    place = np.asarray(offsets) - np.mean(offsets)
    columns = np.vander(place / np.max(np.abs(place)), degree + 1)
    if has_corner:
        columns = np.column_stack([columns, np.abs(offsets) / np.max(np.abs(offsets))])
    basis, _ = np.linalg.qr(columns)
    return np.eye(len(place)) - basis @ basis.T


def rounding_floor(value):
    """Returns the least noise that a float64 loss of this size has: half a unit in the last place."""
    return 0.5 * float(np.spacing(abs(value))) if math.isfinite(value) else 0.0


def is_staircase(working, wide):
    """Whether roughness comes from lost digits, not from kinks.

    Rounding to few digits jumps by as much however far one looks: 16 times the
    spacing shows at most 16 times the jumps, and at random they add up to four
    times the roughness. A kink bends the loss by 16 times as much there, and
    sixteenfold kinks by 64 times. Eight lies between.

    Args:
        working: Roughness at the working spacing.
        wide: Roughness at 16 times that spacing.
    """
    return working > 0 and wide < 8.0 * working


def is_float32(rough, value):
    """Whether roughness is what rounding the loss to float32 leaves, and not the steps of a coarser grid."""
    return 0.0 < rough <= float32_roughness(value)


def float32_roughness(value):
    """Returns the most roughness that rounding a loss of this size to float32 leaves."""
    return 4.0 * FLOAT32 * abs(value)
