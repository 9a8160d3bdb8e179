"""Layers that are called twice, and networks with two branches."""

import tensorflow as tf
from keras import layers, ops

from tests.corpora.mutants import planted
from tests.localization import activations
from tests.localization.building import ANY_CALL, chain, spread


class Reused(layers.Layer):
    """A dense layer whose backward pass is wrong in the calls that say so."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.wrong = planted.scale(0.6)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x, is_wrong=False):
        product = ops.tanh(ops.matmul(x, self.kernel))
        return self.wrong(product) if is_wrong else product


class ForLargeImages(layers.Conv2D):
    """A convolution with a shortcut for small images, which is wrong."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.wrong = planted.scale(1.5)

    def call(self, x):
        outputs = super().call(x)
        return self.wrong(outputs) if x.shape[1] < 8 else outputs


class ForLongSequences(layers.Layer):
    """A smoothing over time that is wrong for short sequences."""

    def __init__(self, **options):
        super().__init__(**options)
        self.wrong = planted.scale(0.6)

    def call(self, x):
        smooth = (x + tf.roll(x, 1, axis=1)) / 2
        return self.wrong(smooth) if x.shape[1] < 4 else smooth


def twice(first, second):
    """Returns a builder of a dense layer that is called twice, with a healthy one between."""

    def make():
        shared = Reused(8, name="planted")
        between = layers.Dense(8, activation="tanh", name="between")
        return lambda x: shared(between(shared(x, is_wrong=first)), is_wrong=second)

    return make


def two_sizes():
    shared = ForLargeImages(4, 3, padding="same", activation="tanh", name="planted")
    return chain(shared, layers.AveragePooling2D(2, name="smaller"), shared)


def two_lengths():
    shared = ForLongSequences(name="planted")
    return chain(shared, layers.AveragePooling1D(2, name="shorter"), shared)


def convolved_twice():
    shared = planted.Conv2D(
        4, 3, padding="same", activation="tanh", on_kernel=planted.scale(0.8), name="planted"
    )
    return chain(shared, layers.BatchNormalization(name="between"), shared)


def activated_twice():
    shared = planted.Through(activations.swish_off(), name="planted")
    return chain(shared, layers.Dense(8, name="between"), shared)


def branch(make, merge):
    """Returns a builder of two branches, of which the second one has a fault."""

    def middle():
        left, right = make("left"), make("right")
        fault = planted.Through(activations.factor(), name="planted")
        both = merge(name="merged")
        return lambda x: both([left(x), fault(right(x))])

    return middle


def dense(name):
    return layers.Dense(8, activation="tanh", name=name)


def convolution(name):
    return layers.Conv2D(4, 3, padding="same", activation="tanh", name=name)


def sequences(name):
    return layers.GRU(8, return_sequences=True, name=name)


class Merge(layers.Layer):
    """Merges two tensors by a function of both."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, inputs):
        return self.function(*inputs)


def sum_off():
    """A sum whose second part gets twice its gradient."""
    return planted.function(lambda a, b: a + b, lambda g, a, b: (g, 2 * g))


def concatenation_off():
    """A concatenation that hands each part the gradient of the other one."""

    def rule(g, a, b):
        first, second = tf.split(g, 2, axis=-1)
        return second, first

    return planted.function(lambda a, b: tf.concat([a, b], axis=-1), rule)


def product_off():
    """A product that forgets the other factor in one of its two gradients."""
    return planted.function(lambda a, b: a * b, lambda g, a, b: (g * b, g))


def merged(make, function):
    """Returns a builder of two healthy branches and a merging layer with a fault."""

    def middle():
        left, right = make("left"), make("right")
        both = Merge(function(), name="planted")
        return lambda x: both([left(x), right(x)])

    return middle


CASES = [
    *spread("shared", "second_call_only", twice(False, True), ["mlp", "attention"], call=1),
    *spread("shared", "second_call_only", two_sizes, ["conv"], call=1),
    *spread("shared", "second_call_only", two_lengths, ["recurrent"], call=1),
    *spread("shared", "first_call_only", twice(True, False), ["mlp"], call=0),
    *spread("shared", "both_calls", twice(True, True), ["recurrent"], call=ANY_CALL),
    *spread("shared", "both_calls", convolved_twice, ["conv"], call=ANY_CALL),
    *spread("shared", "both_calls", activated_twice, ["mlp"], call=ANY_CALL),
    *spread("branch", "branch_of_two", branch(dense, layers.Add), ["mlp"]),
    *spread("branch", "branch_of_two", branch(convolution, layers.Concatenate), ["conv"]),
    *spread("branch", "branch_of_two", branch(sequences, layers.Multiply), ["recurrent"]),
    *spread("merge", "merge_sum", merged(dense, sum_off), ["mlp"]),
    *spread("merge", "merge_concatenation", merged(convolution, concatenation_off), ["conv"]),
    *spread("merge", "merge_product", merged(sequences, product_off), ["recurrent"]),
]
