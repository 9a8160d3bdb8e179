"""Cells with a wrong backward pass, inside the loop of `keras.layers.RNN`."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.corpora.mutants import planted
from tests.corpora.mutants.recurrence import Cell, GatedCell
from tests.localization.building import ANY_CALL, chain, spread


@keras.saving.register_keras_serializable("localization")
class Leaky(layers.Layer):
    """A cell that keeps a part of its state.

    The gradient of the old state is `factor` times what it should be.
    """

    def __init__(self, units, factor=1.0, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units
        self.factor = factor
        self.on_state = planted.scale(factor)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")

    def call(self, inputs, states):
        past = self.on_state(states[0])
        new = 0.5 * past + ops.tanh(ops.matmul(inputs, self.kernel) + self.gain * past)
        return new, [new]

    def get_config(self):
        return {**super().get_config(), "units": self.units, "factor": self.factor}


def loop(cell):
    return layers.RNN(cell, return_sequences=True, name="loop")


def rows(make):
    """Returns a builder that reads images row by row."""
    return lambda: chain(
        layers.Reshape((8, 32), name="rows"), make(), layers.Reshape((8, 8, 1), name="image")
    )


def leaky():
    return loop(Leaky(8, planted.choose(0.6, 1.0), name="cell"))


def gated():
    return loop(GatedCell(8, on_state=planted.scale(1.5), name="cell"))


def recurrent_kernel():
    return loop(Cell(8, on_kernel=planted.scale(1.2), name="cell"))


def state_stopped():
    return loop(Cell(8, on_state=planted.stop(), name="cell"))


def upper_of_two():
    """Two cells above each other; the upper one is wrong."""
    return loop([Cell(6, name="lower"), Cell(8, on_output=planted.scale(0.9), name="cell")])


class Repeating(layers.Layer):
    """Runs a layer of its own in a loop, with a wrong gradient behind it or in it."""

    def __init__(self, outside=planted.honest, inside=None, **options):
        super().__init__(**options)
        self.outside = outside
        self.inner = inside or layers.Dense(8, activation="tanh", name="inner")

    def build(self, shape):
        self.inner.build(shape)
        self.built = True

    def call(self, x):
        def turn(k, value):
            return k + 1, self.outside(self.inner(value))

        return tf.while_loop(lambda k, value: k < 3, turn, [0, x])[1]


def around_stock():
    return Repeating(planted.scale(0.7), name="planted")


def around_own():
    inner = planted.Dense(8, activation="tanh", on_input=planted.scale(0.7), name="planted")
    return Repeating(inside=inner, name="healthy")


CASES = [
    *spread("loop", "cell_leaky", leaky, ["recurrent", "attention"], at="cell", call=ANY_CALL),
    *spread("loop", "cell_leaky", rows(leaky), ["conv"], at="cell", call=ANY_CALL),
    *spread("loop", "cell_gate", gated, ["recurrent"], at="cell", call=ANY_CALL),
    *spread("loop", "cell_kernel", recurrent_kernel, ["attention"], at="cell", call=ANY_CALL),
    *spread("loop", "cell_state_stopped", state_stopped, ["recurrent"], at="cell", call=ANY_CALL),
    *spread("loop", "cell_upper_of_two", upper_of_two, ["attention"], at="cell", call=ANY_CALL),
    *spread("loop", "loop_own_code", around_stock, ["mlp", "attention"], call=ANY_CALL),
    *spread(
        "loop",
        "loop_own_layer",
        around_own,
        ["mlp", "attention"],
        call=ANY_CALL,
        must_be_named=False,
    ),
]
