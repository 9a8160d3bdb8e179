"""Bad input raises before training starts, in four parts: rule, Received, Expected, what to try."""

import dataclasses
import inspect
import pathlib
from typing import get_args

import keras
import numpy as np
import pytest
from keras import layers

import gradhooks
from gradhooks import _types, validation
from gradhooks.testing import assert_gradients
from gradhooks.verdicts import declared
from tests import models

pytestmark = pytest.mark.lowest

X, Y = models.data((10,), (1,), 0)
BAD_ARGUMENTS = [
    ("freq", "sometimes"),
    ("freq", 0),
    ("freq", True),
    ("freq", 2.5),
    ("on_failure", "explode"),
    ("on_failure", None),
    ("samples", 0),
    ("samples", True),
    ("samples", 3.0),
    ("threshold", -1e-6),
    ("threshold", 0),
    ("threshold", True),
    ("threshold", float("nan")),
    ("batch_size", 0),
    ("batch_size", True),
    ("seed", -1),
    ("seed", True),
    ("precision", "float16"),
    ("at_start", 1),
    ("training", "yes"),
    ("loss_fn", "mse"),
    ("sinks", print),
    ("sinks", [3]),
    ("log_dir", 3),
    ("verbose", -1),
    ("verbose", 3),
    ("verbose", 1.0),
    ("verbose", "yes"),
    ("verbose", None),
    ("histograms", 1),
    ("train_step", None),
    ("max_overhead", 0),
    ("max_overhead", 1.0),
    ("max_overhead", True),
    ("max_overhead", "5%"),
    ("name", "a/b"),
    ("name", ""),
]


def assert_four_parts(message):
    assert "Received: " in message
    assert "Expected " in message
    assert "Try " in message


@pytest.mark.parametrize(("name", "value"), BAD_ARGUMENTS)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=name) as error:
        gradhooks.GradientCheck(X, Y, **{name: value})
    assert_four_parts(str(error.value))
    assert f"{name}={value!r}" in str(error.value)


ONLY_OF_THE_CALLBACK = {
    "freq",
    "on_failure",
    "at_start",
    "sinks",
    "log_dir",
    "verbose",
    "name",
    "histograms",
    "max_overhead",
}


@pytest.mark.parametrize(
    ("name", "value"), [b for b in BAD_ARGUMENTS if b[0] not in ONLY_OF_THE_CALLBACK]
)
def test_bad_arguments_of_the_function(name, value):
    model, x, y = models.mlp()
    with pytest.raises(ValueError, match=name) as error:
        gradhooks.check_gradients(model, x, y, **{name: value})
    assert_four_parts(str(error.value))


def defaults_of(function):
    """Returns {name: default} of the arguments that have one."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def test_defaults_are_those_of_the_options():
    options = dataclasses.asdict(validation.Options())
    of_callback = dataclasses.asdict(validation.CallbackOptions())
    data = dict.fromkeys(("y", "sample_weight", "class_weight"))
    own = {"step": 0, "name": "gradcheck"}
    assert defaults_of(gradhooks.check_gradients) == options | data | own
    assert defaults_of(gradhooks.GradientCheck) == of_callback | data
    # A layer has no training step and is small, and tests sample more.
    del options["train_step"], options["max_memory"], options["save_failures"]
    del data["class_weight"]
    own = {"samples": 64, "call": None, "inputs": True}
    assert defaults_of(assert_gradients) == options | data | own


def test_the_words_that_arguments_take_are_those_of_the_types():
    assert get_args(_types.MismatchKind) == declared.KINDS
    for word in get_args(_types.PrecisionName):
        assert validation.Options(precision=word).precision == word
    for word in get_args(_types.OnFailure):
        assert validation.CallbackOptions(on_failure=word).on_failure == word


def test_options_are_normalized():
    options = validation.CallbackOptions(
        samples=np.int64(3),
        threshold=1,
        sinks=[print],
        log_dir=pathlib.Path("logs"),
        expect={"w": "blocked"},
    )
    assert type(options.samples) is int
    assert type(options.threshold) is float
    assert options.sinks == (print,)
    assert options.log_dir == "logs"
    assert options.declared == (("w", "blocked"),)
    assert dataclasses.replace(options, seed=1).declared == options.declared


@pytest.mark.parametrize(
    ("name", "value"),
    [b for b in BAD_ARGUMENTS if b[0] not in {*ONLY_OF_THE_CALLBACK, "train_step"}],
)
def test_bad_arguments_of_the_assertion(name, value):
    with pytest.raises(ValueError, match=name) as error:
        assert_gradients(layers.Dense(1), X, **{name: value})
    assert_four_parts(str(error.value))


def uncompiled():
    return keras.Sequential([layers.Input((10,)), layers.Dense(1)])


def nothing_trainable():
    model = uncompiled()
    model.trainable = False
    return models.compiled(model)


def vector_loss():
    return models.compiled(uncompiled(), keras.losses.MeanSquaredError(reduction="none"))


def not_finite():
    model = models.compiled(uncompiled())
    model.layers[0].kernel.assign(np.full((10, 1), np.inf))
    return model


def with_nan(array):
    array = array.copy()
    array[3] = np.nan
    return array


BAD_USE = {
    "no y": (lambda: models.compiled(uncompiled()), X, None, "targets"),
    "empty batch": (lambda: models.compiled(uncompiled()), X[:0], Y[:0], "at least one"),
    "NaN in x": (lambda: models.compiled(uncompiled()), with_nan(X), Y, "finite"),
    "NaN in y": (lambda: models.compiled(uncompiled()), X, with_nan(Y), "finite"),
    "no x": (lambda: models.compiled(uncompiled()), None, None, "needs a batch"),
    "empty generator": (
        lambda: models.compiled(uncompiled()),
        (b for b in ()),
        None,
        "at least one batch",
    ),
    "nothing trainable": (nothing_trainable, X, Y, "trainable"),
    "loss is a vector": (vector_loss, X, Y, "scalar"),
    "loss is infinite": (not_finite, X, Y, "finite"),
}


@pytest.mark.parametrize("case", BAD_USE)
def test_bad_use_stops_before_training(case):
    build, x, y, words = BAD_USE[case]
    x = iter(()) if case == "empty generator" else x
    x = (b for b in ()) if case == "empty generator" else x
    model = build()
    before = [v.numpy() for v in model.variables]
    with pytest.raises(ValueError, match=words) as error:
        model.fit(X, Y, verbose=0, callbacks=[gradhooks.GradientCheck(x, y)])
    assert_four_parts(str(error.value))
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize("case", BAD_USE)
def test_bad_use_of_the_function(case):
    build, x, y, words = BAD_USE[case]
    x = (b for b in ()) if case == "empty generator" else x
    with pytest.raises(ValueError, match=words) as error:
        gradhooks.check_gradients(build(), x, y)
    assert_four_parts(str(error.value))


def test_a_model_that_is_not_compiled():
    with pytest.raises(ValueError, match="compile") as error:
        gradhooks.check_gradients(uncompiled(), X, Y)
    assert_four_parts(str(error.value))


def test_a_model_that_is_not_built():
    model = models.compiled(keras.Sequential([layers.Dense(1)]))
    with pytest.raises(ValueError, match="built") as error:
        gradhooks.check_gradients(model, X, Y)
    assert_four_parts(str(error.value))


def test_a_backend_that_is_not_supported(monkeypatch):
    model, x, y = models.mlp()
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match="backend") as error:
        gradhooks.check_gradients(model, x, y)
    assert_four_parts(str(error.value))
    with pytest.raises(ValueError, match="backend='numpy'"):
        gradhooks.GradientCheck(x, y)
