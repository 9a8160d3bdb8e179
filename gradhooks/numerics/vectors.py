"""Products and norms of long vectors, in the calling thread.

NumPy hands these to a BLAS library with threads of its own. Beside those of a framework they wait
for a core: a product of 30,000 entries then takes a hundred times as long.
"""

import numpy as np

from gradhooks._types import Floats


def dot(one: Floats, other: Floats) -> float:
    """Returns the inner product of two vectors of the same shape (K,)."""
    return float(np.einsum("i,i->", one, other))


def norm(vector: Floats) -> float:
    """Returns the Euclidean norm of a vector of shape (K,).

    Example:

    >>> norm(np.array([3.0, 4.0]))
    5.0
    """
    return float(np.sqrt(dot(vector, vector)))
