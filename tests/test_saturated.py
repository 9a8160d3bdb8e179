"""Units that are saturated on both sides have a gradient of zero, and that is the right one.

Behind a staircase it is zero, too, and blocks what lies below. Both change the loss in
levels when weights move far.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = np.ones((32, 1), "float32")


def make_gate(steepness):
    return lambda x: ops.sigmoid(steepness * (x - 0.5))


SATURATING = {
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_tanh": ops.hard_tanh,
    "relu6": ops.relu6,
    "steep gate": make_gate(1e4),
}
STAIRCASES = {
    "round": ops.round,
    "sign": ops.sign,
    "gate": lambda x: ops.where(x > 0, 1.0, 0.0),
    "argmax": lambda x: ops.one_hot(ops.argmax(x, axis=-1), 8),
}


def model_of(activation, scale, is_deep=False):
    """A network whose weights, but for those of the head, are of a size."""
    keras.utils.set_random_seed(0)
    parts = [keras.Input((4,)), layers.Dense(8), layers.Activation(activation, name="unit")]
    if is_deep:
        parts += [layers.Dense(8), layers.Activation(activation, name="upper")]
    model = keras.Sequential([*parts, layers.Dense(1, name="head")], name="net")
    rng = np.random.default_rng(1)
    for layer in model.layers[:-1]:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * scale, rng.normal(size=bias.shape) * scale])
    model.compile("sgd", "mse")
    return model


slow = pytest.mark.slow_cases


def list_scales():
    """Every function with weights of every size at which float64 still shows its slope."""
    for name in SATURATING:
        for scale in [1e2, 1e4, 1e6, 1e15, 1e30]:
            if name != "steep gate" or scale <= 1e6:
                yield pytest.param(name, scale, marks=[] if scale == 1e6 else [slow])


@pytest.mark.parametrize(("name", "scale"), list(list_scales()))
def test_large_weights_are_no_staircase(name, scale):
    report = gradhooks.check_gradients(model_of(SATURATING[name], scale), X, Y, samples=8)
    assert report.verdict is not Verdict.FAIL, report


@pytest.mark.parametrize("name", SATURATING)
def test_nor_are_raw_features(name):
    """As incomes, which nobody has scaled."""
    report = gradhooks.check_gradients(model_of(SATURATING[name], 1.0), X * 5e4, Y, samples=8)
    assert report.verdict is not Verdict.FAIL, report


@pytest.mark.parametrize("name", [name for name in SATURATING if name != "steep gate"])
def test_nor_is_one_saturated_layer_above_another(name):
    model = model_of(SATURATING[name], 1e3, is_deep=True)
    report = gradhooks.check_gradients(model, X, Y, samples=8)
    assert report.verdict is not Verdict.FAIL, report


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("name", STAIRCASES)
def test_a_staircase_blocks(name, scale):
    report = gradhooks.check_gradients(model_of(STAIRCASES[name], scale), X * 4, Y, samples=8)
    assert report.verdict is Verdict.FAIL, report
    assert report.reason is Reason.BLOCKED
    assert report.culprit.path == "unit"


@pytest.mark.slow_cases
@pytest.mark.parametrize("rate", [1e5, 1e20, 1e30])
@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid", "gelu", "softplus"])
def test_training_that_diverges_is_not_accused(name, rate):
    """Its loss may well be infinite in float32 and finite in float64, which is said."""
    model = model_of(name, 1.0, is_deep=True)
    model.compile(keras.optimizers.SGD(rate), "mse")
    check = gradhooks.GradientCheck(X, Y, freq=1, samples=8, on_failure="ignore")
    model.fit(X, Y, epochs=2, batch_size=16, verbose=0, callbacks=[check])
    for report in check.reports:
        assert report.reason not in (Reason.ERROR, Reason.BLOCKED, Reason.MISMATCH), report
