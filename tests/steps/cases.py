"""Train steps with one mistake each, and the same steps without it, in several architectures.

The loss and its backpropagation are right in all of these.
"""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.steps import train_steps

COUNT = 24


class Limited(layers.Layer):
    """A dense layer whose kernel is limited: by an assignment, or in the expression."""

    def __init__(self, is_assigning, **kwargs):
        super().__init__(**kwargs)
        self.is_assigning = is_assigning

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

    def call(self, x):
        limited = 0.5 * ops.tanh(2 * ops.convert_to_tensor(self.kernel))
        if not self.is_assigning:
            return ops.tanh(x @ limited)
        self.kernel.assign(limited)
        return ops.tanh(x @ ops.convert_to_tensor(self.kernel))


class Adding(layers.Layer):
    """Hands on what it gets, and adds a loss that is no regularization."""

    def call(self, x):
        self.add_loss(0.3 * ops.mean(ops.square(x)))
        return x


class Recomputed(layers.Layer):
    """Dropout that is computed again on the way back, with the next mask."""

    def __init__(self, around, **kwargs):
        super().__init__(**kwargs)
        self.seeds, self.around = keras.random.SeedGenerator(7), around

    def call(self, x):
        return self.around(lambda h: keras.random.dropout(ops.tanh(h), 0.5, seed=self.seeds))(x)


def plain(x):
    return x


def mlp(middle):
    """Returns inputs and outputs of two dense layers with something between them."""
    x = keras.Input((6,))
    h = layers.Dense(8, "tanh", kernel_regularizer=keras.regularizers.L2(0.1), name="body")(x)
    return x, layers.Dense(1, name="head")(middle(h))


def conv(middle):
    x = keras.Input((6, 6, 2))
    penalty = keras.regularizers.L2(0.1)
    h = layers.Conv2D(4, 3, activation="tanh", kernel_regularizer=penalty, name="body")(x)
    return x, layers.Dense(1, name="head")(middle(layers.Flatten()(h)))


def two_inputs(middle):
    a, b = keras.Input((4,)), keras.Input((3,))
    penalty = keras.regularizers.L2(0.1)
    left = layers.Dense(5, "tanh", kernel_regularizer=penalty, name="left")(a)
    right = layers.Dense(4, "tanh", name="right")(b)
    h = layers.Concatenate()([left, right])
    return (a, b), layers.Dense(1, name="head")(middle(h))


def recurrent(middle):
    x = keras.Input((4, 3))
    penalty = keras.regularizers.L2(0.1)
    h = layers.SimpleRNN(6, kernel_regularizer=penalty, name="body")(x)
    return x, layers.Dense(1, name="head")(middle(h))


def attention(middle):
    x = keras.Input((4, 6))
    penalty = keras.regularizers.L2(0.1)
    h = layers.MultiHeadAttention(2, 3, kernel_regularizer=penalty, name="body")(x, x)
    h = layers.GlobalAveragePooling1D()(h)
    return x, layers.Dense(1, name="head")(middle(h))


ARCHITECTURES = {
    "mlp": mlp,
    "conv": conv,
    "recurrent": recurrent,
    "two_inputs": two_inputs,
    "attention": attention,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A mistake in a train step, or in what it runs.

    Args:
        step: The class of the model.
        words: What must be said.
        right: The class of its healthy twin.
        middle: Function that makes the layer in the middle, for mutant or twin.
        data: Further arguments of the check.
        is_flat: Whether targets have the shape (N,).
        optimizer: Function that makes the optimizer.
        steps: How many steps are trained before the check.
        is_ambiguous: Whether two mistakes give the same gradient, so that both must be said.
    """

    step: type
    words: str
    right: type = train_steps.Step
    middle: Callable = lambda is_wrong: plain
    data: Mapping = dataclasses.field(default_factory=dict)
    is_flat: bool = False
    optimizer: Callable = lambda: keras.optimizers.SGD(0.01)
    steps: int = 0
    is_ambiguous: bool = False

    def build(self, architecture, is_wrong=True, seed=0):
        """Returns a compiled model and the arguments of its check."""
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        x, outputs = ARCHITECTURES[architecture](self.middle(is_wrong))
        model = (self.step if is_wrong else self.right)(x, outputs, name="network")
        model.compile(self.optimizer(), "mse", jit_compile=False)
        inputs = [rng.normal(size=(COUNT, *i.shape[1:])).astype("float32") for i in model.inputs]
        y = (2 * rng.normal(size=(COUNT, 1)) + 1).astype("float32")
        if "class_weight" in self.data:
            y = rng.integers(0, 2, (COUNT, 1)).astype("float32")
        arguments = dict(self.data, x=inputs if len(inputs) > 1 else inputs[0])
        arguments["y"] = y[:, 0] if self.is_flat else y
        if self.steps:
            rows = {k: v for k, v in arguments.items() if k in ("x", "y")}
            model.fit(**rows, batch_size=COUNT, epochs=self.steps, verbose=0)
        return model, arguments


def weights(seed=3):
    return np.random.default_rng(seed).uniform(0, 2, COUNT).astype("float32")


def scaling():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2.0**10)


DROPOUT = {"middle": lambda is_wrong: layers.Dropout(0.5)}
WEIGHTED = {"data": {"sample_weight": weights()}}
CASES = {
    "no_training_dropout": Case(train_steps.WithoutTraining, "training=False", **DROPOUT),
    "no_training_normalization": Case(
        train_steps.WithoutTraining,
        "training=False",
        middle=lambda is_wrong: layers.BatchNormalization(),
    ),
    "no_sample_weights": Case(
        train_steps.WithoutWeights, "leaves out the sample weights", **WEIGHTED
    ),
    "no_class_weights": Case(
        train_steps.WithoutWeights,
        "leaves out the class weights",
        data={"class_weight": {0: 0.3, 1: 2.0}},
    ),
    "no_training_no_weights": Case(
        train_steps.WithoutBoth,
        "that is checked; train_step leaves out the sample weights",
        **DROPOUT,
        **WEIGHTED,
    ),
    "weights_alike": Case(
        train_steps.WithoutWeights,
        "either train_step passes on 0.5 times the gradient of the data term, and that of the "
        "regularization once; or train_step leaves out the sample weights",
        data={"sample_weight": np.full(COUNT, 2.0, "float32")},
        is_ambiguous=True,
    ),
    "weights_broadcast": Case(
        train_steps.WeightsBroadcast, "loss of every example by all of the sample", **WEIGHTED
    ),
    "no_added_losses": Case(
        train_steps.WithoutPenalty,
        "(add_loss): add sum(self.losses); and drops the regularization",
        middle=lambda is_wrong: Adding(),
    ),
    "no_penalty": Case(train_steps.WithoutPenalty, "drops the regularization"),
    "penalty_twice": Case(train_steps.PenaltyTwice, "adds the regularization twice"),
    "sum_for_mean": Case(
        train_steps.Summed, "24, the size of the batch: a sum where a mean belongs"
    ),
    "broadcast": Case(train_steps.Broadcast, "(N, 1) are broadcast to (N, N)", is_flat=True),
    "squeezed": Case(train_steps.Squeezed, "(N, 1) are broadcast to (N, N)"),
    "clipped_by_value": Case(train_steps.ClippedByValue, "clipped by value to +-0.03"),
    "clipped_each": Case(
        train_steps.ClippedEach, "every variable's gradient is clipped to the norm 0.07"
    ),
    "clipped_together": Case(train_steps.ClippedTogether, "clipped to the norm 0.1234"),
    "clipped_without_penalty": Case(
        train_steps.ClippedWithoutPenalty,
        "drops the regularization; and the gradient is clipped to the norm 0.2346",
    ),
    "normalized": Case(train_steps.Normalized, "scaled"),
    "some_scaled": Case(
        train_steps.SomeScaled, "passes on 0.4 times the gradient of head/kernel, head/bias, and"
    ),
    "shrunk": Case(train_steps.Shrunk, "passes on 0.3137 times the gradient"),
    "clipped_while_scaled": Case(
        train_steps.ClippedWhileScaled,
        "before the loss scale 1024 is divided out",
        train_steps.Scaled,
        optimizer=scaling,
    ),
    "value_clipped_while_scaled": Case(
        train_steps.ValueClippedWhileScaled,
        "0.0004883 is 0.5 divided by it",
        train_steps.Scaled,
        optimizer=scaling,
    ),
    "each_clipped_while_scaled": Case(
        train_steps.EachClippedWhileScaled,
        "0.00293 is 3 divided by it",
        train_steps.Scaled,
        optimizer=scaling,
    ),
    "second_optimizer": Case(
        train_steps.SharedTwice,
        "whole gradient of head/kernel, head/bias to 2 optimizers",
        train_steps.Shared,
    ),
    "not_reset": Case(train_steps.Accumulating, "accumulated and not reset", steps=2),
    "averaged_and_not_reset": Case(
        train_steps.Averaging, "0.25 times the sum of the gradient and of what it keeps", steps=2
    ),
    "sharpness": Case(
        train_steps.Sharpness, "0.07 along the gradient: sharpness-aware minimization"
    ),
    "centralized": Case(train_steps.Centralized, "centralized"),
    "adaptive": Case(train_steps.Adaptive, "clipped to 0.05 times the norm of its weights"),
    "decayed": Case(train_steps.Decayed, "adds 0.05 times the weights"),
    "assigned": Case(
        train_steps.Step,
        "assigns to middle/kernel",
        middle=lambda is_wrong: Limited(is_wrong, name="middle"),
    ),
    "redrawn": Case(
        train_steps.Step,
        "draws another mask",
        middle=lambda is_wrong: Recomputed(tf.recompute_grad if is_wrong else plain),
    ),
}
