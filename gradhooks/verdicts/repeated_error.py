"""Whether an error comes again at another point: a mistake does, rounding is drawn anew."""

import math

import numpy as np

# An error elsewhere that points the same way and has about the same size is no rounding; neither is
# one that lies along the gradient at both points, where the gradient itself may have turned.
_REPEATS, _ALONG, _SIZE = 0.5, 0.9, 4.0
_TINY = float(np.finfo(np.float64).tiny)


def is_same_error(errors, gradients):
    """Whether an error at another point is the one here.

    Args:
        errors: Two vectors of one shape, here and there.
        gradients: What the gradients should be, likewise.

    Example:

    >>> is_same([np.array([1.0, 0.0]), np.array([1.5, 0.5])], [np.ones(2), np.ones(2)])
    True
    >>> is_same([np.array([1.0, 0.0]), np.array([-1.5, 0.5])], [np.ones(2), np.ones(2)])
    False
    """
    sizes = [float(np.linalg.norm(error)) for error in errors]
    if _cosine(*errors) >= _REPEATS and _is_of_one_size(*sizes):
        return True
    along = [_cosine(*pair) for pair in zip(errors, gradients, strict=True)]
    if min(map(abs, along)) < _ALONG or along[0] * along[1] < 0:
        return False
    return _is_of_one_size(
        *(size / float(np.linalg.norm(g)) for size, g in zip(sizes, gradients, strict=True))
    )


def _is_of_one_size(one, other):
    return max(one, other) <= _SIZE * min(one, other)


def _cosine(one, other):
    """The cosine between two vectors; 0 where there is none."""
    found = float(one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), _TINY)
    return found if math.isfinite(found) else 0.0
