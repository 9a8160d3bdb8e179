"""Right train steps, as they are written on JAX."""

import jax
import keras
from keras import layers

from tests.corpora.mutants.train_steps import Custom


class WithApply(Custom):
    """Applies the gradients in a scope of its own, as `stateless_apply` does."""

    def hand_on(self, gradients, trainable, optimizer):
        variables = [*self.trainable_variables, *self.optimizer.variables]
        values = zip(variables, [*trainable, *optimizer], strict=True)
        with keras.StatelessScope(values) as scope:
            self.optimizer.apply(gradients, self.trainable_variables)
        values = [scope.get_current_value(variable) for variable in variables]
        return values[: len(trainable)], values[len(trainable) :]


class _ByKeras:
    """A train step that leaves the loss and its penalties to Keras."""

    def loss_and_state(self, trainable, others, metrics, x, y, sample_weight):
        y_pred, others, _ = self.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        loss, (_, others, metrics) = self.stateless_compute_loss(
            trainable, others, metrics, x=x, y=y, y_pred=y_pred, sample_weight=sample_weight
        )
        return loss, (others, metrics)

    def train_step(self, state, data):
        trainable, others, optimizer, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        differentiate = jax.value_and_grad(self.loss_and_state, has_aux=True)
        (loss, (others, metrics)), gradients = differentiate(
            trainable, others, metrics, x, y, sample_weight
        )
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return {"loss": loss}, (trainable, others, optimizer, metrics)


class WithComputeLoss(_ByKeras, Custom):
    """Leaves the loss and its penalties to Keras."""


class WithScaledLoss(Custom):
    """Scales the loss as the optimizer asks, which divides it out again."""

    def train_step(self, state, data):
        trainable, others, optimizer, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        differentiate = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (loss, _, others, metrics)), gradients = differentiate(
            trainable,
            others,
            metrics,
            x,
            y,
            sample_weight,
            training=True,
            optimizer_variables=optimizer,
        )
        trainable, optimizer = self.hand_on(gradients, trainable, optimizer)
        return {"loss": loss}, (trainable, others, optimizer, metrics)


class WithMetric(Custom):
    """Keeps a metric of its own."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.own_loss = keras.metrics.Mean(name="own_loss")

    @property
    def metrics(self):
        return [self.own_loss]

    def train_step(self, state, data):
        logs, (*state, metrics) = super().train_step(state, data)
        metrics = self.own_loss.stateless_update_state(metrics, logs["loss"])
        return {**logs, "own_loss": self.own_loss.stateless_result(metrics)}, (*state, metrics)


class WithState(Custom):
    """Counts its steps in a variable, and moves a weight after the gradient is taken."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def train_step(self, state, data):
        logs, (trainable, others, *state) = super().train_step(state, data)
        others = [
            value + 1.0 if variable is self.steps else value
            for variable, value in zip(self.non_trainable_variables, others, strict=True)
        ]
        return logs, ([trainable[0] + 0.01, *trainable[1:]], others, *state)


class TwoOptimizers(Custom):
    """One optimizer for the first layer, one for the rest.

    There is no single gradient to compare. Keras carries the state of the first from step to
    step, and that of the second nowhere.
    """

    def compile(self, optimizer, other=None, **options):
        super().compile(optimizer, **options)
        self.others = {"rest": other or keras.optimizers.SGD(0.02)}
        self.optimizer.build(self.trainable_variables[:2])
        self.others["rest"].build(self.trainable_variables[2:])

    def hand_on(self, gradients, trainable, optimizer):
        rest = self.others["rest"]
        first, optimizer = self.optimizer.stateless_apply(optimizer, gradients[:2], trainable[:2])
        second, _ = rest.stateless_apply(
            [variable.value for variable in rest.variables], gradients[2:], trainable[2:]
        )
        return [*first, *second], optimizer


class OwnStep(_ByKeras, keras.Model):
    """A train_step written out, as the guides show it."""

    def __init__(self):
        super().__init__(name="own_step")
        self.below = layers.Dense(8, activation="tanh", kernel_regularizer="l2", name="below")
        self.head = layers.Dense(2, name="head")

    def call(self, x, training=False):
        return self.head(self.below(x))
