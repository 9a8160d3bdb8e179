"""Layers whose gradient is meant to be another one excuse what passes through them, and no more."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.model import known

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 6)).astype("float32"), RNG.normal(size=(8, 3)).astype("float32")
IMAGES = RNG.uniform(size=(4, 6, 6, 3)).astype("float32")


class Cut(layers.Layer):
    def call(self, x):
        return ops.stop_gradient(x)


class Rounded(layers.Layer):
    def call(self, x):
        return x + ops.stop_gradient(ops.round(2 * x) / 2 - x)


class Factor(layers.Layer):
    """Hands values on, and 1.5 times their gradients."""

    def call(self, x):
        @tf.custom_gradient
        def multiplied(value):
            return tf.identity(value), lambda upstream: 1.5 * upstream

        return multiplied(x)


@keras.saving.register_keras_serializable()
class WrongPenalty(keras.regularizers.Regularizer):
    """Half the squares, with twice their gradient."""

    def __call__(self, w):
        @tf.custom_gradient
        def penalty(value):
            value = tf.convert_to_tensor(value)
            return tf.reduce_sum(value**2) / 2, lambda upstream: 2 * upstream * value

        return penalty(w)


def dense(name, units=5, **keywords):
    return layers.Dense(units, activation="tanh", name=name, **keywords)


def chain(*parts):
    """A compiled model of layers, one after the other."""
    x = keras.Input((6,))
    y = x
    for part in parts:
        y = part(y)
    model = keras.Model(x, layers.Dense(3, name="head")(y))
    model.compile("sgd", "mse")
    return model


def quantized(mode, *above):
    middle = dense("middle")
    model = chain(dense("below"), middle, dense("above"), *above)
    middle.quantize(mode)
    model.compile("sgd", "mse")
    return model


def check(model, **options):
    return gradhooks.check_gradients(model, X, Y, samples=16, **options)


def paths(report, reason):
    """The names of the layers of the variables that are judged so."""
    found = {c.path for c in report.comparisons if c.reason is reason and c.path != "*"}
    return {path.rpartition("/")[0].rpartition("/")[2] for path in found}


def test_a_declared_layer_excuses_what_lies_below_it():
    model = chain(dense("first"), dense("below"), Cut(name="cut"), dense("above"))
    report = check(model, expect={"*/cut": "blocked"})
    assert report.verdict is Verdict.PASS, report
    assert paths(report, Reason.DECLARED) == {"first", "below"}
    (note,) = [note for note in report.notes if note.startswith("cut")]
    assert "expect={'*/cut': 'blocked'}" in note
    assert note.endswith("could not be checked")


def test_an_error_above_a_declared_layer_fails():
    model = chain(dense("below"), Rounded(name="round"), dense("above"), Factor())
    report = check(model, expect={"*/round": "mismatch"})
    assert report.verdict is Verdict.FAIL, report
    assert paths(report, Reason.MISMATCH) == {"above"}


def test_a_gradient_that_is_blocked_in_part_is_declared_too():
    x = keras.Input((6,))
    below = dense("below")(x)
    model = keras.Model(x, layers.Dense(3)(below + Cut(name="cut")(dense("branch")(below))))
    model.compile("sgd", "mse")
    report = check(model, expect={"*cut": "blocked"})
    assert report.verdict is Verdict.PASS, report
    assert paths(report, Reason.DECLARED) == {"below", "branch"}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3, name="head")
        self.inner = keras.Sequential([dense("below"), Cut(name="cut")])
        self.beside = dense("beside")

    def call(self, x):
        return self.head(self.inner(x) + self.beside(x))


def test_the_order_of_calls_counts_and_not_that_of_attributes():
    model = Subclassed()
    model(X)
    model.compile("sgd", "mse")
    report = check(model, expect={"*/cut": "blocked"})
    assert report.verdict is Verdict.PASS, report
    assert paths(report, Reason.DECLARED) == {"below"}


def test_a_penalty_below_a_declared_layer_is_checked():
    model = chain(dense("below", kernel_regularizer=WrongPenalty()), Rounded(name="round"))
    report = check(model, expect={"*/round": "mismatch"}, train_step=False)
    assert {c.term for c in report.failures} == {"penalty"}, report


@pytest.mark.parametrize("layer", [layers.Identity, layers.LayerNormalization])
def test_a_declared_layer_that_is_right_fails(layer):
    report = check(chain(dense("below"), layer(name="cut")), expect={"*/cut": "blocked"})
    assert report.reason is Reason.UNDECLARED_MATCH, report


def spectral():
    return layers.SpectralNormalization(dense("inner"), name="spectral")


def renormalization():
    return layers.BatchNormalization(renorm=True, name="renormalized")


KNOWN = [
    # the model, and the layers of which a variable is known to be off
    (lambda *above: chain(dense("below"), spectral(), *above), {"inner"}),
    (lambda *above: chain(dense("below"), renormalization(), *above), {"below"}),
    (lambda *above: quantized("int8", *above), {"below"}),
]


@pytest.mark.parametrize(("make", "off"), KNOWN)
def test_what_keras_approximates_is_known(make, off):
    report = check(make())
    assert report.verdict is Verdict.PASS, report
    assert paths(report, Reason.KNOWN) == off
    assert sum("https://" in note for note in report.notes) == 1


@pytest.mark.parametrize(("make", "off"), KNOWN)
def test_an_error_above_a_known_layer_fails(make, off):
    report = check(make(dense("wrong"), Factor()))
    assert report.verdict is Verdict.FAIL, report
    assert "wrong" in paths(report, Reason.MISMATCH)


def test_an_error_below_spectral_normalization_fails():
    report = check(chain(dense("wrong"), Factor(), spectral()))
    assert report.verdict is Verdict.FAIL, report
    assert paths(report, Reason.MISMATCH) == {"wrong"}
    assert paths(report, Reason.KNOWN) == {"inner"}


@pytest.mark.parametrize("make", [spectral, renormalization])
def test_what_is_exact_without_training_is_no_excuse(make):
    report = check(chain(dense("below"), Factor(), make()), training=False, train_step=False)
    assert report.verdict is Verdict.FAIL, report
    assert paths(report, Reason.KNOWN) == set()


def test_the_scales_of_float8_are_no_weights():
    report = check(quantized("float8"))
    assert report.verdict is Verdict.PASS, report
    assert not any("scale" in c.path or "amax" in c.path for c in report.comparisons)
    assert report.coverage.variables_total == 8


def test_images_that_are_given_pass_no_gradient_on():
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.RandomRotation(0.2), layers.Conv2D(2, 3), layers.Flatten()]
    )
    model.compile("sgd", "mse")
    targets = np.zeros((4, *model.output_shape[1:]))
    report = gradhooks.check_gradients(model, IMAGES, targets, samples=16)
    assert report.verdict is Verdict.PASS, report
    assert paths(report, Reason.KNOWN) == set()


def test_a_class_derived_from_a_known_one_is_another_layer():
    class Own(layers.RandomRotation):
        pass

    assert known.find_approximations(layers.RandomRotation(0.2))
    assert not known.find_approximations(Own(0.2))


def test_approximations_name_layers_of_keras():
    for approximation in known.APPROXIMATIONS:
        assert all(hasattr(layers, name) for name in approximation.layers)
        assert approximation.page.startswith("https://")
