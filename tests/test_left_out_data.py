"""NaN in the data is nobody's fault as long as the loss leaves it out; what counts is the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.testing import assert_gradients
from tests import digest
from tests.corpora.mutants import planted
from tests.test_bit_identity import seeded

rng = np.random.default_rng(3)
ROWS = 16
X, Y = rng.normal(size=(ROWS, 5)).astype("float32"), rng.normal(size=(ROWS, 3)).astype("float32")
UNKNOWN = rng.random(Y.shape) < 0.3


def with_holes(array, value=np.nan, where=UNKNOWN):
    return np.where(where, np.asarray(value, array.dtype), array)


def known_only(at):
    def loss(y, p):
        known = tf.math.is_finite(y)
        return tf.reduce_mean(tf.square(tf.boolean_mask(y, known) - tf.boolean_mask(at(p), known)))

    return loss


def filled_first(at):
    """The safe way to leave out by `where`: entries are replaced before anything uses them."""

    def loss(y, p):
        known = ops.isfinite(y)
        return ops.mean(
            ops.where(known, ops.square(ops.where(known, y, 0.0) - at(p)), 0.0), axis=-1
        )

    return loss


def filled_last(at):
    """The bug of this kind: the loss is finite, and on the way back zero times NaN is NaN."""

    def loss(y, p):
        return ops.mean(ops.where(ops.isfinite(y), ops.square(y - at(p)), 0.0), axis=-1)

    return loss


def network(loss, *middle):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [layers.Input((5,)), *middle, layers.Dense(4, "tanh"), layers.Dense(3)]
    )
    model.compile("sgd", loss)
    return model


def checked(model, x=X, y=Y, **options):
    return gradhooks.check_gradients(model, x, y, **{"samples": 8} | options)


HOLES = {
    "NaN": with_holes(Y),
    "infinity": with_holes(Y, np.inf),
    "minus infinity": with_holes(Y, -np.inf),
}


@pytest.mark.parametrize("holes", HOLES)
@pytest.mark.parametrize("loss", [known_only, filled_first])
def test_labels_that_are_left_out(loss, holes):
    report = checked(network(loss(planted.honest)), y=HOLES[holes])
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "float64"), report
    wrong = checked(network(loss(planted.scale(1.01))), y=HOLES[holes])
    assert (wrong.verdict, wrong.reason) == (Verdict.FAIL, Reason.MISMATCH), wrong


def test_where_over_nan_is_the_bug():
    report = checked(network(filled_last(planted.honest)), y=HOLES["NaN"])
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.NON_FINITE_GRADIENT), report
    assert np.isfinite(report.loss["total"])
    assert checked(network(filled_last(planted.honest))).verdict is Verdict.PASS


class Filling(layers.Layer):
    """Puts a weight into the holes of its input."""

    def __init__(self, at, is_safe, **options):
        super().__init__(**options)
        self.at, self.is_safe = at, is_safe

    def build(self, shape):
        self.filling = self.add_weight(shape=(shape[-1],), initializer="ones", name="filling")
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        known = ops.isfinite(x)
        x = ops.where(known, x, 0.0) if self.is_safe else x
        return ops.where(known, x * self.scale, self.at(self.filling + 0.0))


@pytest.mark.parametrize(
    ("at", "is_safe", "expected"),
    [
        (planted.honest, True, (Verdict.PASS, Reason.AGREES)),
        (planted.scale(1.01), True, (Verdict.FAIL, Reason.MISMATCH)),
        (planted.honest, False, (Verdict.FAIL, Reason.NON_FINITE_GRADIENT)),
    ],
    ids=["healthy", "wrong", "where over NaN"],
)
def test_inputs_that_are_left_out(at, is_safe, expected):
    x = with_holes(X, where=rng.random(X.shape) < 0.2)
    report = checked(network("mse", Filling(at, is_safe, name="filling")), x=x, samples=16)
    assert (report.verdict, report.reason) == expected, report


def weighing(at):
    """Leaves out whole rows, whose weights are NaN."""

    class Weighing(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            known = tf.math.is_finite(sample_weight)
            rows = tf.reduce_mean((y - at(y_pred)) ** 2, -1)
            return tf.reduce_mean(
                tf.boolean_mask(rows * tf.where(known, sample_weight, 0.0), known)
            )

    keras.utils.set_random_seed(1)
    x = layers.Input((5,))
    model = Weighing(x, layers.Dense(3)(layers.Dense(4, "tanh")(x)))
    model.compile("sgd", "mse")
    return model


def test_weights_that_are_left_out():
    weights = with_holes(np.ones(ROWS, "float32"), where=UNKNOWN[:, 0])
    assert checked(weighing(planted.honest), sample_weight=weights).verdict is Verdict.PASS
    assert checked(weighing(planted.scale(1.01)), sample_weight=weights).verdict is Verdict.FAIL


PLAGUED = {
    "x": (lambda holes: {"x": with_holes(X, where=holes(X))}, "in x"),
    "y": (lambda holes: {"y": with_holes(Y, np.inf, where=holes(Y))}, "in y"),
    "sample_weight": (
        lambda holes: {
            "sample_weight": with_holes(np.ones(ROWS, "float32"), where=holes(np.ones(ROWS)))
        },
        "in sample_weight",
    ),
}


@pytest.mark.parametrize("part", PLAGUED)
@pytest.mark.parametrize("is_in_fit", [False, True])
def test_a_loss_that_is_not_finite_is_reported_with_what_is_not_in_the_data(part, is_in_fit):
    make, words = PLAGUED[part]
    data = {"x": X, "y": Y} | make(lambda a: np.arange(a.size).reshape(a.shape) < 2)
    model = network("mse")

    def check():
        if is_in_fit:
            model.fit(X, Y, verbose=0, callbacks=[gradhooks.GradientCheck(**data)])
        else:
            gradhooks.check_gradients(model, **data)

    before = digest.digest(model)
    with pytest.raises(gradhooks.BadInputError, match=f"2 {words}") as error:
        check()
    others = set(PLAGUED) - {part}
    assert not any(f" in {other}" in str(error.value) for other in others)
    assert all(word in str(error.value) for word in ("Received: ", "Expected ", "Try "))
    if not is_in_fit:
        assert digest.digest(model) == before


def test_a_loss_that_is_not_finite_with_finite_data():
    model = network("mse")
    model.layers[0].kernel.assign(np.full((5, 4), np.nan))
    with pytest.raises(gradhooks.BadInputError, match="All of the batch is finite"):
        checked(model)


def test_an_input_that_is_moved_must_be_finite():
    x = with_holes(X, where=np.arange(X.size).reshape(X.shape) < 2)
    with pytest.raises(gradhooks.BadInputError, match="2 in x"):
        assert_gradients(Filling(planted.honest, True), x)
    assert_gradients(Filling(planted.honest, True), x, inputs=False)
    with pytest.raises(AssertionError):
        assert_gradients(Filling(planted.scale(1.01), True), x, inputs=False)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_training_is_the_same_with_checks(run_eagerly):
    def trained(callbacks):
        model = seeded(lambda: network(filled_first(planted.honest), layers.Dropout(0.2)))
        model.run_eagerly = run_eagerly
        fit = model.fit(X, HOLES["NaN"], batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        return digest.digest(model), fit.history["loss"]

    check = gradhooks.GradientCheck(X, HOLES["NaN"], samples=4, on_failure="raise")
    assert trained([check]) == trained([])
    assert [r.verdict for r in check.reports] == [Verdict.PASS] * 3
