"""Right train steps, as they are written on TensorFlow."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.corpora.mutants.train_steps import Custom


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


class OwnStep(keras.Model):
    """A train_step written out, as the guides show it."""

    def __init__(self):
        super().__init__(name="own_step")
        self.below = layers.Dense(8, activation="tanh", kernel_regularizer="l2", name="below")
        self.head = layers.Dense(2, name="head")

    def call(self, x, training=False):
        return self.head(self.below(x))

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}
