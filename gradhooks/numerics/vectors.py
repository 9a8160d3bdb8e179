"""Products and norms of long vectors, in the calling thread.

NumPy hands these to a BLAS library with threads of its own. Beside those of a framework they wait
for a core: a product of 30,000 entries then takes a hundred times as long.
"""

import numpy as np

from gradhooks._types import Floats

# Entries of a product of vectors that are held at once: a product as large as a large model would
# take longer to allocate than to compute. Free within wide limits.
_BLOCK = 2**16


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


def norm_of_product(one: Floats, other: Floats) -> float:
    """Returns the Euclidean norm of the products of the entries of two vectors of shape (K,).

    Example:

    >>> norm_of_product(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    5.0
    """
    squares = 0.0
    for start in range(0, len(one), _BLOCK):
        block = slice(start, start + _BLOCK)
        product = one[block] * other[block]
        squares += dot(product, product)
    return float(np.sqrt(squares))
