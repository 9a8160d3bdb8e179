"""Models whose code asks tensors for numbers, so they run eagerly: reports name the line."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from tests import models


class Layer(layers.Layer):
    def compute_output_shape(self, shape):
        return shape


class LeavesByNumpy(Layer):
    def call(self, x):
        return ops.convert_to_tensor(np.tanh(x.numpy()))


class LeavesByAFunctionOfNumpy(Layer):
    def call(self, x):
        return tf.constant(np.tanh(x), x.dtype)


class LeavesByKeras(Layer):
    def call(self, x):
        return ops.convert_to_tensor(ops.convert_to_numpy(x) ** 2)


class ScalesByANumber(Layer):
    def call(self, x):
        return x * float(tf.reduce_mean(tf.abs(x)))


class CountsByANumber(Layer):
    def call(self, x):
        return x * int(tf.reduce_sum(tf.cast(x > 0, tf.int32)))


class Decides(Layer):
    def call(self, x):
        return x if tf.reduce_sum(x) > 0 else 2 * x


class Loops(Layer):
    def call(self, x):
        return tf.stack([row * 2 for row in x])


def outside(x):
    """A function that the layer calls."""
    return np.sign(x.numpy()) * x


class CallsOutside(Layer):
    def call(self, x):
        return outside(x)


def built(layer, **options):
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((10,)),
        layers.Dense(4, name="below"),
        layer,
        layers.Dense(1, name="head"),
    ]
    return models.compiled(keras.Sequential(stack), **options)


# What the sentence says, and whether a gradient reaches what is below.
EXPECTED = {
    LeavesByNumpy: ("leaves TensorFlow (.numpy()): no gradient comes back from there", False),
    LeavesByAFunctionOfNumpy: ("leaves TensorFlow (numpy)", False),
    LeavesByKeras: ("leaves TensorFlow (numpy)", False),
    ScalesByANumber: ("leaves TensorFlow (float())", True),
    CountsByANumber: ("leaves TensorFlow (int())", True),
    Decides: ("decides by the numbers of a tensor", True),
    Loops: ("decides by the numbers of a tensor", True),
    CallsOutside: ("leaves TensorFlow (.numpy())", True),
}


def place(kind):
    """The line on which the layer, or the function that it calls, asks for numbers."""
    code = outside if kind is CallsOutside else kind.call
    lines, first = inspect.getsourcelines(code)
    name = "outside" if kind is CallsOutside else f"{kind.__name__}.call"
    return f"line {first + len(lines) - 1} of test_eager_code.py ({name})"


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_the_line_and_what_it_costs_are_named(kind):
    words, does_reach = EXPECTED[kind]
    model, (x, y) = built(kind(), run_eagerly=True), models.data((10,), (1,), 0)
    report = gradhooks.check_gradients(model, x, y)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.ERROR)
    assert f"run_eagerly: {place(kind)} {words}" in report.error
    if does_reach:
        assert "in training every variable receives a gradient" in report.error
    else:
        assert "below/kernel, " in report.error
        assert "below/bias receive none" in report.error
        assert "head" not in report.error
    # As in training.
    before = model.get_layer("below").kernel.numpy()
    model.fit(x, y, verbose=0)
    assert np.any(model.get_layer("below").kernel.numpy() != before) == does_reach


def test_the_callback_tells_it_and_training_goes_on():
    model, (x, y) = built(LeavesByNumpy(), run_eagerly=True), models.data((10,), (1,), 0)
    check = gradhooks.GradientCheck(x, y)
    with pytest.warns(gradhooks.GradientCheckWarning, match="leaves TensorFlow"):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[check])
    assert [r.verdict for r in check.reports] == [Verdict.INCONCLUSIVE] * 3


def test_eager_code_that_stays_inside_is_checked():
    class Prints(Layer):
        def call(self, x):
            if tf.executing_eagerly():
                assert np.isfinite(x.numpy()).all()
            return ops.tanh(x)

    model, (x, y) = built(Prints(), run_eagerly=True), models.data((10,), (1,), 0)
    report = gradhooks.check_gradients(model, x, y)
    assert (report.verdict, report.error) == (Verdict.PASS, "")


def test_other_errors_stay_what_they_are():
    class Raises(Layer):
        def call(self, x):
            if not tf.executing_eagerly():
                raise ValueError("numpy is not what this is about")
            return x

    model, (x, y) = built(Raises(), run_eagerly=True), models.data((10,), (1,), 0)
    assert gradhooks.check_gradients(model, x, y).error.startswith("ValueError: numpy is not")
