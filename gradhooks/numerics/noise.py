"""How many digits of a loss can be believed: its rounding level, measured.

The dtype does not tell: a float64 model may hide a float32 core. So the loss
is sampled at equal distances along a line; differences of high order remove
whatever is smooth and leave the noise (Hamming's difference table; the scaling
below is from J. J. More and S. M. Wild, "Estimating computational noise",
SIAM Journal on Scientific Computing 33, 2011).
"""

import math

import numpy as np

POINTS = 7
_ORDERS = (3, 4, 5)


def roughness(values):
    """Returns the standard deviation of the noise in equally spaced values.

    `sigma_k^2 = (k!)^2 / (2k)! * mean((D^k values)^2)`, where `D^k` is the
    k-th difference; the median over a few orders is robust against one of them
    being off.

    Args:
        values: float64, shape (M,), M > 5.

    Returns:
        float, in the unit of the values.

    Example:

    >>> float(roughness(np.arange(7.0)))
    0.0
    """
    values = np.asarray(values, dtype=np.float64)
    table = {k: np.diff(values, n=k) for k in _ORDERS}
    scale = {k: math.factorial(k) ** 2 / math.factorial(2 * k) for k in _ORDERS}
    return float(np.median([math.sqrt(scale[k] * np.mean(table[k] ** 2)) for k in _ORDERS]))


def floor(value):
    """Returns the least noise that a float64 loss of this size has: half a unit in the last place."""
    return 0.5 * float(np.spacing(abs(value))) if math.isfinite(value) else 0.0


def is_staircase(working, wide):
    """Whether roughness comes from lost digits, not from kinks.

    Kinks make a loss piecewise linear, so their roughness grows with the
    spacing; rounding to few digits jumps by as much however far one looks.

    Args:
        working: Roughness at the working spacing.
        wide: Roughness at 16 times that spacing.
    """
    return working > 0 and wide < 4.0 * working
