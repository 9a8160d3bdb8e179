"""Activations of eight bits, beside smooth paths."""

from functools import partial

import keras
import tensorflow as tf
from keras import layers

from tests.corpora.corpus import seeded
from tests.corpora.unproved.building import (
    FACTORS,
    HEALTHY,
    WIDTH,
    Entry,
    applied,
    multiplied,
    regression,
    stem,
)

LEVELS = 127.0
WRONG = tuple(factor for factor in FACTORS if factor != HEALTHY)


def rounded(x):
    return tf.round(x * LEVELS) / LEVELS


def detached(x):
    return tf.stop_gradient(rounded(x))


def straight_through(x):
    return x + tf.stop_gradient(rounded(x) - x)


def fake_quantized(x):
    """TensorFlow's own, which knows single precision alone."""
    return tf.cast(
        tf.quantization.fake_quant_with_min_max_args(tf.cast(x, tf.float32), -1.0, 1.0), x.dtype
    )


def rounded_beside(factor, units, rows):
    """Right wherever there is a derivative: rounded values stand still."""
    seeded(0)
    inputs, hidden = stem(factor, units)
    return regression(inputs, layers.Concatenate()([hidden, applied(detached, hidden)]), rows=rows)


def codes_of_inputs(factor):
    """Inputs of eight bits choose the rows of a table; no gradient is meant to reach them."""
    seeded(0)
    inputs = keras.Input((3,))
    codes = applied(lambda x: tf.cast(tf.round(tf.tanh(x) * LEVELS) + 128, tf.int32), inputs)
    vectors = layers.Embedding(256, WIDTH, name="below")(codes)
    return regression(inputs, layers.GlobalAveragePooling1D()(multiplied(factor, vectors)))


def declared_beside(factor, function, kind, units=WIDTH, join=layers.Concatenate):
    """What is rounded is declared; the place is on the other path."""
    seeded(0)
    inputs, hidden = stem(factor, units)
    coarse = applied(function, layers.Dense(units, "tanh", name="coarse")(inputs))
    return regression(inputs, join()([hidden, coarse]), expect={"coarse/*": kind})


def undeclared(factor, units):
    """May fail at any factor for its rounding.

    With a wrong gradient above the rounding it must not pass.
    """
    seeded(0)
    inputs = keras.Input((3,))
    hidden = applied(straight_through, layers.Dense(units, "tanh", name="below")(inputs))
    return regression(inputs, multiplied(factor, hidden), outputs=3, rows=16)


ENTRIES = (
    Entry(
        "4 rounded values beside smooth ones",
        partial(rounded_beside, units=4, rows=8),
        is_measurable=True,
    ),
    Entry("512 rounded values beside smooth ones", partial(rounded_beside, units=512, rows=16)),
    Entry("codes of inputs", codes_of_inputs, is_measurable=True),
    Entry(
        "rounded without a gradient, declared",
        partial(declared_beside, function=detached, kind="blocked", units=64),
        is_measurable=True,
    ),
    Entry(
        "straight through, declared, 128 units",
        partial(declared_beside, function=straight_through, kind="mismatch", units=128),
        is_measurable=True,
    ),
    Entry(
        "fake quantization, declared, as a factor",
        partial(declared_beside, function=fake_quantized, kind="mismatch", join=layers.Multiply),
    ),
    Entry("straight through, undeclared, 128 units", partial(undeclared, units=128), WRONG),
    Entry("straight through, undeclared, 512 units", partial(undeclared, units=512), WRONG),
)
