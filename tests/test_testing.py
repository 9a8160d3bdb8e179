"""assert_gradients: every core layer of Keras passes in weights and inputs; a wrong one fails."""

import keras
import numpy as np
import pytest
from keras import layers

import gradhooks
from gradhooks.model import batch, objective, oracle
from gradhooks.testing import FunctionOracle, Oracle, assert_gradients
from tests import digest, models
from tests.corpora.controls import core_layers
from tests.dice import Moody
from tests.test_check import TooLarge, WrongDense
from tests.test_package import loaded_by


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def as_called(layer, rng):
    """Returns random arguments of the shapes and dtypes with which the model calls the layer."""

    def array(tensor):
        shape = (3, *tensor.shape[1:])
        if not hasattr(layer, "input_dim"):
            return rng.normal(size=shape).astype(tensor.dtype)
        return rng.integers(0, layer.input_dim, shape)

    return keras.tree.map_structure(array, layer._inbound_nodes[0].arguments.args)


def with_all(layer, arguments, training):
    return (
        layer(*arguments, training=training) if layer._call_has_training_arg else layer(*arguments)
    )


# All of them are among the controls; here they are checked one by one, most of them in the sweep.
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=c.name, marks=[pytest.mark.sweep] if k % 4 else [])
        for k, c in enumerate(core_layers.CASES)
    ],
)
def test_every_core_layer(case):
    model, *_ = case.build(0)
    subjects = [
        layer for layer in model.layers if layer.weights and layer.name not in ("head", "below")
    ]
    assert subjects or case.name in ("merging_layers", "unit_normalization", "spectrogram")
    for layer in subjects:
        arguments = as_called(layer, np.random.default_rng(1))
        before = [w.numpy() for w in layer.weights]
        report = assert_gradients(layer, arguments, call=with_all, samples=16)
        assert report.precision.level == "float64"
        checked = {
            c.path.split("_")[0] if c.path.startswith("inputs") else c.path
            for c in report.comparisons
        }
        real = any(np.issubdtype(a.dtype, np.floating) for a in keras.tree.flatten(arguments))
        assert checked >= {v.path for v in layer.trainable_variables} | (
            {"inputs"} if real else set()
        )
        assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, layer.weights, strict=True))


def test_a_wrong_weight_is_named():
    with pytest.raises(AssertionError, match=r"wrong/kernel.*1\.001") as error:
        assert_gradients(WrongDense(3, "tanh", name="wrong"), rows(5, 4))
    assert "gradient check failed at step 0" in str(error.value)  # the whole report is there


def test_a_wrong_input_is_named():
    with pytest.raises(AssertionError, match=r"1\.001.*(?s:.*)inputs"):
        assert_gradients(TooLarge(), rows(5, 4))


def test_inputs_can_be_left_out():
    report = assert_gradients(layers.Dense(3), rows(5, 4), inputs=False)
    assert "inputs" not in {c.path for c in report.comparisons}
    with pytest.raises(ValueError, match="trainable weights"):
        assert_gradients(TooLarge(), rows(5, 4), inputs=False)


def test_an_inconclusive_check_fails_the_test():
    with pytest.raises(AssertionError, match="not_deterministic"):
        assert_gradients(Moody(), rows(5, 4))


def test_an_intended_mismatch():
    class Reversal(layers.Layer):
        def build(self, shape):
            self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

        def call(self, x):
            return TooLarge()(x) * self.gain

    report = assert_gradients(Reversal(name="reversal"), rows(5, 4), expect={"inputs": "mismatch"})
    assert {c.reason for c in report.comparisons if c.path == "inputs"} == {
        gradhooks.Reason.DECLARED
    }


class Estimated(layers.Layer):
    """Rounds, and lets the gradient through as if it did not; or rounds nothing."""

    def __init__(self, is_rounding=True):
        super().__init__(name="estimated")
        self.is_rounding = is_rounding

    def call(self, x):
        rounded = keras.ops.round(x) if self.is_rounding else x
        return x + keras.ops.stop_gradient(rounded - x)


def test_what_differs_as_declared_is_expected():
    report = assert_gradients(Estimated(), rows(5, 4), expect={"inputs": "mismatch"})
    assert report.reason is gradhooks.Reason.DECLARED


def test_what_is_declared_and_right_fails_the_test():
    with pytest.raises(AssertionError, match="undeclared_match"):
        assert_gradients(Estimated(False), rows(5, 4), expect={"inputs": "mismatch"})


def test_a_layer_that_is_wrong_is_named_and_not_what_holds_its_inputs():
    with pytest.raises(AssertionError, match=r"`too_large` .* is wrong: at its input"):
        assert_gradients(TooLarge(name="too_large"), rows(5, 4))


def test_dropout_is_checked_with_one_mask():
    assert_gradients(layers.Dropout(0.5, seed=1), rows(5, 4), samples=8)


def test_several_inputs():
    report = assert_gradients(
        layers.Attention(use_scale=True), [rows(3, 4, 2), rows(3, 5, 2, seed=1)]
    )
    assert {"inputs_0", "inputs_1"} < {c.path for c in report.comparisons}


def test_a_compiled_model_by_its_own_loss():
    model, x, y = models.noisy()
    before = digest.digest(model)
    report = assert_gradients(model, x, y)
    assert report.relative_difference["penalty"] < 1e-6
    assert any(c.term == "trained" for c in report.comparisons)
    assert digest.digest(model) == before
    with pytest.raises(AssertionError, match="below"):
        assert_gradients(*models.mlp(middle=[TooLarge()]))


def test_a_loss_function_in_place_of_the_projection():
    def loss_fn(layer, x, y, sample_weight, training):
        return keras.ops.mean(keras.ops.square(layer(x) - y))

    model = keras.Sequential([layers.Input((4,)), layers.Dense(2, name="only")])
    report = assert_gradients(model, rows(5, 4), rows(5, 2), loss_fn=loss_fn)
    assert {c.path for c in report.comparisons if c.index is not None} == {
        v.path for v in model.trainable_variables
    }


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((abs, rows(5, 4)), {}, "layer_or_model=<built-in function abs>"),
        ((layers.Dense(2), rows(5, 4), rows(5, 2)), {}, "A layer without a loss has no targets"),
        ((layers.Dense(2), rows(5, 4)), {"samples": 0}, "samples=0"),
        ((layers.Dense(2), rows(5, 4)), {"batch_size": 0}, "batch_size=0"),
        ((layers.Dense(2), rows(5, 4)), {"call": 1}, "call=1"),
        ((layers.Dense(2), rows(5, 4)), {"inputs": 1}, "inputs=1"),
        ((layers.Dense(2), rows(5, 4)), {"seed": -1}, "seed=-1"),
        ((layers.Dense(2), rows(5, 4) * np.inf), {}, "must be finite"),
        ((layers.Lambda(lambda x: keras.ops.argmax(x)), rows(5, 4)), {}, "tensors of real numbers"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        assert_gradients(*arguments, **options)


def test_the_module_is_loaded_on_first_use():
    assert "keras" in loaded_by("import gradhooks; gradhooks.testing.assert_gradients")


def test_both_oracles_are_oracles():
    model, x, y = models.mlp()
    objective_of_model = objective.Objective(model, True, None)
    assert isinstance(oracle.ModelOracle(objective_of_model, batch.take_batch(x, y)), Oracle)
    oracle_of_functions = FunctionOracle(lambda p: float(p @ p), lambda p: 2 * p, np.ones(3))
    assert isinstance(oracle_of_functions, Oracle)


def test_shapes_must_hold_the_point():
    with pytest.raises(ValueError, match=r"Received: shapes=\(\(2,\),\), 2 entries. Expected 3"):
        FunctionOracle(sum, np.ones_like, np.ones(3), shapes=[(2,)])
