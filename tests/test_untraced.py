"""Where the optimizer gradient agrees with the measured one, nothing fails, whatever the trace."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.checking import run
from gradhooks.checking.settings import Settings
from gradhooks.model.train_step import Recording
from tests import models
from tests.fakes import FunctionOracle

SHAPES = ((3, 4), (4,), (6,))
SIZES = [math.prod(s) for s in SHAPES]
POINT = np.random.default_rng(0).normal(size=sum(SIZES))
PARTS = {f"v{k}": slice(sum(SIZES[:k]), sum(SIZES[: k + 1])) for k in range(3)}


def loss(point):
    return float(np.sum(np.sin(point)) + 0.1 * np.sum(point) ** 2)


def gradient(point):
    return np.cos(point) + 0.2 * np.sum(point)


def scaled(factors):
    """The gradient with some variables' parts multiplied."""

    def wrong(point):
        found = gradient(point)
        for path, factor in factors.items():
            found[PARTS[path]] *= factor
        return found

    return wrong


class Recorded(FunctionOracle):
    """An oracle whose train step hands on a gradient of its own, in float32."""

    training_dtype, batch_size = "float32", 16

    def __init__(self, traced, trained, bypassed=()):
        super().__init__(loss, scaled(traced), POINT, SHAPES)
        self._trained, self.bypassed = scaled(trained), bypassed

    def record(self, point=None):
        found = self._trained(self.point() if point is None else point).astype("float32")
        received = np.array([found[part].any() for part in PARTS.values()])
        return Recording(found, received, applications=1, optimizers=1)


# (factors in the trace, factors in training) -> variables that fail; None: no variable, and a
# note says why
CASES = {
    "nothing is wrong": ({}, {}, set()),
    "the trace loses a variable": ({"v1": 0.0}, {}, None),
    "the trace loses two": ({"v0": 0.0, "v2": 0.0}, {}, None),
    "the trace doubles one": ({"v1": 2.0}, {}, None),
    "the trace reverses one": ({"v2": -1.0}, {}, None),
    "both lose it": ({"v1": 0.0}, {"v1": 0.0}, {"v1"}),
    "both double it": ({"v1": 2.0}, {"v1": 2.0}, {"v1"}),
    "both are off by less than float32 can tell": ({"v1": 1 + 1e-5}, {"v1": 1 + 1e-5}, {"v1"}),
    "the trace is off by less than float32 can tell": ({"v1": 1 + 1e-5}, {}, {"v1"}),
    "both are wrong, and not alike": ({"v1": 2.0}, {"v1": 3.0}, {"v1"}),
    "only training is wrong": ({}, {"v1": 2.0}, {"v1"}),
    "only training loses it": ({}, {"v1": 0.0}, {"v1"}),
    "the trace loses one and both double another": ({"v0": 0.0, "v1": 2.0}, {"v1": 2.0}, {"v1"}),
    "the trace loses one and training another": ({"v0": 0.0}, {"v1": 0.5}, {"v1"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_which_variables_fail(name, seed):
    traced, trained, failing = CASES[name]
    report = run.check(Recorded(traced, trained), Settings(samples=16, seed=seed))
    named = {c.path for c in report.failures} - {"*"}
    assert named == (failing or set())
    assert (report.verdict is Verdict.FAIL) == bool(failing)
    assert {d.path for d in report.diagnoses} == named
    excused = {c.path for c in report.comparisons if c.reason is Reason.UNTRACED and c.path != "*"}
    assert excused == set(traced) - (failing or set())
    assert any("could not follow" in note for note in report.notes) == bool(excused)


def test_what_was_compiled_before_the_check_is_not_judged():
    report = run.check(Recorded({"v1": 0.0}, {}, bypassed=(1,)), Settings(samples=16))
    assert report.verdict is Verdict.PASS
    assert any(
        note.startswith("v1: read by code that was compiled before") for note in report.notes
    )


class Compiled(layers.Layer):
    """Keeps a concrete function, in which the weight itself is bound."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 2), name="w")
        function = tf.function(lambda x: tf.matmul(x, tf.convert_to_tensor(self.w)))
        self.function = function.get_concrete_function(tf.TensorSpec([None, shape[-1]], tf.float32))

    def call(self, x):
        return self.function(x)


@pytest.mark.parametrize("precision", ["auto", "model"])
def test_a_concrete_function_does_not_fail_and_trains_on(precision):
    def trained(callbacks):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [layers.Input((3,)), layers.Dense(3, name="below"), Compiled(name="compiled")]
        )
        model.compile("sgd", "mse")
        x, y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype("float32")
        model.fit(x, y[:, :2], epochs=2, batch_size=16, verbose=0, callbacks=callbacks(x, y[:, :2]))
        return [v.numpy().tobytes() for v in model.weights]

    checks = []

    def check(x, y):
        checks.append(gradhooks.GradientCheck(x, y, freq=1, precision=precision))
        return checks

    assert trained(check) == trained(lambda x, y: [])
    assert {r.verdict for r in checks[0].reports} == {Verdict.PASS}
    assert all(
        any("compiled/w: read by code" in note for note in r.notes) for r in checks[0].reports
    )


def test_a_mutant_below_a_concrete_function_is_still_caught():
    @tf.custom_gradient
    def doubled(x):
        return tf.identity(x), lambda g: 2 * g

    class Doubled(layers.Layer):
        def call(self, x):
            return doubled(x)

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Input((3,)), layers.Dense(3, name="below"), Doubled(), Compiled(name="compiled")]
    )
    x, y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype("float32")
    report = gradhooks.check_gradients(models.compiled(model), x, y[:, :2])
    assert report.verdict is Verdict.FAIL
    assert {c.path.split("/")[1] for c in report.failures if c.path != "*"} == {"below"}


# What a loss does wrong that has the value of the compiled one: value, backward pass.
OF_SAME_VALUE = {
    "half of the gradient": lambda value: tf.custom_gradient(lambda v: (v + 0, lambda g: g / 2))(
        value
    ),
    "nothing": tf.stop_gradient,
    "NaN": lambda value: value + tf.sqrt(0.0 * value),
    "another gradient": lambda value: value + 0.5 * (value**2 - tf.stop_gradient(value**2)),
}


@pytest.mark.parametrize("name", OF_SAME_VALUE)
@pytest.mark.parametrize("is_wrong", [True, False])
def test_what_training_does_excuses_no_loss_that_was_given(name, is_wrong):
    """Training differentiates the compiled loss rightly, which has the same value."""

    def given(model, x, y, sample_weight, training):
        value = keras.ops.mean((model(x, training=training) - y) ** 2)
        return OF_SAME_VALUE[name](value) if is_wrong else value

    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((3,)), layers.Dense(3, "tanh"), layers.Dense(1)])
    x, y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype("float32")
    report = gradhooks.check_gradients(
        models.compiled(model), x, y[:, :1], samples=4, loss_fn=given
    )
    assert (report.verdict is Verdict.FAIL) == is_wrong, report
    assert Reason.UNTRACED not in {c.reason for c in report.comparisons}
