"""Train steps written by hand: one that is right, and others with one mistake each."""

import keras
import tensorflow as tf
from keras import ops


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


class WeightsBroadcast(Step):
    """Weights of shape (N,) against losses of shape (N, 1)."""

    def loss_of(self, x, y, predictions, sample_weight):
        return ops.mean(ops.square(y - predictions) * sample_weight) + sum(self.losses)


class Squeezed(Step):
    """Predictions of shape (N,) against targets of shape (N, 1)."""

    def loss_of(self, x, y, predictions, sample_weight):
        return ops.mean(ops.square(y - predictions[:, 0])) + sum(self.losses)


class ClippedByValue(Step):
    def changed(self, gradients):
        return [ops.clip(g, -0.03, 0.03) for g in gradients]


class ClippedEach(Step):
    def changed(self, gradients):
        return [tf.clip_by_norm(g, 0.07) for g in gradients]


class ClippedWithoutPenalty(WithoutPenalty):
    def changed(self, gradients):
        return tf.clip_by_global_norm(gradients, 0.23456)[0]


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


class ValueClippedWhileScaled(Scaled):
    def changed(self, gradients):
        return [ops.clip(g, -0.5, 0.5) for g in gradients]


class EachClippedWhileScaled(Scaled):
    def changed(self, gradients):
        return [tf.clip_by_norm(g, 3.0) for g in gradients]


class Accumulating(Step):
    """Adds up gradients over steps; the sum is never set to zero."""

    def changed(self, gradients):
        if not hasattr(self, "sums"):
            self.sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.weights_of()]
        return [total.assign_add(g) for total, g in zip(self.sums, gradients, strict=True)]

    def weights_of(self):
        return [v.value for v in self.trainable_variables]


class Averaging(Accumulating):
    """Averages what it has added up."""

    def changed(self, gradients):
        return [0.25 * total for total in super().changed(gradients)]


class Shared(Step):
    """Has an optimizer of its own for the last layer."""

    def train_step(self, data):
        if not hasattr(self, "second"):
            self.second = keras.optimizers.SGD(0.01)
        loss, gradients = self.gradients_of(data)
        pairs = list(zip(gradients, self.trainable_variables, strict=True))
        self.optimizer.apply_gradients(self.first_part(pairs))
        self.second.apply_gradients(pairs[-2:])
        return {"loss": loss}

    def first_part(self, pairs):
        return pairs[:-2]


class SharedTwice(Shared):
    def first_part(self, pairs):
        return pairs


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


class Normalized(Step):
    def changed(self, gradients):
        norm = tf.linalg.global_norm(gradients)
        return [g / norm for g in gradients]


class SomeScaled(Step):
    """The last layer learns more slowly."""

    def changed(self, gradients):
        return [*gradients[:-2], *(0.4 * g for g in gradients[-2:])]


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
