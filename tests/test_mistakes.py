"""Ordinary mistakes: each is told as what it is, before it costs anything."""

import functools

import keras
import pytest
from keras import layers

import gradhooks
from gradhooks import validation
from gradhooks.model import unmatched
from gradhooks.testing import assert_gradients
from tests import frameworks, models
from tests.test_bad_input import assert_four_parts

X, Y = models.data((10,), (1,), 0)

# What may be given for a model by mistake, and the words that say so.
NO_MODELS = {
    "nothing": (lambda: None, "model=None", "must return it"),
    "a path": (lambda: "m.keras", "model='m.keras'", "load_model"),
    "a layer": (lambda: layers.Dense(1), "model='Dense'", r"assert_gradients\(layer, x\)"),
    "a class": (lambda: keras.Sequential, "Sequential", "an instance"),
    "data": (lambda: X, "model='ndarray'", "that `fit` is called on"),
}


def begin(model):
    check = gradhooks.GradientCheck(X, Y)
    check.set_model(model)
    check.on_train_begin()


@pytest.mark.parametrize("case", NO_MODELS)
@pytest.mark.parametrize("check", [begin, lambda model: gradhooks.check_gradients(model, X, Y)])
def test_what_is_no_model_is_told(case, check):
    build, received, advice = NO_MODELS[case]
    with pytest.raises(gradhooks.BadInputError, match=advice) as error:
        check(build())
    message = str(error.value)
    assert_four_parts(message)
    assert message.startswith("What is checked is a model of Keras 3. Received: ")
    assert received in message
    assert "compile" not in message


def test_a_callback_that_was_never_given_a_model_says_so():
    with pytest.raises(gradhooks.BadInputError, match="model=None"):
        gradhooks.GradientCheck(X, Y).on_train_begin()


def test_a_layer_can_be_checked_with_a_loss():
    layer = layers.Dense(2)
    layer.build(X.shape)
    report = gradhooks.check_gradients(
        layer, X, samples=4, loss_fn=lambda layer, x, y, w, training: keras.ops.mean(layer(x) ** 2)
    )
    assert report.verdict is gradhooks.Verdict.PASS


def test_a_model_of_tf_keras_is_told():
    """Keras 2 under its present name; `fit` of Keras 2 sets the model before anything else."""
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed here")
    model = tf_keras.Sequential([tf_keras.layers.Input((10,)), tf_keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(gradhooks.BadInputError, match="tf_keras is Keras 2"):
        gradhooks.check_gradients(model, X, Y)
    with pytest.raises(gradhooks.BadInputError, match="tf_keras is Keras 2"):
        model.fit(X, Y, verbose=0, callbacks=[gradhooks.GradientCheck(X, Y)])


def test_a_class_that_comes_from_tf_keras_is_told():
    kind = type("Sequential", (), {"__module__": "tf_keras.src.engine.sequential"})
    mine = type("Mine", (kind,), {})
    with pytest.raises(gradhooks.BadInputError, match=r"'Mine of tf_keras'.*TF_USE_LEGACY_KERAS"):
        gradhooks.check_gradients(mine(), X, Y)


def test_inputs_and_targets_in_a_pair():
    model, x, y = models.mlp()
    hint = r"Try passing the `y`.*`x` is a pair: if it is \(x, y\), try two arguments"
    with pytest.raises(gradhooks.BadInputError, match=hint) as error:
        model.fit(x, y, verbose=0, callbacks=[gradhooks.GradientCheck((x, y))])
    assert_four_parts(str(error.value))
    with pytest.raises(gradhooks.BadInputError, match=hint):
        gradhooks.check_gradients(model, (x, y))


def test_a_model_of_two_inputs_gets_the_usual_advice_for_three_arrays():
    model, x, _ = models.mlp()
    with pytest.raises(gradhooks.BadInputError, match="Try passing the `y`") as error:
        gradhooks.check_gradients(model, [x, x, x])
    assert "pair" not in str(error.value)


def four(model, x, y, sample_weight):
    """Has no place for `training`."""


def by_name(model, *, x, y, sample_weight, training):
    """Takes its arguments by name."""


WRONG_LOSSES = {
    "of a compiled model": (keras.losses.mean_squared_error, "too many positional"),
    "an object of Keras": (keras.losses.MeanSquaredError(), "too many positional"),
    "without training": (four, "too many positional"),
    "by name": (by_name, "too many positional"),
    "one argument more": (lambda m, x, y, w, t, more: 0.0, "missing a required argument: 'more'"),
    "a class": (type("Loss", (), {}), "too many positional"),
}


@pytest.mark.parametrize("case", WRONG_LOSSES)
def test_a_loss_function_of_another_signature_is_refused(case):
    loss_fn, why = WRONG_LOSSES[case]
    with pytest.raises(gradhooks.BadInputError, match=why) as error:
        gradhooks.GradientCheck(X, Y, loss_fn=loss_fn)
    assert_four_parts(str(error.value))
    assert "loss_fn(model, x, y, sample_weight, training)" in str(error.value)
    model, x, y = models.mlp()
    for check in (gradhooks.check_gradients, assert_gradients):
        with pytest.raises(gradhooks.BadInputError, match=why):
            check(model, x, y, loss_fn=loss_fn)


def five(model, x, y, sample_weight, training):
    return keras.ops.mean((model(x) - y) ** 2)


RIGHT_LOSSES = {
    "a function": five,
    "any arguments": lambda *given: five(*given),
    "a default more": lambda m, x, y, w=None, training=True, more=1: five(m, x, y, w, training),
    "a part of a function": functools.partial(lambda more, *given: five(*given), 1),
    "a method": type("Owner", (), {"loss": lambda self, *given: five(*given)})().loss,
    "without a signature": max,
}
if frameworks.BACKEND == "tensorflow":
    import tensorflow as tf

    RIGHT_LOSSES["a function of TensorFlow"] = tf.function(five)


@pytest.mark.parametrize("case", RIGHT_LOSSES)
def test_a_loss_function_that_fits_is_taken(case):
    options = validation.Options(loss_fn=RIGHT_LOSSES[case])
    assert options.loss_fn is RIGHT_LOSSES[case]


def named():
    """A network of which the paths are known."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([layers.Dense(4, name="quantizer")], name="encoder")
    stack = [layers.Input((10,)), inner, layers.Dense(1, name="head")]
    return models.compiled(keras.Sequential(stack, name="net"))


# Patterns that match nothing, and the names that must be shown.
UNMATCHED = {
    "a typo": ({"*/qantizer/*": "mismatch"}, "no variable and no layer", "near it: quantizer"),
    "a whole path": ({"encoder/quantiser/kernel": "blocked"}, "", "encoder/quantizer/kernel"),
    "no star": ({"quantizer": "mismatch"}, "", "near it: quantizer"),
    "a layer, of a step": ({"*/head": "untrained"}, "no variable of", "near it: head"),
    "nothing like it": ({"*/zzz": "mismatch"}, "of the model", ""),
}


@pytest.mark.parametrize("case", UNMATCHED)
def test_a_pattern_that_matches_nothing_is_told(case):
    expect, what, near = UNMATCHED[case]
    with pytest.warns(gradhooks.GradientCheckWarning, match="matches no variable") as caught:
        report = gradhooks.check_gradients(named(), X, Y, samples=4, expect=expect)
    (warned,) = caught
    assert warned.filename == __file__
    (note,) = (note for note in report.notes if "matches no variable" in note)
    assert note in str(warned.message)
    assert what in note
    assert near in note
    assert ("near it" in note) == bool(near)


def test_a_callback_tells_it_once():
    model = named()
    check = gradhooks.GradientCheck(X, Y, samples=4, freq=1, expect={"*/qantizer/*": "mismatch"})
    with pytest.warns(gradhooks.GradientCheckWarning, match="qantizer") as caught:
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[check])
    assert [w.filename for w in caught] == [__file__]
    assert len(check.reports) == 5
    assert all(any("qantizer" in note for note in r.notes) for r in check.reports)


MATCHED = {
    "a variable": {"*/quantizer/kernel": "mismatch"},
    "a layer": {"*/quantizer": "mismatch"},
    "a layer within another": {"*/encoder": "mismatch"},
    "the model": {"net": "mismatch"},
    "a variable, of a step": {"*/head/*": "untrained"},
    "a variable that is frozen": {"*/quantizer/*": "blocked"},
}


@pytest.mark.parametrize("case", MATCHED)
def test_a_pattern_that_matches_is_not_told(case):
    model = named()
    model.get_layer("encoder").trainable = "frozen" not in case
    assert unmatched.describe_unmatched(model, MATCHED[case].items()) == ()
