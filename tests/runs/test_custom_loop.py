"""No `fit()`: the callback driven from a hand-written loop, and a check in a plain test
function.
"""

import keras
import numpy as np

import gradhooks
from tests import digest
from tests.runs.training import PASS, check_of, plotted, small, stored
from tests.test_bit_identity import seeded


def train_on_tensorflow(model, loss_fn):
    import tensorflow as tf

    @tf.function
    def train(x, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True)) + sum(model.losses)
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    return train


def train_on_jax(model, loss_fn):
    import jax

    def loss_of(trainable, others, x, y):
        outputs, others, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return loss_fn(y, outputs) + sum(losses), others

    @jax.jit
    def step(trainable, others, optimizer, x, y):
        differentiate = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = differentiate(trainable, others, x, y)
        trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
        return loss, (trainable, others, optimizer)

    groups = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables

    def train(x, y):
        loss, values = step(*([v.value for v in group] for group in groups), x, y)
        for group, new in zip(groups, values, strict=True):
            for variable, value in zip(group, new, strict=True):
                variable.assign(value)
        return loss

    return train


TRAIN = {"tensorflow": train_on_tensorflow, "jax": train_on_jax}


def loop(model, x, y, callbacks, epochs=2, batch_size=32):
    """Trains as a tutorial does it: a gradient, an optimizer, and Keras' list of callbacks."""
    steps = len(x) // batch_size
    history = keras.callbacks.History()
    hooks = keras.callbacks.CallbackList(
        [*callbacks, history], model=model, epochs=epochs, steps=steps, verbose=0
    )
    model.optimizer.build(model.trainable_variables)
    train = TRAIN[keras.backend.backend()](model, keras.losses.MeanSquaredError())
    hooks.on_train_begin()
    for epoch in range(epochs):
        hooks.on_epoch_begin(epoch)
        for step in range(steps):
            hooks.on_train_batch_begin(step)
            rows = slice(step * batch_size, (step + 1) * batch_size)
            logs = {"loss": float(train(x[rows], y[rows]))}
            hooks.on_train_batch_end(step, logs)
        hooks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    hooks.on_train_end()
    return history.history


def test_a_hand_written_loop(tmp_path):
    model, x, y = seeded(small)
    plain = loop(model, x, y, []), digest.digest(model)
    model, x, y = seeded(small)
    check = check_of(x, y, log_dir=tmp_path)
    logged = loop(model, x, y, [check])
    assert all(difference < 1e-6 for difference in logged.pop("gradcheck_relative_difference"))
    assert logged.pop("gradcheck_failures") == [0, 0]
    assert (logged, digest.digest(model)) == plain
    assert [r.step for r in check.reports] == [0, 1, 2, 3, 4]
    assert {r.verdict for r in check.reports} == {PASS}
    assert stored(tmp_path) == plotted(tmp_path) == [0, 1, 2, 3, 4]


def test_batches_alone():
    """A loop that knows no epochs."""
    model, x, y = small()
    check = check_of(x, y)
    hooks = keras.callbacks.CallbackList([check], model=model)
    hooks.on_train_begin()
    for step in range(2):
        hooks.on_train_batch_begin(step)
        model.train_on_batch(x[:32], y[:32])
        hooks.on_train_batch_end(step)
    hooks.on_train_end()
    assert [r.step for r in check.reports] == [0, 1]
    assert {r.verdict for r in check.reports} == {PASS}


def test_a_loss_that_only_the_loop_knows():
    """The model is not compiled; its loss is handed over as a function."""

    def loss_fn(model, x, y, sample_weight, training):
        return keras.ops.mean(keras.ops.log(keras.ops.cosh(y - model(x, training=training))))

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
    )
    _, x, y = small()
    before = [w.numpy() for w in model.weights]
    report = gradhooks.check_gradients(model, x, y, loss_fn=loss_fn, samples=4)
    assert report.verdict is PASS
    assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, model.weights, strict=True))
    check = check_of(x, y, loss_fn=loss_fn)
    hooks = keras.callbacks.CallbackList([check], model=model)
    hooks.on_train_begin()
    hooks.on_train_batch_begin(0)
    hooks.on_train_end()
    assert [r.verdict for r in check.reports] == [PASS]


def test_a_plain_test_function():
    """What somebody writes into a test suite of their own."""
    model, x, y = small()
    gradhooks.check_gradients(model, x, y, samples=8).raise_on_failure()
