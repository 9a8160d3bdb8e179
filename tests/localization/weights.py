"""Layers whose own weights get a wrong gradient, or their inputs, or both."""

import tensorflow as tf
from keras import layers

from tests.corpora.mutants import planted
from tests.localization.building import spread


class Conv(planted.Conv2D):
    """A convolution with a place for a fault on its input, too."""

    def __init__(self, filters, kernel_size, *, on_input=planted.honest, **options):
        super().__init__(filters, kernel_size, **options)
        self.on_input = on_input

    def call(self, inputs):
        return super().call(self.on_input(inputs))


class Gain(layers.Layer):
    """Multiplies by `gamma` and adds `beta`, with places for faults on both."""

    def __init__(self, on_gamma=planted.honest, on_beta=planted.honest, **options):
        super().__init__(**options)
        self.on_gamma, self.on_beta = on_gamma, on_beta

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", name="beta")

    def call(self, x):
        gamma = self.on_gamma(tf.convert_to_tensor(self.gamma))
        return x * gamma + self.on_beta(tf.convert_to_tensor(self.beta))


def dense(**places):
    """Returns a dense layer as wide as what is below it."""
    return planted.Dense(8, activation="tanh", name="planted", **places)


def convolution(**places):
    return Conv(4, 3, padding="same", activation="tanh", name="planted", **places)


def one_unit():
    """The gradient of the second unit is doubled."""

    def rule(g):
        return g * (1 + tf.one_hot(1, g.shape[-1], dtype=g.dtype))

    return planted.identity(rule)


def one_row():
    """The gradient along the first axis has a factor for each entry."""

    def rule(g):
        factors = tf.linspace(tf.cast(0.5, g.dtype), tf.cast(1.0, g.dtype), g.shape[0])
        return g * tf.reshape(factors, [-1] + [1] * (len(g.shape) - 1))

    return planted.identity(rule)


def transposed():
    return planted.identity(lambda g: tf.transpose(g))


def axes_swapped():
    """Height and width of a kernel change places."""
    return planted.identity(lambda g: tf.transpose(g, [1, 0, 2, 3]))


def reversed_features():
    return planted.identity(lambda g: tf.reverse(g, [-1]))


def softsign_off():
    """An activation with a wrong derivative, in a layer with weights."""
    return planted.function(lambda x: x / (1 + tf.abs(x)), lambda g, x: g / (1 + tf.abs(x)))


SEQUENCES = ("mlp", "recurrent")
CASES = [
    *spread("weight", "kernel_factor", lambda: dense(on_kernel=planted.scale(1.3)), SEQUENCES),
    *spread("weight", "kernel_factor", lambda: convolution(on_kernel=planted.scale(1.3)), ["conv"]),
    *spread("weight", "kernel_transposed", lambda: dense(on_kernel=transposed()), ["mlp"]),
    *spread("weight", "kernel_transposed", lambda: convolution(on_kernel=axes_swapped()), ["conv"]),
    *spread("weight", "bias_sign", lambda: dense(on_bias=planted.scale(-1)), ["recurrent"]),
    *spread("weight", "bias_unit", lambda: convolution(on_bias=one_unit()), ["conv"]),
    *spread("weight", "kernel_unit", lambda: dense(on_kernel=one_unit()), ["attention", "mlp"]),
    *spread("weight", "kernel_axis", lambda: convolution(on_kernel=one_row()), ["conv"]),
    *spread(
        "weight",
        "gamma_factor",
        lambda: Gain(planted.scale(0.5), name="planted"),
        ["mlp", "conv", "attention"],
    ),
    *spread("inputs", "inputs_factor", lambda: dense(on_input=planted.scale(0.7)), SEQUENCES),
    *spread("inputs", "inputs_unit", lambda: convolution(on_input=one_unit()), ["conv"]),
    *spread(
        "inputs", "inputs_reversed", lambda: dense(on_input=reversed_features()), ["attention"]
    ),
    *spread("both", "output_factor", lambda: dense(on_output=planted.scale(1.2)), SEQUENCES),
    *spread(
        "both",
        "own_activation",
        lambda: layers.Conv2D(4, 3, activation=softsign_off(), name="planted"),
        ["conv"],
    ),
    *spread(
        "both",
        "own_activation",
        lambda: layers.Dense(8, activation=softsign_off(), name="planted"),
        ["attention"],
    ),
]
