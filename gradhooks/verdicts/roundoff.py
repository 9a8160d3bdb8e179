"""How far rounding takes a gradient that training computes at its own precision."""

# Unit roundoff of the formats that networks are trained in: half the distance from 1 to the next
# number.
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
# Derived: a sum of 1e6 terms in float32 loses sqrt(1e6) roundoffs, once in the forward and once in
# the backward pass. Half precision adds up in float32 too, and rounds the result of each operation;
# a path through a network has some 256 of them, whose square root is 16.
_SUM = 2000.0
_PATH = 16.0
# An error, of a gradient or of a loss, of up to this many times the effect of one roundoff in the
# parameters is rounding; a larger one is examined further. Calibrated by
# `python -m tools.calibrate_rounding float32`: 44 times and more where a train step is wrong.
CONDITION = 10.0
# Directions in which a roundoff is tried, until one explains the error. A free choice: in a few it
# may have little effect by chance, as in one of 50 checks of an iterated map.
DIRECTIONS = 6
# Derived: sqrt(1e6) roundoffs in one sum over a batch, its time steps and units.
_ZERO_SUM = 1000.0


def rounding(dtype: str) -> float:
    """Returns the relative rounding error of one operation.

    Its sums are computed in float32 at least, its result is rounded to the dtype.

    Args:
        dtype: Name of a float dtype; an unknown one counts as float32.

    Example:

    >>> rounding("float32") == 2.0**-23, rounding("bfloat16") == 2.0**-8 + 2.0**-24
    (True, True)
    """
    result = ROUNDOFF.get(dtype, ROUNDOFF["float32"])
    return min(result, ROUNDOFF["float32"]) + result


def tolerance(dtype: str) -> float:
    """Returns the relative difference of two gradients that training in a dtype explains.

    `2000 u(float32) + 16 rounding(dtype)` with `u` the unit roundoff: rounding errors
    of a sum grow with the square root of its length (N. J. Higham, "Accuracy
    and Stability of Numerical Algorithms", section 4.2).

    Example:

    >>> f"{tolerance('float32'):.1e}", f"{tolerance('bfloat16'):.1e}"
    ('1.2e-04', '6.3e-02')
    """
    return _SUM * ROUNDOFF["float32"] + _PATH * rounding(dtype)


def zero_tolerance(dtype: str) -> float:
    """Returns the fraction of the largest entry below which an entry may be a rounded zero.

    An entry that is a sum of terms which cancel keeps the rounding error of the
    sum (as for `tolerance`).
    """
    return _ZERO_SUM * rounding(dtype)
