"""A run whose checks decide nothing is reported once; a run with a decision is not."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks import Reason, Verdict

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
# Compiled before any check, it stays as random as it is.
DICE = tf.function(lambda: tf.random.uniform([])).get_concrete_function()


class Moody(layers.Layer):
    """Random in code that a check cannot replace, while its mood lasts."""

    def build(self, shape):
        self.mood = self.add_weight(shape=(), trainable=False, initializer="ones", name="mood")

    def call(self, x):
        return x * (1 + self.mood * tf.cast(DICE(), x.dtype))


def model_of(*middle, loss="mse", kernel="glorot_uniform"):
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((4,)),
        layers.Dense(3, kernel_initializer=kernel, name="below"),
        *middle,
        layers.Dense(4),
    ]
    model = keras.Sequential(stack, name="net")
    model.compile(keras.optimizers.SGD(1e-6), loss)
    return model


def at_a_corner():
    """Every parameter of the first layer is on the corner of a ReLU, and no other is trained."""
    model = model_of(layers.ReLU(), kernel="zeros")
    model.layers[-1].trainable = False
    model.compile(keras.optimizers.SGD(0.0), lambda y, y_pred: tf.reduce_mean(y_pred, -1))
    return model


def without_influence():
    return model_of(loss=lambda y, y_pred: tf.reduce_mean(0.0 * y_pred, -1))


def collect_warnings(model, *callbacks, epochs=2, **options):
    """The check, and the warnings that a training gives."""
    check = gradhooks.GradientCheck(X, X, **{"samples": 4, "train_step": False} | options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, X, epochs=epochs, verbose=0, callbacks=[*callbacks, check])
    return check, [str(w.message) for w in caught if w.category is gradhooks.GradientCheckWarning]


# reason -> the model, and what the warning says beside the reason's explanation
UNDECIDED = {
    Reason.NOT_DETERMINISTIC: (
        lambda: model_of(Moody(name="moody")),
        ["net/moody: draws from", "SeedGenerator"],
    ),
    Reason.KINK: (at_a_corner, ["another batch"]),
    Reason.NOTHING_SAMPLED: (without_influence, ["a larger batch"]),
}


@pytest.mark.parametrize("on_failure", ["warn", "raise", "ignore"])
@pytest.mark.parametrize("reason", UNDECIDED, ids=str)
def test_an_undecided_run_is_reported_once(reason, on_failure):
    build, said = UNDECIDED[reason]
    check, messages = collect_warnings(build(), epochs=3, on_failure=on_failure)
    assert [r.reason for r in check.reports] == [reason] * 4
    (message,) = messages
    assert message.startswith(
        "gradient checks have decided nothing in this run, the latest of 2 at step 1 (gradcheck)"
    )
    assert all(part in message for part in [reason.explanation, "check_gradients(model", *said])


def test_a_decided_run_is_not_reported():
    check, messages = collect_warnings(model_of())
    assert {r.verdict for r in check.reports} == {Verdict.PASS}
    assert messages == []


def test_one_check_is_reported_when_training_ends():
    only_first = {"freq": lambda step: False}
    check, messages = collect_warnings(model_of(Moody()), **only_first)
    assert len(check.reports) == len(messages) == 1
    assert "the latest of 1 at step 0" in messages[0]
    check, messages = collect_warnings(model_of(), **only_first)
    assert (len(check.reports), messages) == (1, [])


def test_a_run_that_recovers_is_not_reported():
    class Calm(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.get_layer("moody").mood.assign(0)

    check, messages = collect_warnings(model_of(Moody(name="moody")), Calm())
    assert [r.verdict for r in check.reports] == [Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.PASS]
    assert messages == []


def test_every_run_is_reported_anew():
    model = model_of(Moody())
    assert [len(collect_warnings(model)[1]) for _ in range(2)] == [1, 1]


def test_a_run_whose_error_was_reported_is_not_reported_again():
    def broken(model, x, y, sample_weight, training):
        raise KeyError("lost")

    check, messages = collect_warnings(model_of(), loss_fn=broken)
    assert {r.reason for r in check.reports} == {Reason.ERROR}
    assert ["could not be carried out" in message for message in messages] == [True]
