"""Train steps with one mistake each, and the same steps without it, in several architectures.

The loss and its backpropagation are right in all of these.
"""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

COUNT = 24


class Step(keras.Model):
    """A train step written by hand, right as it stands; subclasses change one thing."""

    def unpack(self, data):
        return keras.utils.unpack_x_y_sample_weight(data)

    def predict_batch(self, x):
        return self(x, training=True)

    def loss_of(self, x, y, predictions, sample_weight):
        return self.compute_loss(x, y, predictions, sample_weight, training=True)

    def scaled(self, loss):
        return loss

    def gradients_of(self, data):
        x, y, sample_weight = self.unpack(data)
        with tf.GradientTape() as tape:
            loss = self.loss_of(x, y, self.predict_batch(x), sample_weight)
            scaled = self.scaled(loss)
        return loss, tape.gradient(scaled, self.trainable_variables)

    def changed(self, gradients):
        return gradients

    def train_step(self, data):
        loss, gradients = self.gradients_of(data)
        pairs = zip(self.changed(gradients), self.trainable_variables, strict=True)
        self.optimizer.apply_gradients(pairs)
        return {"loss": loss}


class WithoutTraining(Step):
    def predict_batch(self, x):
        return self(x)


class WithoutWeights(Step):
    def unpack(self, data):
        return (*data[:2], None)


class WithoutBoth(WithoutTraining):
    def unpack(self, data):
        return (*data[:2], None)


class WithoutPenalty(Step):
    def loss_of(self, x, y, predictions, sample_weight):
        return ops.mean(ops.square(y - predictions))


class PenaltyTwice(Step):
    def loss_of(self, x, y, predictions, sample_weight):
        return super().loss_of(x, y, predictions, sample_weight) + sum(self.losses)


class Summed(Step):
    def loss_of(self, x, y, predictions, sample_weight):
        return ops.sum(ops.square(y - predictions)) + sum(self.losses)


class Broadcast(Step):
    """Targets of shape (N,) against predictions of shape (N, 1)."""

    def loss_of(self, x, y, predictions, sample_weight):
        return ops.mean(ops.square(y - predictions)) + sum(self.losses)


class ClippedByValue(Step):
    def changed(self, gradients):
        return [ops.clip(g, -0.03, 0.03) for g in gradients]


class ClippedEach(Step):
    def changed(self, gradients):
        return [tf.clip_by_norm(g, 0.07) for g in gradients]


class ClippedTogether(Step):
    """To a norm that is no round number, so that only another point tells it from a factor."""

    def changed(self, gradients):
        return tf.clip_by_global_norm(gradients, 0.12341)[0]


class Shrunk(Step):
    def changed(self, gradients):
        return [0.3137 * g for g in gradients]


class Scaled(Step):
    """Uses the loss scale of its optimizer, as it should."""

    def scaled(self, loss):
        return self.optimizer.scale_loss(loss)


class ClippedWhileScaled(Scaled):
    def changed(self, gradients):
        return tf.clip_by_global_norm(gradients, 1.0)[0]


class Accumulating(Step):
    """Adds up gradients over steps; the sum is never set to zero."""

    def changed(self, gradients):
        if not hasattr(self, "sums"):
            self.sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.weights_of()]
        return [total.assign_add(g) for total, g in zip(self.sums, gradients, strict=True)]

    def weights_of(self):
        return [v.value for v in self.trainable_variables]


class Sharpness(Step):
    """Sharpness-aware minimization."""

    def gradients_of(self, data):
        loss, gradients = super().gradients_of(data)
        norm = tf.linalg.global_norm(gradients)
        moves = [0.07 * g / norm for g in gradients]
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_add(move)
        gradients = super().gradients_of(data)[1]
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_sub(move)
        return loss, gradients


class Centralized(Step):
    def changed(self, gradients):
        return [
            g - ops.mean(g, tuple(range(len(g.shape) - 1)), keepdims=True)
            if len(g.shape) > 1
            else g
            for g in gradients
        ]


class Adaptive(Step):
    """Adaptive gradient clipping: each unit's gradient by the norm of its weights."""

    def changed(self, gradients):
        return [self.clip(v, g) for v, g in zip(self.trainable_variables, gradients, strict=True)]

    def clip(self, variable, gradient):
        axes = tuple(range(max(len(gradient.shape) - 1, 1)))
        size, norm = (
            ops.sqrt(ops.sum(ops.square(v), axes, keepdims=True))
            for v in (ops.convert_to_tensor(variable), gradient)
        )
        return gradient * ops.minimum(1.0, 0.05 * ops.maximum(size, 1e-3) / (norm + 1e-12))


class Decayed(Step):
    def changed(self, gradients):
        return [
            g + 0.05 * v if "kernel" in v.path else g
            for v, g in zip(self.trainable_variables, gradients, strict=True)
        ]


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


ARCHITECTURES = {"mlp": mlp, "conv": conv, "two_inputs": two_inputs, "recurrent": recurrent}


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
    """

    step: type
    words: str
    right: type = Step
    middle: Callable = lambda is_wrong: plain
    data: Mapping = dataclasses.field(default_factory=dict)
    is_flat: bool = False
    optimizer: Callable = lambda: keras.optimizers.SGD(0.01)
    steps: int = 0

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
    "no_training_dropout": Case(WithoutTraining, "training=False", **DROPOUT),
    "no_training_normalization": Case(
        WithoutTraining, "training=False", middle=lambda is_wrong: layers.BatchNormalization()
    ),
    "no_sample_weights": Case(WithoutWeights, "leaves out the sample weights", **WEIGHTED),
    "no_class_weights": Case(
        WithoutWeights,
        "leaves out the class weights",
        data={"class_weight": {0: 0.3, 1: 2.0}},
    ),
    "no_training_no_weights": Case(
        WithoutBoth,
        "that is checked; train_step leaves out the sample weights",
        **DROPOUT,
        **WEIGHTED,
    ),
    "no_penalty": Case(WithoutPenalty, "drops the regularization"),
    "penalty_twice": Case(PenaltyTwice, "adds the regularization twice"),
    "sum_for_mean": Case(Summed, "24, the size of the batch: a sum where a mean belongs"),
    "broadcast": Case(Broadcast, "(N, 1) are broadcast to (N, N)", is_flat=True),
    "clipped_by_value": Case(ClippedByValue, "clipped by value to +-0.03"),
    "clipped_each": Case(ClippedEach, "every variable's gradient is clipped to the norm 0.07"),
    "clipped_together": Case(ClippedTogether, "clipped to the norm 0.1234"),
    "shrunk": Case(Shrunk, "passes on 0.3137 times the gradient"),
    "clipped_while_scaled": Case(
        ClippedWhileScaled, "before the loss scale 1024 is divided out", Scaled, optimizer=scaling
    ),
    "not_reset": Case(Accumulating, "accumulated and not reset", steps=2),
    "sharpness": Case(Sharpness, "0.07 along the gradient: sharpness-aware minimization"),
    "centralized": Case(Centralized, "centralized"),
    "adaptive": Case(Adaptive, "clipped to 0.05 times the norm of its weights"),
    "decayed": Case(Decayed, "adds 0.05 times the weights"),
    "assigned": Case(
        Step, "assigns to middle/kernel", middle=lambda is_wrong: Limited(is_wrong, name="middle")
    ),
    "redrawn": Case(
        Step,
        "draws another mask",
        middle=lambda is_wrong: Recomputed(tf.recompute_grad if is_wrong else plain),
    ),
}
