"""The layer whose backward pass raises is named, and never one that only has its name."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = np.ones((16, 4), "float32")


@tf.custom_gradient
def raise_backwards(x):
    def differentiate(upstream):
        raise RuntimeError("no way back")

    return tf.identity(x), differentiate


@tf.custom_gradient
def return_one_of_two(x, factor):
    """A gradient for one of two inputs."""
    return x * factor, lambda upstream: upstream * factor


@tf.custom_gradient
def raise_when_run(x):
    """Raises when the backward pass runs, not when it is traced."""

    def refuse(upstream):
        raise RuntimeError("no way back")

    def differentiate(upstream):
        gradient = tf.py_function(refuse, [upstream], upstream.dtype)
        gradient.set_shape(upstream.shape)
        return gradient

    return tf.identity(x), differentiate


class Maybe(layers.Layer):
    """The identity, whose backward pass raises if asked."""

    def __init__(self, is_bad, function=raise_backwards, **kwargs):
        super().__init__(**kwargs)
        self.function = function if is_bad else tf.identity

    def call(self, x):
        return self.function(x)


class Scale(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return return_one_of_two(x, self.factor)


def renumbered(bad):
    """A layer `m`, whose operations may be called `m_1`, and two with these names."""
    parts = [layers.Input((4,)), layers.Dense(4)]
    parts += [Maybe(bad == k, name=name) for k, name in enumerate(["m", "m_1", "m_1_1"])]
    return keras.Sequential(parts, name="net")


def nested(bad):
    """Layers of one name in two parents."""

    def parent(name, is_bad):
        return keras.Sequential(
            [layers.Input((4,)), layers.Dense(4, name="dense"), Maybe(is_bad, name="m")], name=name
        )

    return keras.Sequential(
        [layers.Input((4,)), parent("encoder", bad == 0), parent("decoder", bad == 1)], name="net"
    )


def branches(bad):
    x = keras.Input((4,))
    left = Maybe(bad == 0, name="left")(layers.Dense(4, name="first")(x))
    right = Maybe(bad == 1, name="right")(layers.Dense(4, name="second")(x))
    return keras.Model(x, layers.Add()([left, right]), name="net")


def at_run_time(bad):
    parts = [layers.Input((4,)), layers.Dense(4, name="dense")]
    parts += [Maybe(bad == k, raise_when_run, name=f"m_{k}") for k in range(3)]
    return keras.Sequential(parts, name="net")


def in_loops(bad):
    """A layer that is called in the step of a recurrent cell."""

    class Cell(layers.SimpleRNNCell):
        def __init__(self, is_bad, **kwargs):
            super().__init__(4, **kwargs)
            self.inner = Maybe(is_bad, name="inner")

        def call(self, x, states, training=False):
            output, states = super().call(x, states, training)
            return self.inner(output), states

    x = keras.Input((4,))
    rows = layers.Reshape((2, 2))(x)
    left = layers.RNN(Cell(bad == 0, name="cell"), name="left")(rows)
    right = layers.RNN(Cell(bad == 1, name="cell"), name="right")(rows)
    return keras.Model(x, layers.Add()([left, right]), name="net")


PLACES = {
    "renumbered": (renumbered, ["net/m", "net/m_1", "net/m_1_1"]),
    "nested": (nested, ["encoder/m", "decoder/m"]),
    "branches": (branches, ["left", "right"]),
    "when it runs": (at_run_time, ["net/m_0", "net/m_1", "net/m_2"]),
    "loops": (in_loops, ["left/cell/inner", "right/cell/inner"]),
}
CASES = [
    pytest.param(build, bad, path, id=f"{name}-{path}")
    for name, (build, paths) in PLACES.items()
    for bad, path in enumerate(paths)
]


def check(model, y=Y, **options):
    if not model.compiled:
        model.compile("sgd", "mse")
    return gradhooks.check_gradients(model, X, y, samples=4, train_step=False, **options)


@pytest.mark.parametrize(("build", "bad", "path"), CASES)
def test_the_layer_that_raises_is_named(build, bad, path):
    report = check(build(bad))
    assert report.reason is gradhooks.Reason.GRADIENT_FAILS, report
    assert (report.culprit.kind, report.culprit.path) == ("layer", path), report
    assert "test_raising.py" in report.culprit.source
    assert "gradhooks_call" not in str(report)


@pytest.mark.parametrize("build", [build for build, _ in PLACES.values()])
def test_with_nothing_bad_it_passes(build):
    assert check(build(None)).verdict is gradhooks.Verdict.PASS


@pytest.mark.parametrize("is_first", [True, False])
def test_the_layers_whose_outputs_an_operation_takes_are_not_named(is_first):
    around = [layers.Dense(4, name="first"), layers.Dense(4, name="last")]
    parts = [Scale(name="scale"), *around] if is_first else [around[0], Scale(name="scale")]
    report = check(keras.Sequential([layers.Input((4,)), *parts], name="net"))
    assert report.reason is gradhooks.Reason.GRADIENT_FAILS, report
    assert report.culprit.path == "net/scale"
    assert "test_raising.py" in report.culprit.source
    assert "gradhooks_call" not in str(report)


class Between(keras.Model):
    """The fault stands in the model's own `call`, between two layers of one name."""

    def __init__(self):
        super().__init__(name="net")
        self.before, self.after = layers.Dense(4, name="dense"), layers.Dense(4, name="dense")

    def call(self, x):
        return self.after(raise_backwards(self.before(x)))


def test_code_between_layers_is_the_models():
    model = Between()
    model(X)
    report = check(model)
    assert report.reason is gradhooks.Reason.GRADIENT_FAILS, report
    assert report.culprit.path == "net"


def raising_loss(y_true, y_pred):
    return ops.mean(ops.square(raise_backwards(y_pred) - y_true))


def test_a_loss_that_raises_is_named():
    model = nested(None)
    model.compile("sgd", raising_loss)
    report = check(model)
    assert report.reason is gradhooks.Reason.GRADIENT_FAILS, report
    assert report.culprit.kind == "loss"
    assert "raising_loss" in report.culprit.path
