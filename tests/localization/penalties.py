"""Regularizers with a wrong gradient, and terms that layers add to the loss."""

import tensorflow as tf
from keras import layers

from tests.corpora.mutants import planted, regularizers
from tests.localization.building import spread


def dense(**options):
    return layers.Dense(8, activation="tanh", name="planted", **options)


def convolution(**options):
    return layers.Conv2D(4, 3, activation="tanh", name="planted", **options)


def of_kernel(layer):
    return lambda: layer(kernel_regularizer=regularizers.squares(0.05, 1.0))


def of_bias(layer):
    """A penalty on a bias that is not zero."""
    return lambda: layer(bias_initializer="ones", bias_regularizer=regularizers.squares(0.5, 3.0))


def of_activity(layer):
    return lambda: layer(activity_regularizer=regularizers.activity(0.05, 1.0))


def gated():
    """A recurrent layer; its kernel belongs to its cell."""
    return layers.GRU(
        8,
        return_sequences=True,
        recurrent_regularizer=regularizers.squares(0.05, 1.0),
        name="planted",
    )


class WithTerm(layers.Layer):
    """Hands its input on, and adds to the loss how far the input is from having unit length."""

    def __init__(self, **options):
        super().__init__(**options)
        self.term = planted.function(
            lambda x: tf.reduce_mean((x**2 - 1) ** 2),
            lambda g, x: g * 3 * (x**2 - 1) * x / tf.cast(tf.size(x), x.dtype),
        )

    def call(self, x):
        self.add_loss(0.1 * self.term(tf.convert_to_tensor(x)))
        return x


def penalty(name, make, hosts, **options):
    return spread("regularizer", name, make, hosts, kind="regularizer", **options)


CASES = [
    *penalty("kernel_regularizer", of_kernel(dense), ["mlp"]),
    *penalty("kernel_regularizer", of_kernel(convolution), ["conv"]),
    *penalty("kernel_regularizer", gated, ["recurrent"], at=("planted", "planted/gru_cell")),
    *penalty("bias_regularizer", of_bias(dense), ["mlp", "attention"]),
    *penalty("bias_regularizer", of_bias(convolution), ["conv"]),
    *penalty("activity_regularizer", of_activity(dense), ["mlp", "recurrent"]),
    *penalty("activity_regularizer", of_activity(convolution), ["conv"]),
    *spread("added_loss", "added_loss", lambda: WithTerm(name="planted")),
]
