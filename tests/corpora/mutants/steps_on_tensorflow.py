"""What hand-written train steps are made of on TensorFlow."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.corpora.corpus import compiled, features, seeded
from tests.corpora.mutants import planted


class Step(keras.Sequential):
    """A train step with a tape.

    Subclasses have `predictions(x)`, `losses_of(y, y_pred)` and `changed(gradients)`.
    """

    def train_step(self, data):
        x, y = data
        loss, gradients = self.gradients_of(x, y)
        self.hand_on(self.changed(gradients))
        return {"loss": loss}

    def gradients_of(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.losses_of(y, self.predictions(x))
        return loss, tape.gradient(loss, self.trainable_variables)

    def hand_on(self, gradients):
        """Returns the state that the next call wants beside the gradients: none."""
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return ()


def hand_on_all_but_the_third(model, gradients):
    pairs = list(zip(gradients, model.trainable_variables, strict=True))
    model.optimizer.apply_gradients(pairs[:2] + pairs[3:])


def clip_by_global_norm(gradients, norm):
    return tf.clip_by_global_norm(gradients, norm)[0]


def clip_by_norm(gradient, norm):
    return tf.clip_by_norm(gradient, norm)


class Recomputed(layers.Layer):
    """Dropout whose activations are recomputed on the way back, there with the next mask.

    This is what `keras.remat` comes down to on TensorFlow.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(7)
        self.around = planted.choose(tf.recompute_grad, planted.honest)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 8), name="kernel")

    def call(self, x):
        return self.around(lambda h: keras.random.dropout(ops.tanh(h), 0.5, seed=self.seeds))(
            x @ self.kernel
        )


def recomputed(seed):
    rng = seeded(seed)
    stack = [layers.Input((10,)), Recomputed(name="recomputed"), layers.Dense(1, name="head")]
    return (
        compiled(keras.Sequential(stack, name="network")),
        features(rng, 64, 10),
        features(rng, 64, 1),
    )
