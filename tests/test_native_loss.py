"""A loss or gradient that is lost at the precision of training alone fails; its layer is named.

Every broken model has a mended copy, which passes without a note about the loss.
"""

import dataclasses
import warnings
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from tests import digest, models, variants
from tests.corpora.mutants import train_steps

ROWS = 16
MODES = {"graph": {}, "eager": {"run_eagerly": True}, "xla": {"jit_compile": True}}


class Weighed(layers.Layer):
    """A weight per feature, and a function of what is weighed; the weight is 1 at first."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def build(self, shape):
        self.weight = self.add_weight(shape=(shape[-1],), initializer="ones", name="weight")

    def call(self, x):
        return self.function(x * ops.cast(self.weight, x.dtype))


def in_float32(function):
    """The function computed in float32, whatever comes in."""
    return lambda x: ops.cast(function(ops.cast(x, "float32")), x.dtype)


@dataclasses.dataclass(frozen=True)
class Case:
    """A function that breaks at a dtype, in a layer `core` below a dense head, and its twin."""

    name: str
    policy: str
    broken: Callable | None
    mended: Callable | None
    inputs: float = 1.0
    shape: tuple = (6,)
    reasons: tuple = (Reason.NON_FINITE_TRAINING,)
    place: str = "core"
    is_positive: bool = False
    has_bias: bool = True
    losses: tuple = ("mse", "mse")
    options: dict = dataclasses.field(default_factory=dict)

    def build(self, is_broken, **mode):
        keras.utils.set_random_seed(3)
        rng = np.random.default_rng(3)
        with variants.dtype_policy(self.policy):
            stack = [
                keras.Input(self.shape),
                Weighed(self.broken if is_broken else self.mended, name="core"),
            ]
            stack += [
                layers.Flatten(),
                layers.Dense(1, use_bias=self.has_bias, dtype="float32", name="head"),
            ]
            model = keras.Sequential(stack)
        model.compile(
            **(
                {"optimizer": "sgd", "loss": self.losses[not is_broken]}
                | (self.options if is_broken else {})
                | mode
            )
        )
        x = self.inputs * rng.normal(size=(ROWS, *self.shape))
        x = np.abs(x) + self.inputs if self.is_positive else x
        return model, x.astype("float32"), rng.normal(size=(ROWS, 1)).astype("float32")

    def __str__(self):
        return f"{self.name}-{self.policy}"


def masked(is_added):
    """Attention over the first axis; padded are the last two steps and the whole first example."""
    keep = np.ones((ROWS, 6, 1))
    keep[:, 4:] = keep[0] = 0.0

    def pool(x):
        scores = ops.mean(x, -1, keepdims=True)
        if is_added:
            scores = scores + ops.cast(1.0 - keep, x.dtype) * ops.cast(-1e9, x.dtype)
        else:
            scores = ops.where(keep > 0, scores, ops.cast(-3e4, x.dtype))
        return ops.sum(ops.softmax(scores, axis=1) * x, axis=1)

    return pool


def by_hand(is_shifted):
    """Softmax as it is written down, with or without the largest entry taken off."""

    def softmax(x):
        x = x - ops.max(x, axis=-1, keepdims=True) if is_shifted else x
        exponentials = ops.exp(x)
        return exponentials / ops.sum(exponentials, axis=-1, keepdims=True)

    return softmax


def logarithm(small):
    return lambda x: ops.log(ops.softmax(x) + ops.cast(small, x.dtype))


def unit(small):
    return lambda x: (
        x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + ops.cast(small, x.dtype))
    )


def standardized(is_two_pass):
    """The mean over the standard deviation, by the mean of squares or in two passes."""

    def standardize(x):
        mean = ops.mean(x, -1, keepdims=True)
        if is_two_pass:
            variance = ops.mean(ops.square(x - mean), -1, keepdims=True)
        else:
            variance = ops.mean(ops.square(x), -1, keepdims=True) - ops.square(mean)
        return (x - mean) / ops.sqrt(variance + ops.cast(1e-3, x.dtype))

    return standardize


def attended(scale):
    """Dot products of every step with every other, weighed by exponentials."""

    def attend(x):
        scores = ops.matmul(x, ops.swapaxes(x, 1, 2)) * ops.cast(scale, x.dtype)
        weights = ops.exp(scores)
        return ops.matmul(weights / ops.sum(weights, -1, keepdims=True), x)

    return attend


def added_up(x):
    total = x[:, 0]
    for k in range(1, x.shape[1]):
        total = total + x[:, k]
    return total


def product(x):
    """A product of a dozen probabilities, brought back to an ordinary size."""
    return ops.prod(ops.sigmoid(x - 3), 1) * 6e4 * 6e4


def mean_of_logarithms(x):
    return ops.exp(ops.mean(ops.log(ops.sigmoid(x - 3)), 1))


def likelihood(dtype, small=1e-8):
    """Minus the logarithm of a probability, by hand."""

    def loss(y, p):
        p = ops.cast(ops.sigmoid(30 * p), dtype)
        return ops.mean(-ops.log(p + small))

    return loss


GRADIENT, VANISHED = (Reason.NON_FINITE_GRADIENT,), (Reason.UNDERFLOW, Reason.LOST_PRECISION)
CASES = [
    Case("mask", "mixed_float16", masked(True), masked(False), shape=(6, 4)),
    Case("mask", "float16", masked(True), masked(False), shape=(6, 4)),
    Case("log", "mixed_float16", logarithm(1e-8), logarithm(1e-4), inputs=30.0),
    Case("log", "float16", logarithm(1e-8), in_float32(logarithm(1e-8)), inputs=12.0),
    Case(
        "squares",
        "mixed_float16",
        ops.square,
        in_float32(lambda x: ops.square(x / 300)),
        inputs=300.0,
    ),
    Case("softmax", "float16", by_hand(False), by_hand(True), inputs=8.0),
    Case("softmax", "mixed_bfloat16", by_hand(False), by_hand(True), inputs=70.0),
    Case(
        "variance",
        "mixed_float16",
        standardized(False),
        in_float32(standardized(True)),
        inputs=200.0,
        is_positive=True,
    ),
    Case("norm", "mixed_float16", unit(1e-12), unit(1e-7), inputs=1e-6),
    Case(
        "inverse",
        "float16",
        lambda x: 1 / (x + 1e-8),
        in_float32(lambda x: 1e-7 / (x + 1e-8)),
        1e-5,
        is_positive=True,
    ),
    Case(
        "sum",
        "mixed_float16",
        added_up,
        in_float32(lambda x: ops.mean(x / 300, 1)),
        inputs=300.0,
        shape=(150, 2),
        is_positive=True,
    ),
    Case("attention", "mixed_float16", attended(1.0), attended(0.05), inputs=3.0, shape=(5, 8)),
    Case(
        "powers",
        "bfloat16",
        lambda x: ops.square(ops.square(x)),
        lambda x: ops.tanh(x / 1e10),
        inputs=1e10,
    ),
    Case("exp", "float32", lambda x: ops.log(ops.exp(x) + 1), ops.softplus, inputs=100.0),
    Case(
        "squares",
        "float32",
        lambda x: ops.sqrt(ops.square(x)) / 1e25,
        lambda x: ops.abs(x) / 1e25,
        inputs=1e25,
    ),
    Case(
        "loss",
        "float16",
        ops.tanh,
        ops.tanh,
        losses=(likelihood("float16"), likelihood("float32")),
        place="loss",
    ),
    Case(
        "quotient",
        "float16",
        lambda x: 1e-5 / x,
        lambda x: 1 / (x * 1e4) / 10,
        1e-5,
        reasons=GRADIENT,
        is_positive=True,
    ),
    Case(
        "weight",
        "mixed_float16",
        ops.tanh,
        in_float32(ops.tanh),
        reasons=GRADIENT,
        place="flatten",
        options={"loss_weights": [1e9]},
    ),
    Case(
        "small weight",
        "float16",
        ops.tanh,
        ops.tanh,
        reasons=VANISHED,
        place="flatten",
        options={"loss_weights": [1e-8]},
    ),
    Case(
        "small squares",
        "float16",
        ops.square,
        lambda x: ops.square(x * 1e4),
        1e-4,
        reasons=VANISHED,
        has_bias=False,
    ),
    Case(
        "small squares",
        "float32",
        ops.square,
        lambda x: ops.square(x * 1e25),
        1e-25,
        reasons=VANISHED,
        has_bias=False,
    ),
    Case("product", "float16", product, mean_of_logarithms, shape=(12, 2)),
]


def checked(case, is_broken, **mode):
    model, x, y = case.build(is_broken, **mode)
    before = digest.digest(model)
    with np.errstate(all="ignore"):
        report = gradhooks.check_gradients(model, x, y)
    assert digest.digest(model) == before
    return report


def training_dtype(case):
    return case.policy.removeprefix("mixed_")


def speaks_of_losses(report):
    return [note for note in report.notes if "in float64" in note or "train_step computes" in note]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_lost_natively_fails_and_is_named(case):
    report = checked(case, True)
    assert report.verdict is Verdict.FAIL, report
    assert {c.reason for c in report.failures} <= set(case.reasons), report
    assert {c.term for c in report.failures} == {"trained"}, report
    sentence = report.diagnoses[0].sentence
    assert training_dtype(case) in sentence, sentence
    assert case.place in sentence, sentence
    assert np.isfinite(report.loss["total"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_mended_model_passes_and_nothing_is_said_about_losses(case):
    report = checked(case, False)
    assert report.verdict is Verdict.PASS, report
    assert not speaks_of_losses(report), report


def test_the_callback_warns_at_its_first_check_and_training_stays_as_it_was():
    case = CASES[0]
    left = []
    for is_checking in (False, True):
        keras.utils.clear_session(free_memory=False)  # names count up
        model, x, y = case.build(True)
        check = gradhooks.GradientCheck(x, y, freq=1, samples=4) if is_checking else None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = model.fit(
                x, y, batch_size=ROWS, epochs=2, verbose=0, callbacks=[check] if check else []
            )
        left.append(digest.digest(model))
    assert left[0] == left[1]
    assert np.isnan(history.history["loss"]).all()
    assert {report.verdict for report in check.reports} == {Verdict.FAIL}
    (warning,) = [str(w.message) for w in caught if "gradient check failed" in str(w.message)]
    assert "step 0" in warning
    assert "the loss is NaN in float16" in warning
    assert "core" in warning


@pytest.mark.parametrize("is_built", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_an_overflow_at_the_present_loss_scale_is_a_note(mode, is_built):
    with variants.dtype_policy("mixed_float16"):
        model, x, y = models.mlp()
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=2.0**24
    )
    model.compile(optimizer, "mse", **mode)
    if is_built:
        model.train_on_batch(x, y)
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is Verdict.PASS, report
    (note,) = report.notes
    assert f"{2.0 ** (23 if is_built else 24):g}" in note
    assert "loss scaling leaves this step out" in note
    assert {c.reason for c in report.comparisons if c.verdict is Verdict.INCONCLUSIVE} == {
        Reason.NOT_RECORDED
    }


def test_the_scale_is_found_and_the_note_is_gone():
    with variants.dtype_policy("mixed_float16"):
        model, x, y = models.mlp()
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=2.0**22
    )
    model.compile(optimizer, "mse")
    check = gradhooks.GradientCheck(x, y, freq=1, samples=4, on_failure="raise")
    model.fit(x, y, batch_size=ROWS // 2, epochs=2, verbose=0, callbacks=[check])
    assert "leaves this step out" in check.reports[0].notes[0]
    assert not check.reports[-1].notes
    assert float(model.optimizer.dynamic_scale) < 2.0**22


@pytest.mark.parametrize("factor", [2.0**24, 2.0**8])
def test_a_fixed_scale_that_overflows_is_left_by_nobody(factor):
    with variants.dtype_policy("mixed_float16"):
        model, x, y = models.mlp()
    model.compile(
        keras.optimizers.SGD(0.01, loss_scale_factor=factor), "mse", auto_scale_loss=False
    )
    report = gradhooks.check_gradients(model, x, y)
    if factor == 2.0**8:
        assert (report.verdict, report.notes) == (Verdict.PASS, ()), report
        return
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.NON_FINITE_GRADIENT), report
    assert f"{factor:g}" in report.diagnoses[0].sentence
    model.train_on_batch(x, y)
    assert not all(np.isfinite(w).all() for w in model.get_weights())


class Other(train_steps.Custom):
    """Trains on the sum of squares, with a tracker of its own for the loss."""

    reduce = staticmethod(ops.sum)
    has_tracker = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tracker = keras.metrics.Mean(name="total_loss")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.reduce(ops.square(y - self(x, training=True)))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result() if self.has_tracker else loss}


class Same(Other):
    reduce = staticmethod(ops.mean)


class Shifted(Same):
    """Adds a constant to the loss that it tells."""

    has_tracker = False

    def train_step(self, data):
        return {"loss": super().train_step(data)["loss"] + 7.0}


class Scaled(Same):
    """Tells the loss as its optimizer has scaled it."""

    has_tracker = False

    def train_step(self, data):
        return {"loss": self.optimizer.scale_loss(super().train_step(data)["loss"])}


class UnderAnotherName(Other):
    """Averages the loss in a metric like any other: that is not the loss of this batch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tracker = keras.metrics.Mean(name="objective")


def regression(kind, **options):
    keras.utils.set_random_seed(0)
    model = kind([keras.Input((10,)), layers.Dense(4, "tanh"), layers.Dense(1, name="head")])
    model.compile(**({"optimizer": "sgd", "loss": "mse"} | options))
    x, y = models.data((10,), (1,), 0)
    return model, x[:ROWS], y[:ROWS]


def kinds_and_modes():
    """Every kind in a graph; in the other modes one by default, and the rest in the sweep."""
    for kind in (Other, Shifted, Same, Scaled, UnderAnotherName):
        for name, mode in MODES.items():
            marks = [] if name == "graph" or kind is Other else [pytest.mark.sweep]
            yield pytest.param(kind, mode, id=f"{kind.__name__}-{name}", marks=marks)


@pytest.mark.parametrize(("kind", "mode"), list(kinds_and_modes()))
def test_a_train_step_that_trains_on_another_loss_is_reported_with_both_numbers(kind, mode):
    optimizer = keras.optimizers.SGD(0.01, loss_scale_factor=8.0) if kind is Scaled else "sgd"
    model, x, y = regression(kind, optimizer=optimizer, **mode)
    model.fit(5 * x, y, verbose=0, batch_size=8)
    squares = np.square(y - model.predict(x, verbose=0))
    report = gradhooks.check_gradients(model, x, y)
    notes = speaks_of_losses(report)
    if kind not in (Other, Shifted):
        assert not notes
        return
    (note,) = notes
    assert f"the loss {np.sum(squares) if kind is Other else np.mean(squares) + 7:.4g}" in note
    assert f"the check {np.mean(squares):.4g}" in note
    assert ("not the same loss" in note, "the gradients agree" in note) == (
        kind is Other,
        kind is Shifted,
    )
    assert report.verdict is (Verdict.FAIL if kind is Other else Verdict.PASS)


def recorded_loss(model, x, y, **options):
    from gradhooks.model import batch, objective, oracle

    return (
        oracle.ModelOracle(objective.Objective(model), batch.take_batch(x, y))
        .record(**options)
        .loss
    )


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_the_recorded_loss_is_that_of_the_batch_alone(mode):
    model, x, y = models.mlp(**mode)
    x, y = x[:ROWS], y[:ROWS]
    model.fit(9 * x, y, verbose=0, batch_size=8)  # leaves a mean of other losses behind
    before = [v.numpy() for v in model.metrics_variables]
    loss = np.mean(np.square(y - model.predict(x, verbose=0)))
    for _ in range(2):
        assert recorded_loss(model, x, y) == pytest.approx(loss, rel=1e-6)
    assert all(
        np.array_equal(v.numpy(), b) for v, b in zip(model.metrics_variables, before, strict=True)
    )


def test_a_step_that_tells_no_loss_is_recorded_without():
    class Silent(Same):
        def train_step(self, data):
            super().train_step(data)
            return {}

    model, x, y = regression(Silent)
    assert recorded_loss(model, x, y) is None
    assert gradhooks.check_gradients(model, x, y).verdict is Verdict.PASS
