"""What an entry is, and how its model is built around the place where a gradient may be wrong."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from tests.corpora.corpus import compiled, features
from tests.corpora.mutants import planted

HEALTHY = 1.0
FACTORS = (HEALTHY, 0.8, 1.1, 3.0, -1.0)
ROWS, WIDTH = 8, 4


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model, for every factor.

    Args:
        name: Unique name; it is also the test's id.
        build: `build(factor)` returns `(model, x, y, options)`: a compiled
            model, one batch, and further arguments of `check_gradients`.
        factors: The factors at which it is tried. 1 is left out where the
            model rightly fails for another reason.
        is_measurable: Whether the loss has digits enough, and is smooth enough,
            that the right one must pass and the wrong ones must fail.
    """

    name: str
    build: Callable
    factors: tuple[float, ...] = FACTORS
    is_measurable: bool = False

    def __str__(self):
        return self.name


def applied(function, tensor, name=None):
    """Puts a function in the place of a layer."""
    return planted.Through(function, name=name)(tensor)


def multiplied(factor, tensor):
    """The tensor itself; the gradient that comes back through here is multiplied by the factor."""
    return applied(planted.scale(factor), tensor, "place")


def stem(factor, units=WIDTH):
    """Returns `(inputs, hidden)`: a dense layer named `below`, and above it the place."""
    inputs = keras.Input((3,))
    return inputs, multiplied(factor, layers.Dense(units, "tanh", name="below")(inputs))


def regression(inputs, hidden, loss="mse", make=keras.Model, outputs=1, rows=ROWS, **options):
    """Returns an entry's model, with a dense head, and its batch.

    The first row and its targets are zero.
    """
    rng = np.random.default_rng(1)
    x, y = features(rng, rows, *inputs.shape[1:]), features(rng, rows, outputs)
    x[0] = y[0] = 0
    return compiled(make(inputs, layers.Dense(outputs, name="head")(hidden)), loss), x, y, options
