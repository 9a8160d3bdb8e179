"""Faults that stand in the `call` of a model or layer, between the layers that it calls."""

import keras
import tensorflow as tf
from keras import layers

from tests.corpora.corpus import compiled, features, seeded
from tests.corpora.mutants import planted
from tests.localization import activations, pooling
from tests.localization.building import Case, spread


class Net(keras.Model):
    """Calls `da`, then a function of its own, then `db`; and `head`, on the mean over the rest."""

    def __init__(self, da, db, fault=planted.honest, above=planted.honest):
        super().__init__(name="net")
        self.da, self.db = da, db
        self.head = layers.Dense(2, name="head")
        self.fault, self.above = fault, above

    def call(self, x):
        x = self.da(x)
        x = self.db(self.fault(x))
        x = tf.reduce_mean(x, axis=list(range(1, len(x.shape) - 1)))
        return self.above(self.head(x))


class Block(layers.Layer):
    """A residual block that calls two layers with a function of its own between them."""

    def __init__(self, da, db, fault, **options):
        super().__init__(**options)
        self.da, self.db, self.fault = da, db, fault

    def build(self, shape):
        self.da.build(shape)
        self.db.build(shape)

    def call(self, x):
        return x + self.db(self.fault(self.da(x)))


def net(make, shape, **faults):
    """Returns a builder of a subclassed model; `faults` holds functions that make functions."""

    def build(seed):
        rng = seeded(seed)
        functions = {place: fault() for place, fault in faults.items()}
        model = compiled(Net(make("da"), make("db"), **functions))
        x = features(rng, 8, *shape)
        model(x)
        return model, x, features(rng, 8, 2)

    return build


def block(make, fault):
    return lambda: Block(make("da"), make("db"), fault(), name="block")


def dense(name):
    return layers.Dense(8, activation="tanh", name=name)


def convolution(name):
    return layers.Conv2D(4, 3, padding="same", activation="tanh", name=name)


def sequences(name):
    return layers.LSTM(8, return_sequences=True, name=name)


CASES = [
    Case("call_of_model_mlp", "call", net(dense, (6,), fault=activations.factor), at="net"),
    Case(
        "call_of_model_conv",
        "call",
        net(convolution, (6, 6, 2), fault=pooling.mean_held_fixed),
        at="net",
        host="conv",
    ),
    Case(
        "call_of_model_recurrent",
        "call",
        net(sequences, (5, 3), fault=activations.swish_off),
        at="net",
        host="recurrent",
    ),
    Case("call_after_the_last_mlp", "call", net(dense, (6,), above=activations.sign), at="net"),
    *spread("call", "call_of_layer", block(dense, activations.factor), ["mlp"], at="block"),
    *spread("call", "call_of_layer", block(convolution, activations.sign), ["conv"], at="block"),
    *spread(
        "call",
        "call_of_layer",
        block(dense, pooling.mean_held_fixed),
        ["attention"],
        at="block",
    ),
]
