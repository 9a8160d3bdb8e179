"""Whether an error comes again at other points: a mistake does, rounding is drawn anew.

Rounding may have few directions, though, or a single one: that of the layer
that multiplies it most. There it points the same way at every second point, and
only its size betrays it.
"""

import math

import numpy as np

# An error elsewhere that points the same way and has about the same size is no rounding; neither is one that lies
# along the gradient at both points, where the gradient itself may have turned.
_REPEATS, _ALONG, _SIZE = 0.5, 0.9, 4.0
# Student's t with 3, 4, ... degrees of freedom, exceeded once in a million times: rounding of a single direction, seen
# at four points or more, is no more alike by chance.
_CERTAIN = (103.0, 41.6, 24.8, 17.8, 14.2, 12.1, 10.7, 9.75, 9.04)
_TINY = float(np.finfo(np.float64).tiny)


def share(errors, gradients):
    """Returns how large an error is at another point, in units of the error here.

    Args:
        errors: Two vectors of one shape, here and there.
        gradients: The gradients there should be, likewise.

    Returns:
        float; None if the two are not the same error.

    Example:

    >>> share([np.array([1.0, 0.0]), np.array([1.5, 0.5])], [np.ones(2), np.ones(2)])
    1.5
    >>> share([np.array([1.0, 0.0]), np.array([-1.5, 0.5])], [np.ones(2), np.ones(2)]) is None
    True
    """
    found = []
    if cosine(*errors) >= _REPEATS and _is_of_one_size(*map(np.linalg.norm, errors)):
        found.append(float(errors[1] @ errors[0]) / float(errors[0] @ errors[0]))
    along = [cosine(*pair) for pair in zip(errors, gradients, strict=True)]
    if min(map(abs, along)) >= _ALONG and along[0] * along[1] > 0:
        factors = [float(np.linalg.norm(e)) / float(np.linalg.norm(g)) for e, g in zip(errors, gradients, strict=True)]
        if _is_of_one_size(*factors):
            found.append(factors[1] / factors[0])
    return min(found, key=lambda size: abs(math.log(size)), default=None)


def _is_of_one_size(one, other):
    return max(one, other) <= _SIZE * min(one, other)


def is_certain(shares):
    """Whether an error that came again each time has been so much alike that no rounding is.

    Rounding of a single direction is a number drawn anew at each point, around
    zero; Student's t says how seldom so many of them are so much alike.

    Args:
        shares: Per further point, what `share` returned.

    Example:

    >>> is_certain([1.0, 1.01, 0.99]), is_certain([1.0, 0.5, 2.0]), is_certain([1.0, 1.0])
    (True, False, False)
    """
    seen = np.array([1.0, *shares])
    freedom = len(seen) - 1
    if freedom < 3:
        return False
    deviation = float(np.std(seen, ddof=1)) / math.sqrt(len(seen))
    return float(np.mean(seen)) >= _CERTAIN[min(freedom - 3, len(_CERTAIN) - 1)] * deviation


def cosine(one, other):
    """Returns the cosine between two vectors; 0 where there is none."""
    found = float(one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), _TINY)
    return found if math.isfinite(found) else 0.0
