"""Train steps that hand the optimizer another gradient than that of the loss."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.corpora.mutants import planted
from tests.localization.building import Case, conv, mlp, recurrent


class Step(keras.Model):
    """A hand-written train step, right as it stands; subclasses change one thing."""

    def penalties(self):
        return sum(self.losses)

    def is_training(self):
        return True

    def changed(self, gradients):
        return gradients

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            error = ops.mean(ops.square(y - self(x, training=self.is_training())))
            loss = error + self.penalties()
        gradients = self.changed(tape.gradient(loss, self.trainable_variables))
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


class NoPenalty(Step):
    def penalties(self):
        return 0.0


class Clipped(Step):
    def changed(self, gradients):
        return tf.clip_by_global_norm(gradients, 0.01)[0]


class Halved(Step):
    def changed(self, gradients):
        return [g / 2 for g in gradients]


class NotTraining(Step):
    def is_training(self):
        return False


def penalized():
    return layers.Dense(8, "tanh", kernel_regularizer=keras.regularizers.L2(0.1), name="middle")


def dropped():
    return layers.Dropout(0.4, seed=3, name="middle")


def plain():
    return layers.Activation("tanh", name="middle")


def step(name, host, make, wrong):
    """Returns a case: the network with the wrong train step; in its twin, with the right one."""

    def build(seed):
        return host(seed, make(), model_class=planted.choose(wrong, Step))

    at = ("network", "", "train_step")
    return Case(name, "train_step", build, kind="train_step", at=at, host=host.__name__)


CASES = [
    step("step_without_penalty_mlp", mlp, penalized, NoPenalty),
    step("step_clips_conv", conv, plain, Clipped),
    step("step_halves_recurrent", recurrent, plain, Halved),
    step("step_not_training_mlp", mlp, dropped, NotTraining),
]
