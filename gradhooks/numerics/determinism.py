"""Whether two evaluations of a gradient agree."""

from collections.abc import Mapping

import numpy as np

from gradhooks._types import Vector
from gradhooks.numerics.layout import Layout

# A variable whose gradient is smaller than this fraction of the whole is compared with that
# fraction instead: the rounding of a sum over all variables is not proportional to one of them.
# The value is a free choice between a summand that matters and one that does not.
_SMALL = 1e-3


def gradient_jitter(
    layout: Layout,
    first: Mapping[str, Vector],
    second: Mapping[str, Vector],
    threshold: float,
) -> dict[int, float]:
    """Returns by how much two evaluations of a gradient differ, where that exceeds the threshold.

    Args:
        layout: The `Layout`.
        first: Per term name, float64, shape (P,).
        second: The same, evaluated once more.
        threshold: Relative difference that the verdict allows.

    Returns:
        `{number of the variable: relative difference}`, empty if there are none.
    """
    jitter: dict[int, float] = {}
    for one, other in zip(first.values(), second.values(), strict=True):
        differences = layout.norms(one - other)
        sizes = np.maximum(layout.norms(one), layout.norms(other))
        sizes = np.maximum(sizes, _SMALL * np.linalg.norm(sizes))
        for v in np.flatnonzero(differences > threshold * sizes):
            variable = int(v)
            share = float(differences[v] / sizes[v])
            jitter[variable] = max(share, jitter.get(variable, 0.0))
    return jitter
