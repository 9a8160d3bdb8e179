"""`trainable` flags that change between `compile()` and `fit()`: warnings are true.

Keras keeps its compiled step until `compile()` is called, so a layer that was
frozen may go on moving. Every case trains on and looks.
"""

import contextlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks import Verdict
from tests import models


class Decorated(keras.Sequential):
    """The step is a graph function of the user's own."""

    @tf.function
    def train_step(self, data):
        return super().train_step(data)


class HeadOnly(keras.Sequential):
    """Leaves the body out of its training on purpose, whatever its flag says."""

    def train_step(self, data):
        x, y = data
        weights = self.layers[-1].trainable_variables
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def built(kind=keras.Sequential, body=(), frozen=False, **options):
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([layers.Input((10,)), *body, layers.Dense(4, "tanh")], name="body")
    model = kind([layers.Input((10,)), inner, layers.Dense(1, name="head")])
    inner.trainable = not frozen
    model.compile(**{"optimizer": "adam", "loss": "mse", **options})
    return model


def fitted(model, epochs=1):
    x, y = models.data((10,), (1,), 0)
    model.fit(x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)


def moved(model):
    """Whether training on moves the body."""
    before = [np.array(w) for w in model.get_layer("body").get_weights()]
    fitted(model)
    after = model.get_layer("body").get_weights()
    return any(np.any(a != b) for a, b in zip(before, after, strict=True))


def checked(model):
    x, y = models.data((10,), (1,), 0)
    return gradhooks.check_gradients(model, x, y, samples=4)


WAYS = {
    "graph": {},
    "XLA": {"jit_compile": True},
    "several steps at once": {"steps_per_execution": 2},
    "loss scaling": {
        "optimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    },
    "a decorated step": {"kind": Decorated},
    "batch normalization": {"body": lambda: [layers.BatchNormalization()]},
}


def ways(**options):
    return {
        name: value() if name in ("optimizer", "body") else value for name, value in options.items()
    }


@pytest.mark.parametrize("was_frozen", [False, True], ids=["frozen", "thawed"])
@pytest.mark.parametrize("way", WAYS)
def test_what_fit_goes_on_with_is_said(way, was_frozen):
    model = built(frozen=was_frozen, **ways(**WAYS[way]))
    fitted(model)
    model.get_layer("body").trainable = was_frozen
    report = checked(model)
    assert report.verdict is Verdict.PASS
    words = "made trainable after fit()" if was_frozen else "frozen after fit()"
    (note,) = [note for note in report.notes if "compile the model again" in note]
    assert words in note
    assert "body" in note
    trained = {c.path: c.verdict for c in report.comparisons if c.term == "trained"}
    for path, verdict in trained.items():
        # What fit() never trains has not been seen to be trained rightly.
        assert verdict is (Verdict.INCONCLUSIVE if "body" in path else Verdict.PASS)
    assert moved(model) is not was_frozen


@pytest.mark.parametrize("was_frozen", [False, True], ids=["frozen", "thawed"])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "a decorated step"])
def test_with_compile_there_is_nothing_to_say(way, was_frozen):
    options = ways(**WAYS[way])
    model = built(frozen=was_frozen, **options)
    fitted(model)
    model.get_layer("body").trainable = was_frozen
    options = ways(**{k: v for k, v in WAYS[way].items() if k not in ("kind", "body")})
    model.compile(**{"optimizer": "adam", "loss": "mse", **options})
    for _ in range(2):
        report = checked(model)
        assert (report.verdict, report.notes) == (Verdict.PASS, ())
        assert {c.verdict for c in report.comparisons if c.term == "trained"} == {Verdict.PASS}
        fitted(model)
    if way != "batch normalization":  # its statistics move
        assert moved(model) is was_frozen


def test_the_step_that_keras_cannot_compile_again():
    """Without a check: where this passes, a decorated step belongs into the table above."""
    model = built(Decorated)
    fitted(model)
    model.compile("adam", "mse")
    with pytest.raises(AssertionError, match="variables which have been deleted"):
        fitted(model)


def frozen_before_the_first_fit():
    model = built()
    model.optimizer.build(model.trainable_variables)
    model.get_layer("body").trainable = False
    return model, False


def frozen_where_nothing_is_compiled():
    model = built(run_eagerly=True)
    fitted(model)
    model.get_layer("body").trainable = False
    return model, False


def the_optimizer_of_before():
    model = built()
    fitted(model)
    model.get_layer("body").trainable = False
    model.compile(model.optimizer, "mse")
    fitted(model)
    return model, False


def thawed_for_the_optimizer_of_before():
    model, _ = the_optimizer_of_before()
    model.get_layer("body").trainable = True
    model.compile(model.optimizer, "mse")
    return model, True


def frozen_and_back():
    model = built()
    fitted(model)
    for flag in (False, True):
        model.get_layer("body").trainable = flag
    return model, True


NOTHING_TO_SAY = [
    frozen_before_the_first_fit,
    frozen_where_nothing_is_compiled,
    the_optimizer_of_before,
    thawed_for_the_optimizer_of_before,
    frozen_and_back,
]


@pytest.mark.parametrize("make", NOTHING_TO_SAY, ids=lambda make: make.__name__)
def test_right_flags_do_not_fail(make):
    model, does_move = make()
    report = checked(model)
    assert (report.verdict, report.notes) == (Verdict.PASS, ())
    assert moved(model) is does_move


def test_a_step_that_leaves_a_layer_out_is_another_matter():
    model = built(HeadOnly)
    fitted(model)
    report = checked(model)
    assert report.verdict is Verdict.FAIL
    assert not any("compile the model again" in note for note in report.notes)


class Adversaries(keras.Model):
    """Two models, each with an optimizer of its own; one is frozen while the other trains."""

    def __init__(self):
        super().__init__()
        self.one, self.other = layers.Dense(4, name="one"), layers.Dense(1, name="other")
        self.optimizers = [keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1)]

    def call(self, x):
        return self.other(self.one(x))

    def train_step(self, data):
        x, y = data
        for part, rest, optimizer in zip(
            (self.one, self.other), (self.other, self.one), self.optimizers, strict=True
        ):
            part.trainable, rest.trainable = True, False
            weights = part.trainable_variables
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x))
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        part.trainable = rest.trainable = True
        return {"loss": loss}


def test_several_optimizers_do_not_fail():
    keras.utils.set_random_seed(0)
    x, y = models.data((10,), (1,), 0)
    model = Adversaries()
    model(x)
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    report = checked(model)
    assert report.verdict is Verdict.PASS
    assert not any("compile" in note for note in report.notes)


class Freezes(keras.callbacks.Callback):
    """Freezes the body in the second epoch, when the step has long been compiled."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.get_layer("body").trainable = False


@pytest.mark.parametrize("others", [(Freezes,), ()], ids=["frozen meanwhile", "left alone"])
def test_the_callback_warns_once(others):
    x, y = models.data((10,), (1,), 0)
    model, check = built(), gradhooks.GradientCheck(x, y, samples=4)
    expected = (
        pytest.warns(gradhooks.GradientCheckWarning, match="still trains it")
        if others
        else no_warnings()
    )
    with expected as caught:
        model.fit(x, y, epochs=4, verbose=0, callbacks=[*(kind() for kind in others), check])
    if others:
        assert (
            len([w for w in caught if issubclass(w.category, gradhooks.GradientCheckWarning)]) == 1
        )
    noted = [any("still trains it" in note for note in report.notes) for report in check.reports]
    assert noted == ([False, False, True, True, True] if others else [False] * 5)
    assert not any(report.error for report in check.reports)


@contextlib.contextmanager
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", gradhooks.GradientCheckWarning)
        yield []
