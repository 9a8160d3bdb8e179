"""Kinks and flat spots.

The gradient is right, though naive differences see a half, a zero or a jump.
"""

import keras
import numpy as np
from keras import layers, ops

from tests.corpora.controls.building import around, classified, dense
from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential

CONSTANT = keras.initializers.Constant


def wide(units, activation, deviation, name):
    """Returns a function that makes a layer with large weights."""
    return lambda: layers.Dense(
        units,
        activation=activation,
        kernel_initializer=keras.initializers.RandomNormal(stddev=deviation),
        name=name,
    )


def zero_layer(seed):
    """A layer that starts at zero under a ReLU: every pre-activation is exactly zero."""
    return around(
        seed, (6,), dense(), dense(activation="relu", kernel_initializer="zeros", name="zero")
    )


def zero_head(seed):
    """The last layer starts at zero: nothing below it has a gradient yet."""
    rng = seeded(seed)
    head = layers.Dense(2, kernel_initializer="zeros", name="head")
    return (
        sequential((6,), layers.Dense(8, activation="relu"), head),
        features(rng, 16, 6),
        features(rng, 16, 2),
    )


def zero_gamma(seed):
    """Residual blocks that start as the identity: the last gamma of each is zero."""
    rng = seeded(seed)
    x = keras.Input((6, 6, 3), name="x")
    h = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    for block in "ab":
        inner = layers.Conv2D(4, 3, padding="same", use_bias=False, name=f"{block}_convolution")(h)
        inner = layers.BatchNormalization(gamma_initializer="zeros", name=f"{block}_norm")(inner)
        h = layers.ReLU()(layers.Add()([h, inner]))
    model, y = classified(rng, x, layers.GlobalAveragePooling2D()(h))
    return model, features(rng, 8, 6, 6, 3), y


def relu_network(seed):
    return around(seed, (6,), dense(32, "relu"), dense(32, "relu"), dense(32, "relu"), batch=16)


def barely_dead(seed):
    """Units that are off for the whole batch, but only just: a large step wakes them up."""

    def dead():
        kernel = keras.initializers.RandomUniform(-0.3, -0.01)
        return layers.Dense(8, activation="relu", kernel_initializer=kernel, name="dead")

    model, x, y = around(seed, (6,), dense(8, "relu", name="alive"), dead)
    return model, np.abs(x), y


def one_dead_unit(seed):
    """One unit of a ReLU layer is off for every example.

    Zero gradient in one row and one column.
    """
    bias = CONSTANT([0.0, 0.0, -4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    return around(
        seed, (6,), dense(8, "relu", bias_initializer=bias, name="planted"), dense(6, "relu")
    )


def clipped(seed):
    """Hard sigmoids and clipped ReLUs, most of them on their flat parts."""
    kinds = ("hard_sigmoid", "relu6", "hard_tanh")
    return around(seed, (6,), *(wide(8, kind, 4.0, f"{kind}_layer") for kind in kinds))


def constant_images(seed):
    """Max pooling over images of one colour each: everything is a tie."""
    rng = seeded(seed)
    x = keras.Input((6, 6, 1), name="x")
    h = layers.Conv2D(4, 3, activation="relu", name="convolution")(x)
    model, y = classified(rng, x, layers.Flatten()(layers.MaxPooling2D(2)(h)))
    return model, np.ones((8, 6, 6, 1), "float32") * features(rng, 8, 1, 1, 1), y


def black_and_white(seed):
    """Images of zeros and ones, straight into max pooling and on.

    Ties, and zeros at zero biases.
    """
    rng = seeded(seed)
    x = keras.Input((6, 6, 1), name="x")
    h = layers.MaxPooling2D(2)(x)
    h = layers.Conv2D(4, 2, activation="relu", name="convolution")(h)
    model, y = classified(rng, x, layers.GlobalMaxPooling2D()(h))
    return model, integers(rng, 2, 8, 6, 6, 1).astype("float32"), y


def padded_examples(seed):
    """Some examples are zero throughout: with zero biases they sit on every ReLU's kink."""
    model, x, y = around(seed, (6,), dense(8, "relu"), dense(8, "relu"))
    x[::3] = 0
    return model, x, y


def prelu_at_zero(seed):
    model, x, y = around(seed, (6,), dense(8, None), layers.PReLU, dense(8, None), layers.LeakyReLU)
    x[::3] = 0
    return model, x, y


def under(loss, bias=0.0, target=0.0):
    """A linear model that starts at `bias` everywhere.

    Half of the targets put it on the kink of `loss`.
    """

    def build(seed):
        rng = seeded(seed)
        head = layers.Dense(
            1, kernel_initializer="zeros", bias_initializer=CONSTANT(bias), name="head"
        )
        y = np.where(rng.random((16, 1)) < 0.5, target, np.sign(features(rng, 16, 1))).astype(
            "float32"
        )
        return sequential((6,), head, loss=loss), features(rng, 16, 6), y

    return build


def satisfied_hinge(seed):
    """All margins are kept: loss and gradient are zero, until a large step."""
    rng = seeded(seed)
    x = features(rng, 16, 2)
    kernel = CONSTANT([[3.0], [-3.0]])
    x[:, 0] = np.where(np.abs(x[:, 0]) < 0.5, 1.0, x[:, 0])
    x[:, 1] = -x[:, 0]
    head = layers.Dense(1, kernel_initializer=kernel, name="head")
    return sequential((2,), head, loss="hinge"), x, np.sign(x[:, :1])


def l1_at_zero(seed):
    """An L1 penalty on weights that start at zero: the kink of an absolute value."""
    return around(
        seed, (6,), dense(kernel_regularizer="l1", bias_regularizer="l1", name="sparse"), dense()
    )


def saturated(scale, from_logits):
    """Logits so large that the softmax is one or zero."""

    def build(seed):
        rng = seeded(seed)
        head = wide(4, None if from_logits else "softmax", scale, "head")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        model = sequential(
            (6,), layers.Dense(8, activation="tanh", name="below"), head(), loss=loss
        )
        return model, features(rng, 16, 6), integers(rng, 4, 16)

    return build


def saturated_sigmoids(seed):
    return around(seed, (6,), wide(8, "sigmoid", 20.0, "sigmoid"), wide(8, "tanh", 20.0, "tanh"))


def bias_before_normalization(seed):
    """A bias that batch normalization takes away again: its gradient is nothing but rounding."""
    rng = seeded(seed)
    x = keras.Input((6, 6, 2), name="x")
    h = layers.Conv2D(4, 3, name="first")(x)
    h = layers.ReLU()(layers.BatchNormalization(name="first_norm")(h))
    h = layers.Conv2D(4, 3, name="second")(h)
    h = layers.ReLU()(layers.BatchNormalization(name="second_norm")(h))
    model, y = classified(rng, x, layers.GlobalAveragePooling2D()(h))
    return model, features(rng, 8, 6, 6, 2), y


def unused_rows(seed):
    """A table of 40 rows of which a batch uses a handful."""
    rng = seeded(seed)
    x = keras.Input((4,), dtype="int32", name="x")
    h = layers.Flatten()(layers.Embedding(40, 4, name="table")(x))
    model, y = classified(rng, x, h)
    return model, integers(rng, 7, 8, 4), y


def maxout(seed):
    """The maximum over pairs of units, and a sort: piecewise linear, right almost everywhere."""

    class Maxout(layers.Layer):
        def call(self, x):
            pairs = ops.reshape(x, (-1, x.shape[-1] // 2, 2))
            return ops.sort(ops.max(pairs, axis=-1), axis=-1)

    return around(seed, (6,), dense(12, None), Maxout, dense())


def median_and_top(seed):
    """The median and the two largest entries of each row."""

    class Order(layers.Layer):
        def call(self, x):
            return ops.concatenate(
                [ops.median(x, axis=-1, keepdims=True), ops.top_k(x, 2)[0]], axis=-1
            )

    return around(seed, (6,), dense(9), Order)


def mixture_of_experts(seed):
    """Each example goes to the expert with the highest gate, and the gate's weight is
    multiplied in.

    The choice has no derivative, but needs none: the loss is smooth wherever
    the choice does not change.
    """

    class Routed(layers.Layer):
        def build(self, shape):
            self.gate = self.add_weight(shape=(shape[-1], 3), name="gate")
            self.experts = self.add_weight(shape=(3, shape[-1], 5), name="experts")

        def call(self, x):
            weights = ops.softmax(ops.matmul(x, self.gate))
            chosen = ops.one_hot(ops.argmax(weights, axis=-1), 3, dtype=x.dtype)
            outputs = ops.tanh(ops.einsum("bi,eio->beo", x, self.experts))
            return ops.einsum("be,beo->bo", weights * chosen, outputs)

    return around(seed, (6,), lambda: Routed(name="routed"), batch=16)


def guarded_roots(seed):
    """Roots and logarithms guarded as they should be: with a floor inside, or with two `where`."""

    class Guarded(layers.Layer):
        def call(self, x):
            safe = ops.where(x > 0, x, ops.ones_like(x))
            logarithm = ops.where(x > 0, ops.log(safe), ops.zeros_like(x))
            length = ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-6)
            return logarithm * ops.square(ops.relu(x)) + length

    model, x, y = around(seed, (6,), dense(8, None), Guarded)
    x[2] = 0
    return model, x, y


def stable_softmax(seed):
    """A softmax that subtracts its detached maximum: the missing term is exactly zero."""

    class Softmax(layers.Layer):
        def call(self, x):
            powers = ops.exp(x - ops.stop_gradient(ops.max(x, axis=-1, keepdims=True)))
            return powers / ops.sum(powers, axis=-1, keepdims=True)

    return around(seed, (6,), dense(8, None), Softmax)


def frozen_target(seed):
    """Bootstrapped learning.

    The target is a frozen copy behind a stop_gradient, which changes nothing.
    """

    class Bootstrap(keras.Model):
        def __init__(self):
            super().__init__(name="bootstrap")
            self.online = layers.Dense(5, activation="tanh", name="online")
            self.target = layers.Dense(5, activation="tanh", trainable=False, name="target")
            self.predictor = layers.Dense(5, name="predictor")

        def call(self, x):
            goal = ops.stop_gradient(self.target(x))
            self.add_loss(ops.mean(ops.square(self.predictor(self.online(x)) - goal)))
            return goal

    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(Bootstrap(), None)
    model(x)
    return model, x, None


CASES = [
    Case("zero_layer_under_relu", zero_layer, note="all pre-activations are exactly zero"),
    Case("zero_head", zero_head, note="nothing below has a gradient yet"),
    Case("zero_gamma_residual", zero_gamma, note="blocks that start as the identity"),
    Case("relu_network", relu_network, note="kinks everywhere nearby"),
    Case(
        "barely_dead_relu",
        barely_dead,
        note="flat here, not flat a large step away: looks blocked, is not",
    ),
    Case("one_dead_unit", one_dead_unit, note="zero gradient in one unit, as if it were blocked"),
    Case("clipped_activations", clipped, note="flat parts of hard sigmoids and ReLU6"),
    Case("constant_images", constant_images, note="max pooling with nothing but ties"),
    Case("black_and_white_images", black_and_white, note="ties and exact zeros"),
    Case("empty_examples", padded_examples, note="zero inputs on zero biases"),
    Case("prelu_at_zero", prelu_at_zero),
    Case("absolute_error_at_a_tie", under("mae"), note="prediction and target are equal"),
    Case("hinge_at_the_margin", under("hinge", 1.0, 1.0), note="exactly on the margin"),
    Case("huber_at_its_corner", under("huber", 0.0, 1.0), note="where the square becomes a line"),
    Case("satisfied_hinge", satisfied_hinge, note="a zero loss that a large step makes positive"),
    Case("l1_at_zero", l1_at_zero, note="a penalty at its kink"),
    Case("saturated_softmax", saturated(30.0, False), note="probabilities clipped at 1e-7"),
    Case(
        "saturated_softmax_logits",
        saturated(30.0, True),
        note="losses of a hundred beside losses of 1e-40",
    ),
    Case("saturated_sigmoids", saturated_sigmoids),
    Case(
        "bias_before_normalization",
        bias_before_normalization,
        note="a gradient of 1e-17 against zero",
    ),
    Case("unused_embedding_rows", unused_rows),
    Case("maxout_and_sort", maxout),
    Case("median_and_top_k", median_and_top),
    Case("mixture_of_experts", mixture_of_experts, note="argmax in the path, and yet right"),
    Case("guarded_roots", guarded_roots, note="what the NaN mutants should have done"),
    Case("stable_softmax", stable_softmax, note="a stop_gradient that is exact"),
    Case("frozen_target", frozen_target, note="a stop_gradient on what is frozen anyway"),
]
