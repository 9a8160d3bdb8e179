"""Steps or lost digits? Single parameters tell what a direction over all of them cannot.

Along a direction the steps of many quantized units, or the jumps of many
thresholds, look like a loss of few digits. For one parameter alone they are far
apart, and most see none at all; digits that were lost are missed by every
parameter below the place that lost them.
"""

import numpy as np

from gradhooks.numerics import noise
from gradhooks.numerics.records import Probe

# How many variables are asked, and how many parameters of each. More make it less likely to meet a step by chance; at
# nine evaluations each, and in networks alone that have jumps everywhere.
_VARIABLES, _PARAMETERS = 8, 3
# Roughness above so many times the noise is no rounding.
_ROUGH = 10.0
# A parameter follows backpropagation if its slope agrees to within this share: what was rounded away would show.
_FOLLOWS = 0.02


def lose_digits(oracle, point, gradients, screening, spacing, level, has_steps):
    """Returns, per term, whether single parameters see the roughness that a direction over all of them has shown.

    Args:
        oracle: The oracle.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: The direction, a `Probe` over all parameters.
        spacing: Distance, in units of the direction, at which it was rough.
        level: float64, shape (T,). Noise of each term nearby.
        has_steps: Whether the loss is known to move in steps. Then it may stand
            still along a parameter; else it must follow backpropagation, for
            digits may be lost in such a way that nothing moves.

    Returns:
        bool, shape (T,).
    """
    layout, gradient = oracle.layout, gradients["total"]
    parts = [layout.slice(v) for v in range(len(layout))]
    alive = [part for part in parts if gradient[part].any() and screening.weights[part].any()]
    if not alive:
        return np.ones(len(gradients), bool)
    seen = np.zeros(len(gradients), bool)
    for k in np.unique(np.linspace(0, len(alive) - 1, _VARIABLES, dtype=int)):
        largest = alive[k].start + np.argsort(-np.abs(gradient[alive[k]]), kind="stable")[:_PARAMETERS]
        told = [_loses_digits(oracle, point, gradients, screening, int(p), spacing, level, has_steps) for p in largest]
        seen |= 2 * np.sum(told, axis=0) > len(told)
    return seen


def _loses_digits(oracle, point, gradients, screening, position, spacing, level, has_steps):
    """bool, shape (T,): whether the loss is rough along a parameter, or does not follow its gradient."""
    places = spacing * abs(float(screening.weights[position])) * np.array(noise.OFFSETS)
    found = np.asarray(oracle.losses(point, [Probe(position, np.ones(1))], [(0, float(place)) for place in places]))
    rough = np.array([noise.roughness(column, 3, noise.OFFSETS) for column in found.T])
    slopes = (found[-1] - found[0]) / (places[-1] - places[0])
    expected = np.array([gradient[position] for gradient in gradients.values()])
    bars = _FOLLOWS * np.abs(expected) + 4.0 * level / abs(places[-1])
    follows = np.abs(slopes - expected) <= bars
    return (rough > _ROUGH * level) | (~follows & (not has_steps))
