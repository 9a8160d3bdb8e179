"""Faults whose place no measurement at the layers tells; a healthy layer must not be named."""

import keras
from keras import layers

from tests.corpora.corpus import compiled, features, seeded
from tests.corpora.mutants import planted
from tests.corpora.mutants.chaos import Iterated
from tests.localization.building import Case, chain, spread


class Keeper(layers.Layer):
    """Keeps what it computes, for a layer farther up that asks for it."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.inner = layers.Dense(units, activation="tanh", name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        outputs = self.inner(x)
        self.kept = [outputs]
        return outputs


class Asker(layers.Layer):
    """Adds what another layer has kept; its gradient is lost on the way."""

    def __init__(self, keeper, **options):
        super().__init__(**options)
        self.keeper = [keeper]
        self.fault = planted.stop()

    def call(self, x):
        return x + self.fault(self.keeper[0].kept[0])


class SidePath(keras.Model):
    """A shortcut that is no argument of any layer."""

    def __init__(self):
        super().__init__(name="side_path")
        self.below = layers.Dense(8, activation="tanh", name="below")
        self.keeper = Keeper(8, name="keeper")
        self.between = layers.Dense(8, activation="tanh", name="between")
        self.asker = Asker(self.keeper, name="asker")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.asker(self.between(self.keeper(self.below(x)))))


def side_path(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(SidePath())
    model(x)
    return model, x, features(rng, 16, 2)


def healthy_chaos():
    """A factor below a healthy layer that multiplies the smallest difference."""
    return chain(planted.Through(planted.scale(1.5), name="planted"), Iterated(30, 1.0))


CASES = [
    Case(
        "untold_side_path",
        "untold",
        side_path,
        at="asker",
        others=(("layer", "side_path"),),
        must_be_named=False,
        note="a tensor that is no argument",
    ),
    *spread("untold", "untold_chaos", healthy_chaos, must_be_named=False),
]
