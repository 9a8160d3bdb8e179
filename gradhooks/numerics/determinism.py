"""Whether a gradient is the same twice."""

import numpy as np


def gradient_jitter(layout, first, second, tolerance):
    """Returns by how much two evaluations of a gradient differ, where that is more than the tolerance forgives.

    A variable whose gradient is a thousandth of the whole, or less, is held
    against the whole: rounding in the sum is not of its size.

    Args:
        layout: The `Layout`.
        first: Per term name, float64, shape (P,).
        second: The same, evaluated once more.
        tolerance: Relative difference that the verdict allows.

    Returns:
        `{number of the variable: relative difference}`, empty if there are none.
    """
    found = {}
    for one, other in zip(first.values(), second.values(), strict=True):
        differences = layout.norms(one - other)
        sizes = np.maximum(layout.norms(one), layout.norms(other))
        sizes = np.maximum(sizes, 1e-3 * np.linalg.norm(sizes))
        for v in np.flatnonzero(differences > tolerance * sizes):
            found[int(v)] = max(float(differences[v] / sizes[v]), found.get(int(v), 0.0))
    return found
