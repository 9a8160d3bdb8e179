"""Steps or lost digits? Single parameters tell what a direction over all of them cannot.

Along a direction the steps of many quantized units look like a loss of few
digits. For one parameter alone they are far apart, and most see none at all;
digits that were lost are missed by the parameters below the place that lost them.
"""

import numpy as np

from gradhooks.numerics import noise
from gradhooks.numerics.probe import Probe

# How many variables are asked, and how many parameters of each. More make it less likely to meet a
# step by chance; at nine evaluations each, and in networks alone that have jumps everywhere.
_VARIABLES, _PARAMETERS = 8, 3
# The same where a core of few digits is known, which is asked in every check.
_VARIABLES_OF_SUSPECTS = 4
# Roughness above so many times the noise is no rounding.
_ROUGH = 10.0
# A parameter follows backpropagation if its slope agrees to within this share: what was rounded
# away would show.
_FOLLOWS = 0.02


def lose_digits(oracle, point, gradients, screening, spacing, level):
    """Returns, per term, whether single parameters see the roughness that a direction over all of them has shown.

    It takes a loss that is known to move in steps: digits that were lost in the
    last sum of all may be seen by as few parameters.

    Args:
        oracle: The oracle.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: The direction, a `Probe` over all parameters.
        spacing: Distance, in units of the direction, at which it was rough.
        level: float64, shape (T,). Noise of each term nearby.

    Returns:
        bool, shape (T,).
    """
    seen = np.zeros(len(gradients), bool)
    chosen = _chosen(oracle.layout, gradients["total"], screening, _VARIABLES)
    for positions in chosen:
        told = [_Single(oracle, point, gradients, screening, p, level) for p in positions]
        seen |= 2 * np.sum([one.is_rough(spacing) for one in told], axis=0) > len(told)
    return seen if chosen else ~seen


def hidden_level(oracle, point, gradients, screening, spacings, level):
    """Returns, per term, the size of steps that hide at a small distance: float64, shape (T,), 0 where there are none.

    A core of few digits that carries a value far from zero rounds it coarsely:
    the loss stands still along parameters below it, and further away it jumps.

    Args:
        oracle: The oracle.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: The direction, a `Probe` over all parameters.
        spacings: Distances, ascending, in units of the direction.
        level: float64, shape (T,). Noise of each term nearby.
    """
    found = [np.zeros(len(gradients))]
    for positions in _chosen(oracle.layout, gradients["total"], screening, _VARIABLES_OF_SUSPECTS):
        told = [_Single(oracle, point, gradients, screening, p, level) for p in positions]
        found.append(np.median([one.hidden_level(spacings) for one in told], axis=0))
    return np.max(found, axis=0)


def _chosen(layout, gradient, screening, count):
    """The parameters with the largest gradients of some variables from all over the model: lists of flat indices."""
    parts = [layout.slice(v) for v in range(len(layout))]
    alive = [part for part in parts if gradient[part].any() and screening.weights[part].any()]
    if not alive:
        return []
    parts = [alive[k] for k in np.unique(np.linspace(0, len(alive) - 1, count, dtype=int))]
    return [
        [
            part.start + int(k)
            for k in np.argsort(-np.abs(gradient[part]), kind="stable")[:_PARAMETERS]
        ]
        for part in parts
    ]


class _Single:
    """The loss along a single parameter, moved by as much as the direction moves it."""

    def __init__(self, oracle, point, gradients, screening, position, level):
        self._oracle, self._point, self._level = oracle, point, level
        self._probe = Probe(position, np.ones(1))
        self._unit = abs(float(screening.weights[position]))
        self._expected = np.array([gradient[position] for gradient in gradients.values()])

    def is_rough(self, spacing):
        """bool, shape (T,): whether the loss is rough along the parameter."""
        _, window = self._window(spacing)
        return _roughness(window) > _ROUGH * self._level

    def hidden_level(self, spacings):
        """float64, shape (T,): how rough the loss is where it first moves; 0 if it follows its gradient nearby."""
        found, still = np.zeros(len(self._expected)), None
        for spacing in spacings:
            places, window = self._window(spacing)
            still = ~self._follows(places, window) if still is None else still
            moves = still & (np.ptp(window, axis=0) > _ROUGH * self._level)
            found, still = np.where(moves, _roughness(window), found), still & ~moves
            if not still.any():
                break
        return found

    def _window(self, spacing):
        places = spacing * self._unit * np.array(noise.OFFSETS)
        found = self._oracle.losses(
            self._point, [self._probe], [(0, float(place)) for place in places]
        )
        return places, np.asarray(found)

    def _follows(self, places, window):
        slopes = (window[-1] - window[0]) / (places[-1] - places[0])
        bars = _FOLLOWS * np.abs(self._expected) + 4.0 * self._level / abs(places[-1])
        return np.abs(slopes - self._expected) <= bars


def _roughness(window):
    return np.array([noise.roughness(column, 3, noise.OFFSETS) for column in window.T])
