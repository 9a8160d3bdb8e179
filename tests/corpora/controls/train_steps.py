"""Train steps written by hand, and optimizers that keep or scale gradients: all of them right."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.corpora.controls import twins
from tests.corpora.corpus import Case, compiled, dtype_policy, features, seeded, sequential
from tests.corpora.mutants import train_steps
from tests.corpora.mutants.train_steps import Accumulating, Custom, regression


class WithApply(Custom):
    """The newer way to hand gradients on."""

    def hand_on(self, gradients):
        self.optimizer.apply(gradients, self.trainable_variables)


class WithComputeLoss(Custom):
    """Leaves the loss and its penalties to Keras."""

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        self.hand_on(tape.gradient(loss, self.trainable_variables))
        return {"loss": loss}


class WithScaledLoss(WithComputeLoss):
    """Scales the loss as the optimizer asks, which divides it out again."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
            scaled = self.optimizer.scale_loss(loss)
        self.hand_on(tape.gradient(scaled, self.trainable_variables))
        return {"loss": loss}


class WithMetric(Custom):
    """Keeps a metric of its own."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.own_loss = keras.metrics.Mean(name="own_loss")

    @property
    def metrics(self):
        return [self.own_loss]

    def train_step(self, data):
        logs = super().train_step(data)
        self.own_loss.update_state(logs["loss"])
        return {**logs, "own_loss": self.own_loss.result()}


class WithState(Custom):
    """Counts its steps in a variable, and assigns to a weight after the gradient is taken."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def hand_on(self, gradients):
        super().hand_on(gradients)
        self.steps.assign_add(1.0)
        self.trainable_variables[0].assign_add(0.01 * ops.ones_like(self.trainable_variables[0]))


class TwoOptimizers(Custom):
    """One optimizer for the first layer, one for the rest.

    There is no single gradient to compare.
    """

    def compile(self, optimizer, other=None, **options):
        super().compile(optimizer, **options)
        self.others = {"rest": other or keras.optimizers.SGD(0.02)}

    def hand_on(self, gradients):
        self.optimizer.apply(gradients[:2], self.trainable_variables[:2])
        self.others["rest"].apply(gradients[2:], self.trainable_variables[2:])


def with_step(kind):
    return lambda seed: regression(kind, seed)


def with_optimizer(make):
    """The same network with Keras' own step and another optimizer."""
    return lambda seed: regression(keras.Sequential, seed, optimizer=make())


def half_precision(policy, kind, **options):
    """A network in half precision with a hand-written step, which scales the loss as the
    optimizer asks.
    """

    def build(seed):
        with dtype_policy(policy):
            return regression(kind, seed, **options)

    return build


def stateful(seed):
    """A recurrent layer that keeps its state from batch to batch, in variables that Keras lists
    nowhere.
    """
    rng = seeded(seed)
    x = keras.Input(batch_shape=(8, 5, 3), name="x")
    h = layers.GRU(6, stateful=True, name="recurrent")(x)
    model = compiled(keras.Model(x, layers.Dense(2, name="head")(h)))
    return model, features(rng, 8, 5, 3), features(rng, 8, 2)


def embedded(seed):
    """The gradient of an embedding comes as rows, which a loss scale divides too."""
    rng = seeded(seed)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=64.0)
    stack = layers.Embedding(12, 4, name="table"), layers.Flatten(), layers.Dense(1, name="head")
    return (
        sequential((5,), *stack, optimizer=optimizer),
        rng.integers(12, size=(8, 5)),
        np.ones((8, 1), "float32"),
    )


STEPS = (Custom, WithApply, WithComputeLoss, WithScaledLoss, WithMetric, WithState, Accumulating)
OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.SGD(0.01, gradient_accumulation_steps=3),
    "loss_scale_factor": lambda: keras.optimizers.SGD(0.01, loss_scale_factor=512.0),
    "dynamic_loss_scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=1024.0
    ),
    "moving_average": lambda: keras.optimizers.Adam(use_ema=True),
    "weight_decay": lambda: keras.optimizers.AdamW(weight_decay=0.01),
    "clipping_in_the_optimizer": lambda: keras.optimizers.SGD(0.01, clipnorm=0.01),
}

OWN = [
    *(Case(f"step_{kind.__name__}", with_step(kind), note=kind.__doc__) for kind in STEPS),
    *(Case(f"optimizer_{name}", with_optimizer(make)) for name, make in OPTIMIZERS.items()),
    Case("two_optimizers", with_step(TwoOptimizers), note=TwoOptimizers.__doc__),
    Case("scaled_step_in_float16", half_precision("mixed_float16", WithScaledLoss)),
    Case("plain_step_in_bfloat16", half_precision("mixed_bfloat16", WithComputeLoss)),
    Case("stateful_gru", stateful, note=stateful.__doc__),
    Case("scaled_embedding", embedded, note=embedded.__doc__),
]
CASES = [*OWN, *map(twins.twin_of, train_steps.CASES)]
