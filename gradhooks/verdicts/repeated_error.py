"""Whether an error is the same at another point: a mistake is, rounding is not."""

import math

import numpy as np

from gradhooks._types import Vector

# A pair of gradients or errors, at the point and at another one: float64, shape (K,) each.
Pair = tuple[Vector, Vector] | list[Vector]

# Smallest cosine of two errors that are one. A free choice: errors of rounding are independent, so
# that their cosine is near 0 in variables of many entries.
_SAME_DIRECTION = 0.5
# Smallest cosine of error and gradient where the error is a factor of the gradient. A free choice:
# an angle of 26 degrees.
_ALONG_GRADIENT = 0.9
# Errors are of one size up to this factor. A free choice: the gradient itself may change by as
# much between the two points.
_SIZE = 4.0
_TINY = float(np.finfo(np.float64).tiny)


def is_same_error(errors: Pair, gradients: Pair) -> bool:
    """Whether the errors at two points are one error.

    They are if both point in the same direction and have about the same size, or
    if both are about the same factor of the gradient, which may have turned.

    Args:
        errors: float64, shape (K,) each: the error here and there.
        gradients: float64, shape (K,) each: the right gradient here and there.

    Example:

    >>> ones = np.ones(2)
    >>> is_same_error((np.array([1.0, 0.0]), np.array([1.5, 0.5])), (ones, ones))
    True
    >>> is_same_error((np.array([1.0, 0.0]), np.array([-1.5, 0.5])), (ones, ones))
    False
    """
    error_here, error_there = errors
    size_here = _norm(error_here)
    size_there = _norm(error_there)
    has_same_direction = _cosine(error_here, error_there) >= _SAME_DIRECTION
    if has_same_direction and _is_of_one_size(size_here, size_there):
        return True

    gradient_here, gradient_there = gradients
    along_here = _cosine(error_here, gradient_here)
    along_there = _cosine(error_there, gradient_there)
    smallest = min(abs(along_here), abs(along_there))
    if smallest < _ALONG_GRADIENT:
        return False
    if along_here * along_there < 0:
        return False
    factor_here = size_here / _norm(gradient_here)
    factor_there = size_there / _norm(gradient_there)
    return _is_of_one_size(factor_here, factor_there)


def _norm(vector: Vector) -> float:
    return float(np.linalg.norm(vector))


def _is_of_one_size(one: float, other: float) -> bool:
    smaller = min(one, other)
    larger = max(one, other)
    return larger <= _SIZE * smaller


def _cosine(one: Vector, other: Vector) -> float:
    """The cosine between two vectors; 0 where there is none."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    cosine = float(one @ other) / max(norms, _TINY)
    if not math.isfinite(cosine):
        return 0.0
    return cosine
