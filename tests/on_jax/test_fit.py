"""`fit` with the callback: the same training, and nothing left in JAX's settings or caches."""

import importlib
import subprocess
import sys

import jax
import keras
import numpy as np
import pytest
from keras import layers
from keras.callbacks import CallbackList

import gradhooks

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 32)
# `keras.src.backend.common.dtypes`, of which a check changes a table for its thread.
dtypes = importlib.import_module("keras.src.backend.common.dtypes")


def build(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="tanh", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], **options)
    return model


def state_of(model):
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(variable) for variable in variables]


@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, {"jit_compile": False}, {"steps_per_execution": 2}],
    ids=["jit", "eager", "without jit", "two steps at once"],
)
def test_training_is_bit_for_bit_the_same(options):
    results = []
    for checks in ([], [gradhooks.GradientCheck(X[:8], Y[:8], samples=4, freq=3)]):
        model = build(**options)
        history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=checks)
        results.append((state_of(model), history.history["loss"], history.history["accuracy"]))
    (plain, *curves), (checked, *checked_curves) = results
    assert all(np.array_equal(a, b) for a, b in zip(plain, checked, strict=True))
    assert curves == checked_curves
    assert all(report.verdict is gradhooks.Verdict.PASS for report in checks[0].reports)


class Raising(layers.Layer):
    """Raises where 64 bits exist."""

    def call(self, x):
        if jax.config.jax_enable_x64:
            raise RuntimeError("no 64 bits here")
        return x


@pytest.mark.parametrize("raises", [False, True])
def test_settings_are_as_before(raises):
    before = jax.config.jax_enable_x64, dict(dtypes.BIT64_TO_BIT32_DTYPE), keras.config.floatx()
    table = dtypes.BIT64_TO_BIT32_DTYPE
    model = build()
    if raises:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(3), Raising()])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    report = gradhooks.check_gradients(model, X[:8], Y[:8], samples=2, precision="float64")
    assert bool(report.error) == raises
    assert dtypes.BIT64_TO_BIT32_DTYPE is table
    after = jax.config.jax_enable_x64, dict(dtypes.BIT64_TO_BIT32_DTYPE), keras.config.floatx()
    assert after == before


def test_a_function_of_the_users_keeps_its_trace():
    traces = []

    @jax.jit
    def function(x):
        traces.append(str(x.dtype))
        return jax.numpy.tanh(x)

    model = keras.Sequential([keras.Input((6,)), layers.Lambda(function), layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.predict(X[:8], verbose=0)
    function(X[:8])
    gradhooks.check_gradients(model, X[:8], Y[:8], samples=2)
    assert "float64" in traces
    count = len(traces)
    function(X[:8])
    model.predict(X[:8], verbose=0)
    assert len(traces) == count, "training would compile its functions again"


def test_dispatch_stays_asynchronous():
    check = gradhooks.GradientCheck(X[:8], Y[:8])
    assert CallbackList([check], model=build())._async_train


def test_no_state_is_asked_for_when_no_check_is_due():
    model = build()
    synced, sync = [], model.jax_state_sync

    def sync_and_note():
        if not model._jax_state_synced:
            synced.append(1)
        sync()

    model.jax_state_sync = sync_and_note
    check = gradhooks.GradientCheck(X[:8], Y[:8], samples=2, freq="epoch")
    model.fit(X, Y, batch_size=4, epochs=1, verbose=0, callbacks=[check])
    # For the check at the end of the epoch, and not for the eight batches.
    assert len(synced) <= 2


def test_tensorflow_is_not_imported():
    code = (
        "import sys, numpy as np, keras, gradhooks\n"
        "model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\n"
        "x = np.ones((4, 3), 'float32')\n"
        "print(gradhooks.check_gradients(model, x, x[:, :1], samples=2).verdict.name)\n"
        "print('tensorflow' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["PASS", "False"], result.stderr
