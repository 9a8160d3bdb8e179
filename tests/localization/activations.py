"""Activation functions with a wrong derivative, in layers that have no weights."""

import tensorflow as tf
from keras import layers

from tests.corpora.mutants import planted
from tests.localization.building import spread


def swish(x):
    return x * tf.sigmoid(x)


def swish_off():
    """Swish whose derivative has a factor 0.9 on one of its two terms."""

    def rule(g, x):
        s = tf.sigmoid(x)
        return g * (s + 0.9 * x * s * (1 - s))

    return planted.function(swish, rule)


def factor():
    """A tanh whose derivative is 1.5 times too large."""
    return planted.function(tf.tanh, lambda g, x: 1.5 * g * (1 - tf.tanh(x) ** 2))


def sign():
    """A sine whose derivative has the wrong sign."""
    return planted.function(tf.sin, lambda g, x: -g * tf.cos(x))


def negative_only():
    """A leaky ReLU, smooth at zero, whose derivative is wrong for negative inputs only."""

    def rule(g, x):
        right = tf.where(x > 0, 1 + 0 * x, tf.exp(x))
        return g * tf.where(x > 0, right, 0.5 * right)

    return planted.function(tf.nn.elu, rule)


CASES = [
    *spread(
        "activation",
        "activation_term_layer",
        lambda: planted.Through(swish_off(), name="planted"),
        ("mlp", "conv", "attention"),
        note="one of two terms of the derivative has a factor",
    ),
    *spread(
        "activation",
        "activation_factor_lambda",
        lambda: layers.Lambda(factor(), name="planted"),
        note="a factor",
    ),
    *spread(
        "activation",
        "activation_sign_activation",
        lambda: layers.Activation(sign(), name="planted"),
        note="the wrong sign",
    ),
    *spread(
        "activation",
        "activation_negative_layer",
        lambda: planted.Through(negative_only(), name="planted"),
        note="negative inputs only",
    ),
]
