"""The line that a report ends with measures the same numbers again, whatever was asked for."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from gradhooks import Verdict
from gradhooks.reports.actions import reproduction
from gradhooks.testing import assert_gradients
from tests import needs

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = np.ones((48, 2), "float32")
W = np.linspace(0.5, 2.0, 48)


@ops.custom_gradient
def tanh(x):
    return ops.tanh(x), lambda upstream: upstream * (1 - ops.tanh(x) ** 2) * 1.5


class Planted(layers.Layer):
    def call(self, x):
        return tanh(x)


def cubed(model, x, y, sample_weight, training):
    return ops.mean(ops.abs(model(x, training=training) - y) ** 3)


def build():
    keras.utils.set_random_seed(3)
    parts = [keras.Input((4,)), layers.Dense(6), Planted(name="planted"), layers.Dropout(0.3)]
    model = keras.Sequential([*parts, layers.Dense(2)], name="net")
    model.compile("sgd", "mse")
    return model


ASKED = {
    "defaults": {},
    "numbers": {"samples": 5, "seed": 7, "batch_size": 8, "threshold": 1e-5},
    "another loss": {"loss_fn": cubed},
    "not in training": {"training": False, "train_step": False},
    "native": {"precision": "model"},
    "declared": {"expect": {"net/dense*/kernel": "mismatch"}},
    "bounded": {"max_memory": 1 << 28},
    "weights": {"sample_weight": W},
    "classes": {"class_weight": {0: 1.0, 1: 3.0}},
}


def repeat(report, **names):
    """What the line of a report returns."""
    names = {"gradhooks": gradhooks, "cubed": cubed, "x": X, "y": Y, **names}
    return eval(reproduction(report), names)


def numbers_of(report):
    return [(c.path, c.index, getattr(c, "numeric", c.gap)) for c in report.comparisons]


@pytest.mark.parametrize("options", ASKED.values(), ids=ASKED)
def test_the_line_of_a_check_measures_the_same(options):
    y = Y if "class_weight" not in options else (np.arange(48) % 2)
    model = build()
    if "class_weight" in options:
        model.compile("sgd", "sparse_categorical_crossentropy")
    report = gradhooks.check_gradients(model, X, y, **options)
    assert report.verdict is Verdict.FAIL
    again = repeat(report, model=model, **{"y": y, **options})
    assert numbers_of(again) == numbers_of(report)
    assert again.arguments == report.arguments


def test_the_line_of_a_callback_does():
    model = build()
    check = gradhooks.GradientCheck(
        X, Y, at_start=False, on_failure="ignore", train_step=False, batch_size=16
    )
    model.fit(X, Y, verbose=0, callbacks=[check])
    (report,) = check.reports
    assert numbers_of(repeat(report, model=model)) == numbers_of(report)


@needs.tensorflow("tf.data")
def test_a_data_set_has_its_targets_itself():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    model = build()
    report = gradhooks.check_gradients(model, data)
    assert "check_gradients(model, x, samples" in reproduction(report)
    assert numbers_of(repeat(report, model=model, x=data)) == numbers_of(report)


def called(layer, x, training):
    return layer(x) * 2.0


@pytest.mark.parametrize(
    "options", [{}, {"samples": 3, "batch_size": 8, "seed": 2}, {"call": called}, {"inputs": False}]
)
def test_the_line_of_a_layers_test_is_a_test(options):
    layer = Planted(name="planted") if options.get("inputs", True) else Wrong(2, name="planted")
    with pytest.raises(AssertionError) as error:
        assert_gradients(layer, X, **options)
    (line,) = [
        line
        for line in str(error.value).replace("\n  ", " ").splitlines()
        if line.startswith("Reproduce with the same weights and inputs: ")
    ]
    code = line.partition(": ")[2]
    assert code.startswith("gradhooks.testing.assert_gradients(layer, x, ")
    with pytest.raises(AssertionError) as again:
        eval(code, {"gradhooks": gradhooks, "layer": layer, "x": X, "called": called})
    assert "check the layer alone" not in str(error.value)
    assert table_of(again) == table_of(error)


class Wrong(layers.Dense):
    def call(self, x):
        return tanh(super().call(x))


def table_of(error):
    return [line for line in str(error.value).splitlines() if line.startswith("FAIL")]
