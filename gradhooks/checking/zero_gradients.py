"""Variables whose gradient is zero everywhere: does the loss depend on them or not?

Behind rounding, an argmax or a hard gate the loss is a staircase: flat around
the point, so that numeric and analytic derivative agree on zero, and yet it
moves when the variable moves far. A dead ReLU looks the same from nearby, but
wakes up on the way, and then it has a gradient.
"""

import dataclasses

import numpy as np

from gradhooks.numerics import sampling

# Distances in units of the variable's scale, at which the loss is looked at.
_DISTANCES = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
# A single jump may lie between two dead regions of a continuous function; a staircase has more
# steps.
_LEVELS = 3
# Movement of the loss counts from this many standard deviations of its noise.
_FELT = 100.0
# Searching takes evaluations for each variable, so it is done for this many at most.
_MOST = 16


@dataclasses.dataclass(frozen=True)
class ZeroGradient:
    """A variable without any gradient, and what moving it far does to the loss.

    Args:
        variable: Number of the variable.
        change: Largest change of the loss seen, in loss units.
        distance: At which offset along `probe`.
        is_blocked: Whether the loss moves in steps while the gradient stays zero.
        probe: The direction over the variable.
    """

    variable: int
    change: float
    distance: float
    is_blocked: bool
    probe: object


def find_zero_gradients(layout, gradient):
    """Returns the numbers of the variables whose analytic gradient is exactly zero."""
    return [
        v for v in range(len(layout)) if layout.sizes[v] and not gradient[layout.slice(v)].any()
    ]


def move_variables(layout, oracle, place, variable_scales, variables, rng):
    """Moves silent variables far, one after the other, and looks at loss and gradient.

    Args:
        layout: The `Layout`.
        oracle: The oracle.
        place: The `Place`.
        variable_scales: float64, shape (V,).
        variables: Numbers of the variables in question.
        rng: `numpy.random.Generator`.

    Returns:
        One `Silence` per variable, at most 16.
    """
    variables = list(variables)[:_MOST]
    if not variables:
        return []
    zeros = np.zeros(layout.size)
    probes = [
        sampling.variable_probe(layout, v, variable_scales[v], zeros, rng, aligned=False)
        for v in variables
    ]
    pairs = [(k, t * probe.length_scale) for k, probe in enumerate(probes) for t in _DISTANCES]
    moved = (
        oracle.losses(place.point, probes, pairs)[:, 0].reshape(len(probes), len(_DISTANCES))
        - place.base[0]
    )
    threshold = _FELT * place.noise[0]
    felt = [bool(np.any(np.abs(row) > threshold)) for row in moved]
    # The gradient is looked at wherever the loss has moved, for all variables in question at once.
    where = [
        t
        for t, column in zip(_DISTANCES, moved.T, strict=True)
        if np.any(np.abs(column) > threshold)
    ]
    wakes = _wake(
        layout,
        oracle,
        place,
        [p for p, is_felt in zip(probes, felt, strict=True) if is_felt],
        where,
    )
    found = []
    for variable, probe, row, is_felt in zip(variables, probes, moved, felt, strict=True):
        far = int(np.nanargmax(np.abs(row))) if np.isfinite(row).any() else 0
        is_blocked = is_felt and variable not in wakes and _levels(row, threshold) >= _LEVELS
        found.append(
            ZeroGradient(
                variable,
                float(abs(row[far])),
                _DISTANCES[far] * probe.length_scale,
                is_blocked,
                probe,
            )
        )
    return found


def _wake(layout, oracle, place, probes, distances):
    """Numbers of the variables that have a gradient somewhere away from the point."""
    awake = set()
    for distance in distances:
        point = place.point.copy()
        for probe in probes:
            point[probe.start : probe.stop] += distance * probe.length_scale * probe.weights
        gradient = oracle.gradients(point).terms["total"]
        awake |= {layout.variable_of(p.start) for p in probes if gradient[p.start : p.stop].any()}
    return awake


def _levels(values, threshold):
    """How many distinct values there are, counting as equal what lies within the threshold."""
    ordered = np.sort(np.append(values[np.isfinite(values)], 0.0))
    return 1 + int(np.sum(np.diff(ordered) > threshold))
