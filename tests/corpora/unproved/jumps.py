"""Losses that jump at the point, or beside it.

The output for the first row is zero, and so is its target.
"""

from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.corpora.corpus import compiled, seeded
from tests.corpora.mutants import planted
from tests.corpora.unproved.building import Entry, applied, regression, stem
from tests.corpora.unproved.offsets import squares


def jumping(factor, jump):
    seeded(0)
    return regression(
        *stem(factor), lambda y, p: squares(y, p) + 0.3 * tf.reduce_mean(jump(y, p), -1)
    )


def sign_of_error(y, p):
    return tf.sign(p - y)


def above_threshold(y, p):
    return tf.cast(p > 1e-7, p.dtype)


def routed(factor):
    """A routing that is not trained chooses between two heads; for the first row it is a tie."""
    seeded(0)
    inputs, hidden = stem(factor)
    router = layers.Dense(2, trainable=False, use_bias=False, name="router")(hidden)
    which = applied(lambda r: tf.one_hot(tf.argmax(r, -1), 2, dtype=r.dtype), router)
    heads = layers.Dense(
        2, bias_initializer=keras.initializers.Constant([1.0, -1.0]), name="heads"
    )(hidden)
    return regression(inputs, layers.Multiply()([which, heads]))


def by_rank(y, p):
    """Errors count the less, the larger their prediction is among the others."""
    ranks = tf.cast(tf.argsort(tf.argsort(tf.reshape(p, [-1]))), p.dtype)
    return squares(y, p) / (1.0 + ranks)


def tied_ranks(factor):
    """Two rows differ in one feature alone, whose weights are still zero."""
    seeded(0)
    model, x, y, options = regression(*stem(factor), by_rank)
    kernel = model.get_layer("below").kernel
    kernel.assign(kernel.numpy() * np.array([[0.0], [1.0], [1.0]]))
    x[1], x[1, 0], y[1] = x[2], x[2, 0] + 1, -y[2]
    return model, x, y, options


class Curvature(keras.Model):
    """The second derivative of a network of ReLUs whose ends are held.

    It jumps wherever a unit sets in.
    """

    def __init__(self, factor, low):
        super().__init__()
        self.low = low
        self.below, self.head = layers.Dense(8, "relu", name="below"), layers.Dense(1, name="head")
        self.place = planted.Through(planted.scale(factor), name="place")

    def call(self, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                held = (x - self.low) * (1 - x) * self.head(self.below(x))
            slope = inner.gradient(held, x)
        return self.place(outer.gradient(slope, x))


def physics(factor, low):
    """The fresh units all set in at zero, which is one of the points."""
    seeded(0)
    x = np.linspace(low, 1, 9, dtype="float32")[:, None]
    model = Curvature(factor, low)
    model(x)
    return compiled(model), x, -np.ones_like(x), {}


ENTRIES = (
    Entry("sign at zero", partial(jumping, jump=sign_of_error)),
    Entry("threshold at 1e-7", partial(jumping, jump=above_threshold)),
    Entry("routing with a tie", routed),
    Entry("ranks with a tie", tied_ranks),
    Entry("curvature of ReLUs that set in at an end", partial(physics, low=0)),
    Entry("curvature of ReLUs that set in between", partial(physics, low=-1)),
)
