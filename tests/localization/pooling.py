"""Hand-written pooling and normalization with a wrong backward pass towards the inputs."""

import tensorflow as tf
from keras import layers

from tests.corpora.mutants import planted
from tests.localization.building import chain, spread


def average_in_windows(x):
    return tf.nn.avg_pool2d(x, 2, 2, "VALID")


def shifted_average():
    """Means of 2 x 2 windows, whose gradient is handed to the pixels beside them."""

    def rule(g, x):
        spread_out = tf.repeat(tf.repeat(g, 2, axis=1), 2, axis=2) / 4
        return tf.roll(spread_out, 1, axis=1)

    return planted.function(average_in_windows, rule)


def maximum_of_pairs(x):
    return tf.reduce_max(tf.stack([x[..., ::2], x[..., 1::2]]), axis=0)


def shared_maximum():
    """The larger one of two neighbouring features, whose gradient goes to both."""
    return planted.function(maximum_of_pairs, lambda g, x: tf.repeat(g, 2, axis=-1))


def average_in_time(x):
    return (x[:, ::2] + x[:, 1::2]) / 2


def first_of_pairs():
    """The mean of two steps, whose gradient goes to the first of both alone."""

    def rule(g, x):
        return tf.reshape(tf.stack([g, 0 * g], axis=2), tf.shape(x))

    return planted.function(average_in_time, rule)


def standardize(x):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def mean_held_fixed():
    """Normalization over features whose mean and variance are taken for constants."""

    def rule(g, x):
        _, variance = tf.nn.moments(x, [-1], keepdims=True)
        return g * tf.math.rsqrt(variance + 1e-3)

    return planted.function(standardize, rule)


def above_normalization(function):
    """Returns a builder of batch normalization and, above it, a layer with the function."""
    return lambda: chain(
        layers.BatchNormalization(name="batch_norm"), planted.Through(function(), name="planted")
    )


CASES = [
    *spread(
        "pooling",
        "pooling_shifted",
        above_normalization(shifted_average),
        ("conv",),
        note="the gradient goes to the wrong pixels",
    ),
    *spread(
        "pooling",
        "pooling_maximum",
        above_normalization(shared_maximum),
        ("mlp", "attention"),
        note="both of two get the gradient of the larger one",
    ),
    *spread(
        "pooling",
        "pooling_time",
        above_normalization(first_of_pairs),
        ("recurrent",),
        note="the first of two steps gets all of it",
    ),
    *spread(
        "normalization",
        "normalization_fixed",
        above_normalization(mean_held_fixed),
        note="mean and variance taken for constants",
    ),
]
