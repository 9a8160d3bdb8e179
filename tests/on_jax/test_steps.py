"""Train steps as JAX has them: functions of a state."""

import jax
import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks


class Stepping(keras.Model):
    """A model whose step is that of Keras' guide, with places for mistakes."""

    factor, adds_losses, applies_twice = 1.0, True, False

    def __init__(self):
        super().__init__()
        self.below = layers.Dense(
            4, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1)
        )
        self.above = layers.Dense(1)

    def call(self, x, training=False):
        return self.above(self.below(x))

    def loss_of(self, trainable, state, x, y):
        outputs, state, losses = self.stateless_call(
            trainable, state, x, training=True, return_losses=True
        )
        loss = ops.mean((outputs - y) ** 2) + (sum(losses) if self.adds_losses else 0.0)
        return self.factor * loss, state

    def train_step(self, state, data):
        trainable, others, slots, metrics = state
        x, y = data
        differentiate = jax.value_and_grad(self.loss_of, has_aux=True)
        (loss, others), gradients = differentiate(trainable, others, x, y)
        gradients = self.change(gradients)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return {"loss": loss}, (trainable, others, slots, metrics)

    def change(self, gradients):
        return gradients


class WithoutLosses(Stepping):
    adds_losses = False


class Halved(Stepping):
    factor = 0.5


class Dropped(Stepping):
    def change(self, gradients):
        return [*gradients[:-1], gradients[-1] * 0]


class Swapped(Stepping):
    def change(self, gradients):
        return [-gradient for gradient in gradients]


class OfTheGuide(Stepping):
    """Computes the loss outside of the scope of the variables, as a guide of Keras' does.

    The penalties of weights are then those of the variables themselves, and constants.
    """

    def loss_of(self, trainable, state, x, y):
        outputs, state = self.stateless_call(trainable, state, x, training=True)
        return self.compute_loss(x, y, outputs), state


def make(kind, **options):
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    x, y = rng.normal(size=(8, 3)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")
    model = kind()
    model.compile("adam", "mse", **options)
    model(x)
    return model, x, y


MODES = {"jit": {}, "eager": {"run_eagerly": True}, "without jit": {"jit_compile": False}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_a_right_step_passes(mode, is_fitted):
    model, x, y = make(Stepping, **MODES[mode])
    if is_fitted:
        model.fit(x, y, verbose=0)
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is gradhooks.Verdict.PASS, report
    assert report.relative_difference["trained"] < 1e-6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (WithoutLosses, "drops the regularization"),
        (OfTheGuide, "drops the regularization"),
        (Halved, "0.5 times"),
        (Dropped, ""),
        (Swapped, ""),
    ],
)
def test_a_mistake_is_told(kind, words, mode):
    model, x, y = make(kind, **MODES[mode])
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is gradhooks.Verdict.FAIL, report
    assert report.culprit.kind == "train_step", report.culprit
    assert words in report.culprit.sentence


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(loss_scale_factor=64.0),
        lambda: keras.optimizers.Adam(gradient_accumulation_steps=4, clipnorm=1.0),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
        lambda: keras.optimizers.Adam(use_ema=True, weight_decay=0.1),
    ],
    ids=["loss scale", "accumulation and clipping", "dynamic loss scale", "averages and decay"],
)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_what_an_optimizer_does_is_not_accused(optimizer, is_fitted):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 1)).astype("float32")
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(1)]
    )
    model.compile(optimizer(), "mse")
    if is_fitted:
        model.fit(x, y, verbose=0)
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is gradhooks.Verdict.PASS, report
    assert report.relative_difference["trained"] < 1e-5
