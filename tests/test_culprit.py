"""The place of an error: the layer, the loss or the weight, and what finding it leaves alone."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from gradhooks import CheckReport, Verdict
from gradhooks.checking import run
from gradhooks.checking.settings import Settings
from gradhooks.model import batch, objective, oracle
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.message import failure_message
from tests import needs, stepping
from tests.corpora import corpus


@ops.custom_gradient
def off_at_its_input(x):
    return ops.tanh(x), lambda slope: 0.9 * slope * (1 - ops.tanh(x) ** 2)


@ops.custom_gradient
def off_for_negatives(x):
    def backward(slope):
        factor = ops.where(x < 0, ops.cast(1.1, x.dtype), ops.cast(1.0, x.dtype))
        return slope * (1 - ops.tanh(x) ** 2) * factor

    return ops.tanh(x), backward


class Plain(layers.Layer):
    """Applies a function; has no weights."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def network(function, name="middle", activation="tanh"):
    model = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, name="below"),
            layers.BatchNormalization(name="normalization"),
            Plain(function, name=name),
            layers.Dense(5, activation=activation, name="above"),
            layers.Dense(1, name="head"),
        ],
        name="net",
    )
    model.compile("sgd", "mse")
    rng = corpus.seeded(0)
    return model, corpus.features(rng, 32, 6), corpus.features(rng, 32, 1)


WRONG = {
    "a factor": off_at_its_input,
    "only where negative": off_for_negatives,
    "nothing is let through": ops.stop_gradient,
    "NaN": lambda x: ops.sqrt(x * x * 0.0) + ops.tanh(x),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_layer_without_weights_is_named_and_no_layer_below_it(name):
    model, x, y = network(WRONG[name])
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is Verdict.FAIL
    assert (report.culprit.kind, report.culprit.path) == ("layer", "net/middle"), report
    assert report.culprit.call is None
    hold_what_was_measured(report, name)


def hold_what_was_measured(report, name):
    """Asserts that the report tells of every tap what is known there, and no more."""
    taps = report.culprit.taps
    # The model, what `Sequential` makes of itself, and five layers, before and behind each.
    assert len(taps) == 14
    (into,) = [t for t in taps if t.layer == "net/middle" and not t.is_output]
    assert "wrong" not in {t.word for t in taps[taps.index(into) + 1 :]}
    assert any(t.word == "not measured" for t in taps)
    if name == "NaN":
        assert (into.word, into.numeric) == ("wrong", None)
    elif name == "nothing is let through":
        assert into.analytic == 0.0
    else:
        assert into.word == "wrong"
        assert into.relative_difference > report.threshold
    for tap in taps:
        is_measured = tap.word != "not measured" and name != "NaN"
        assert (tap.numeric is not None) == is_measured, tap


def test_its_source_and_sentence_are_in_the_message_and_in_the_report():
    model, x, y = network(off_at_its_input)
    report = gradhooks.check_gradients(model, x, y)
    file, _, line = report.culprit.source.rpartition(":")
    assert file == __file__
    assert int(line) > 0
    assert report.culprit.sentence in failure_message(report)
    assert report.culprit.sentence[:60] in str(report)
    assert CheckReport.from_json(report.to_json()).culprit == report.culprit


@pytest.mark.parametrize("function", [ops.tanh, ops.relu])
def test_a_healthy_model_is_not_traced_again(function, monkeypatch):
    model, x, y = network(function)
    checked = oracle.ModelOracle(
        objective.Objective(model, True, None), batch.take_batch(x, y, None, None, 32)
    )
    monkeypatch.setattr(checked, "tapped", pytest.fail)
    report = run.check(checked, Settings(train_step=False))
    assert report.verdict is Verdict.PASS
    assert report.culprit is None
    assert checked.traces == 1


def test_the_search_leaves_the_model_as_it_was():
    """Weights after training are the same bit for bit, whether a failing check ran or not."""
    weights = []
    for callbacks in ([], [gradhooks.GradientCheck(*network(off_at_its_input)[1:], freq=2)]):
        keras.utils.set_random_seed(0)
        model, x, y = network(off_at_its_input)
        warned = pytest.warns(gradhooks.GradientMismatchWarning)
        with warned if callbacks else contextlib.nullcontext():
            model.fit(x, y, epochs=2, batch_size=8, callbacks=callbacks, verbose=0, shuffle=False)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    names = [variable.path for variable in model.variables]
    assert not [name for name in names if "tap" in name]


def test_later_checks_use_the_same_trace():
    model, x, y = network(off_at_its_input)
    checked = oracle.ModelOracle(
        objective.Objective(model, True, None), batch.take_batch(x, y, None, None, 32)
    )
    first = run.check(checked, Settings(train_step=False))
    tapped = checked.tapped()
    model.layers[0].kernel.assign(0.5 * model.layers[0].kernel)
    second = run.check(checked, Settings(train_step=False, step=1))
    assert checked.tapped() is tapped
    assert first.culprit.path == second.culprit.path == "net/middle"


def test_a_wrong_loss_is_named():
    @ops.custom_gradient
    def halved(value):
        return ops.copy(value), lambda slope: 0.5 * slope

    def wrong_loss(y, prediction):
        return halved(keras.ops.mean(keras.ops.square(y - prediction), axis=-1))

    model, x, y = network(ops.tanh)
    model.compile("sgd", wrong_loss)
    report = gradhooks.check_gradients(model, x, y)
    assert (report.culprit.kind, report.culprit.path) == ("loss", "wrong_loss")
    assert report.culprit.source.startswith(__file__)


def test_a_step_that_drops_the_gradient_is_named():
    class Halved(stepping.Stepping, keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

        def changed(self, gradients):
            return [0.5 * g for g in gradients]

    model = Halved()
    model.compile("sgd", "mse")
    _, x, y = network(ops.tanh)
    model(x)
    report = gradhooks.check_gradients(model, x, y)
    assert report.culprit.kind == "train_step"


def test_what_goes_wrong_in_the_search_changes_no_verdict(monkeypatch):
    def fail(self):
        raise RuntimeError("no more memory")

    monkeypatch.setattr(oracle.ModelOracle, "tapped", fail)
    model, x, y = network(off_at_its_input)
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is Verdict.FAIL
    assert report.culprit is None
    assert any("no more memory" in note for note in report.notes)


def test_a_stored_report_without_the_record_can_be_read():
    report = CheckReport(0, Verdict.FAIL, gradhooks.Reason.MISMATCH, {"total": 1.0})
    text = report.to_json().replace(',"culprit":null', "")
    assert CheckReport.from_json(text).culprit is None
    named = Culprit("layer", "net/middle", 1, ("wrong",), "net.py:3", "it is wrong")
    stored = CheckReport(0, Verdict.FAIL, gradhooks.Reason.MISMATCH, {"total": 1.0}, culprit=named)
    assert CheckReport.from_json(stored.to_json()) == stored
    older = stored.to_json().replace(',"taps":[]', "")
    assert older != stored.to_json()
    assert CheckReport.from_json(older) == stored


@needs.tensorflow("a registry of custom gradients")
def test_a_check_leaves_no_graph_behind():
    """A custom gradient is registered for ever, and would hold the graph with all taps."""
    from gradhooks.backends.tensorflow import custom_gradients

    model, x, y = network(off_at_its_input)
    before = custom_gradients.list_registered_gradients()
    report = gradhooks.check_gradients(model, x, y)
    assert report.culprit is not None
    assert custom_gradients.list_registered_gradients() == before


def test_a_wrong_activation_is_not_put_down_to_one_of_the_weights_before_it():
    model, x, y = network(ops.tanh, activation=off_at_its_input)
    report = gradhooks.check_gradients(model, x, y)
    assert (report.culprit.kind, report.culprit.variable) == ("layer", "")
    assert report.culprit.path == "net/above"
    assert "backward pass of `net/above`" in report.culprit.sentence
    assert any("at its input" in sentence for sentence in report.culprit.evidence)
    assert any("net/above/" in sentence for sentence in report.culprit.evidence)
