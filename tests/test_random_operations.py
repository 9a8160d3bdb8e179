"""TensorFlow's own random operations: checked under one noise; training is not changed."""

import functools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks import Reason, Verdict
from tests import digest

X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
GENERATOR = tf.random.Generator.from_seed(3)
# Compiled before any check, it stays as random as it is.
DICE = tf.function(lambda: tf.random.uniform([])).get_concrete_function()


def like(h):
    return {"shape": tf.shape(h), "dtype": h.dtype}


def gumbel(h):
    return tf.nn.softmax(h - tf.math.log(-tf.math.log(tf.random.uniform(**like(h), minval=1e-6))))


# name -> function of the hidden layer, rows of 4 numbers
DRAWS = {
    "normal": lambda h: h + tf.exp(0.1 * h) * tf.random.normal(**like(h)),
    "normal, seeded": lambda h: h + tf.random.normal(**like(h), seed=7),
    "normal at float32": lambda h: h * tf.cast(tf.random.normal([4]), h.dtype),
    "uniform": lambda h: h * tf.random.uniform(**like(h), minval=0.5, maxval=2.0),
    "truncated": lambda h: h * tf.random.truncated_normal(**like(h), mean=1.0),
    "gamma": lambda h: h * tf.random.gamma(tf.shape(h), 2.0, dtype=h.dtype),
    "poisson": lambda h: h * tf.random.poisson(tf.shape(h), 2.0, dtype=h.dtype),
    "integers": lambda h: tf.gather(h, tf.random.uniform([12], maxval=12, dtype=tf.int32)),
    "dropout": lambda h: tf.nn.dropout(h, 0.3),
    "old dropout": lambda h: tf.compat.v1.nn.dropout(h, rate=0.3),
    "shuffled rows": lambda h: tf.gather(h, tf.random.shuffle(tf.range(12))),
    "categories": lambda h: (
        h * tf.gather(tf.cast([0.5, 1, 2, 3], h.dtype), tf.random.categorical(h, 4))
    ),
    "Gumbel softmax": gumbel,
    "generator": lambda h: h + GENERATOR.normal(**like(h)) * GENERATOR.uniform(**like(h)),
    "generator, integers": lambda h: tf.gather(
        h, GENERATOR.uniform([12], maxval=12, dtype=tf.int32)
    ),
    "generator, binomial": lambda h: (
        h * GENERATOR.binomial(tf.shape(h), 4 * tf.ones_like(h), 0.5, dtype=h.dtype)
    ),
    "global generator": lambda h: h + tf.random.get_global_generator().normal(**like(h)),
    "seeds of a generator": lambda h: (
        h + tf.random.stateless_normal(**like(h), seed=GENERATOR.make_seeds()[:, 0])
    ),
    "stateless": lambda h: (
        h * tf.random.stateless_uniform(**like(h), seed=[1, 2], minval=0.5, maxval=2.0)
    ),
    "compiled": tf.function(lambda h: h + tf.random.normal(**like(h))),
    "in a branch": lambda h: tf.cond(
        tf.reduce_sum(h) > -1e9, lambda: tf.nn.dropout(h, 0.3), lambda: h
    ),
    "in a loop": lambda h: tf.map_fn(lambda row: row * tf.random.uniform([4], dtype=h.dtype), h),
    "in a loop in a loop": lambda h: tf.map_fn(
        lambda row: tf.map_fn(lambda v: v * tf.random.uniform([], dtype=h.dtype), row), h
    ),
}
# What XLA cannot compile in training either.
NOT_FOR_XLA = ("gamma", "poisson", "generator, binomial")
FACTORS = [1.0, 1.01, -1.0]


def scaled(factor):
    """The identity, whose gradient is too large by a factor."""

    @tf.custom_gradient
    def identity(x):
        return tf.identity(x), lambda upstream: upstream * tf.cast(factor, upstream.dtype)

    return identity


class Noisy(layers.Layer):
    def __init__(self, draw, factor=1.0, **options):
        super().__init__(**options)
        self.draw, self.backward = draw, scaled(factor)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def call(self, x):
        return self.draw(self.backward(x))


class OwnStep(keras.Sequential):
    """A train step that is written by hand, with something of its own before the forward pass."""

    factor, aside = 1.0, staticmethod(lambda x: x)

    def train_step(self, data):
        x, y = data
        x = self.aside(x)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = [g * self.factor for g in tape.gradient(loss, self.trainable_variables)]
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def model_of(draw, factor=1.0, kind=keras.Sequential, dtype=None, **mode):
    keras.utils.set_random_seed(1)
    noisy = Noisy(draw, factor, name="noisy", dtype=dtype)
    stack = [
        layers.Input((6,)),
        layers.Dense(4, "tanh", dtype=dtype, name="below"),
        noisy,
        layers.Dense(6, name="head"),
    ]
    model = kind(stack, name="net")
    model.compile("sgd", "mse", **mode)
    return model


def checked(model):
    return gradhooks.check_gradients(model, X, X, samples=6)


def assert_judged(report, factor):
    """Asserts the derivatives by the factor, in float64, and what the optimizer receives."""
    assert report.precision.level == "float64", report
    assert report.verdict is (Verdict.PASS if factor == 1.0 else Verdict.FAIL), report
    failed = {c.path for c in report.failures if c.index is not None}
    assert failed == (set() if factor == 1.0 else {"net/below/kernel", "net/below/bias"}), report
    trained = [c for c in report.comparisons if c.term == "trained"]
    assert len(trained) == 4
    assert {c.verdict for c in trained} == {Verdict.PASS}, report


@pytest.mark.parametrize("factor", FACTORS[:2])
@pytest.mark.parametrize("name", DRAWS)
def test_every_way_to_draw(name, factor):
    assert_judged(checked(model_of(DRAWS[name], factor)), factor)


OFTEN = ("normal", "dropout", "categories", "generator", "in a loop", "stateless", "compiled")


@pytest.mark.parametrize(
    "mode", [{"run_eagerly": True}, {"jit_compile": True}], ids=["eager", "xla"]
)
@pytest.mark.parametrize(
    "name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.sweep) for n in DRAWS]
)
def test_every_way_to_train(name, mode):
    if "jit_compile" in mode and name in NOT_FOR_XLA:
        pytest.skip("XLA cannot compile it in training either")
    for factor in (1.0, -1.0):
        assert_judged(checked(model_of(DRAWS[name], factor, **mode)), factor)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.sweep) for n in DRAWS]
)
def test_every_precision(name, dtype):
    if (name, dtype) in (
        ("gamma", "mixed_bfloat16"),
        ("poisson", "mixed_bfloat16"),
        ("generator, binomial", dtype),
    ):
        pytest.skip("TensorFlow has no such operation")
    for factor in (1.0, 1.01):
        assert_judged(checked(model_of(DRAWS[name], factor, dtype=dtype)), factor)


@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_a_train_step_that_is_written_by_hand(mode):
    for factor in FACTORS:
        model = model_of(DRAWS["normal"], kind=OwnStep, **mode)
        model.factor = factor
        report = checked(model)
        assert report.verdict is (Verdict.PASS if factor == 1.0 else Verdict.FAIL)
        assert {c.term for c in report.failures} == (set() if factor == 1.0 else {"trained"})


@pytest.mark.parametrize(
    "draw", [tf.random.normal, GENERATOR.normal], ids=["operation", "generator"]
)
@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_a_train_step_that_adds_noise_of_its_own_does_not_fail(mode, draw):
    """What it differentiates is another loss; of the layers' noise nothing is lost by it."""
    model = model_of(DRAWS["dropout"], kind=OwnStep, **mode)
    model.aside = lambda x: x + 0.1 * draw(tf.shape(x))
    report = checked(model)
    assert report.verdict is Verdict.PASS
    assert [c.reason for c in report.comparisons if c.term == "trained"] == [Reason.NOT_RECORDED]
    assert any("draws random numbers where the loss does not" in note for note in report.notes)
    # As long as it has no effect on the gradient, there is nothing to refuse.
    model.aside = lambda x: x + 0.0 * draw(tf.shape(x))
    assert {c.verdict for c in checked(model).comparisons if c.term == "trained"} == {Verdict.PASS}


def test_iterations_draw_different_numbers():
    def centred(h):
        numbers = tf.map_fn(lambda row: tf.random.normal([4], dtype=row.dtype), h)
        return h * (numbers - tf.reduce_mean(numbers, 0))  # zero, if all were the same

    report = checked(model_of(centred))
    assert report.verdict is Verdict.PASS
    assert report.relative_difference["total"] > 0


class InALoss(keras.losses.Loss):
    """Draws in `compute_loss`, which runs twice for a model with a penalty."""

    def call(self, y, y_pred):
        return tf.reduce_mean(
            (y - y_pred) ** 2 * tf.random.uniform(tf.shape(y), dtype=y_pred.dtype), -1
        )


@pytest.mark.parametrize("factor", FACTORS[:2])
def test_a_loss_that_draws_beside_a_penalty(factor):
    keras.utils.set_random_seed(1)
    penalized = layers.Dense(4, "tanh", kernel_regularizer="l2", name="below")
    model = keras.Sequential(
        [layers.Input((6,)), penalized, Noisy(DRAWS["dropout"], factor), layers.Dense(6)],
        name="net",
    )
    model.compile("sgd", InALoss())
    report = checked(model)
    assert_judged(report, factor)
    assert report.loss["total"] == pytest.approx(
        report.loss["data"] + report.loss["penalty"], rel=1e-12
    )


# What lets no gradient through in training lets none through here, and is found.
@pytest.mark.parametrize(
    "draw",
    [tf.random.shuffle, lambda h: tf.cast(tf.random.poisson([], tf.exp(h)), h.dtype)],
    ids=["shuffle", "poisson"],
)
def test_what_blocks_in_training_blocks_here(draw):
    report = checked(model_of(draw))
    assert {
        (c.path, c.reason)
        for c in report.failures
        if c.path == "net/below/kernel" and c.term == "total"
    } == {("net/below/kernel", Reason.BLOCKED)}


# What is drawn, or written, at float32 meets what the check has promoted.
MIXTURES = {
    "times": lambda h: h * tf.random.normal([4]),
    "minus": lambda h: tf.random.uniform([]) - h,
    "over": lambda h: h / (1 + tf.random.uniform([4])),
    "beside": lambda h: tf.concat([h[:, :2], tf.random.normal([12, 2])], -1),
    "below": lambda h: tf.where(
        tf.random.uniform([12, 4]) < tf.sigmoid(tf.stop_gradient(h)), h, 0.0
    ),
    "constant": lambda h: tf.einsum("ij,jk->ik", h, tf.eye(4) + 0.1),
    "maximum": lambda h: tf.maximum(h, tf.random.uniform([4], -3, -2)),
}


@pytest.mark.parametrize("factor", FACTORS[:2])
@pytest.mark.parametrize("name", MIXTURES)
def test_narrow_numbers_beside_wide_ones(name, factor):
    assert_judged(checked(model_of(MIXTURES[name], factor)), factor)


# What stays as it is, is named.
def python_noise(h):
    numbers = tf.numpy_function(lambda: np.random.default_rng().normal(size=4), [], tf.float64)
    return h * tf.cast(tf.reshape(numbers, [4]), h.dtype)


@tf.custom_gradient
def shaky(h):
    return tf.identity(
        h
    ), lambda upstream: upstream * (1 + 0.1 * tf.random.normal(**like(upstream)))


@tf.recompute_grad
def recomputed(h):
    """Draws another mask while it is differentiated than before."""
    return tf.nn.dropout(h, 0.5)


LEFT = {
    "concrete function": (
        lambda h: h * tf.cast(DICE(), h.dtype),
        "net/noisy: draws from TensorFlow's own generator",
    ),
    "Python": (python_noise, "net/noisy: runs Python code"),
    "gamma of a variable": (
        lambda h: tf.random.gamma([], tf.exp(h)),
        "net/noisy/random_gamma: draws from TensorFlow's",
    ),
    "backpropagation": (shaky, "random_normal: draws from TensorFlow's own generator"),
    "recomputation": (recomputed, "random_uniform: draws from TensorFlow's own generator"),
}


@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_to_chance_is_named(name, mode):
    draw, expected_note = LEFT[name]
    check = gradhooks.GradientCheck(X, X, samples=4)
    with pytest.warns(gradhooks.GradientCheckWarning, match="not_deterministic"):
        model_of(draw, **mode).fit(X, X, epochs=2, verbose=0, callbacks=[check])
    # All of them: what was seen once is looked for again.
    assert [r.reason for r in check.reports] == [Reason.NOT_DETERMINISTIC] * 3
    assert all(any(expected_note in note for note in r.notes) for r in check.reports), (
        check.reports[0].notes
    )


@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda h: h * (1 + np.random.uniform()), "np.random.uniform"),
        (lambda h: h * (1 + random.random()), "random.random"),
        (tf.function(lambda h: h * (1 + np.random.uniform())), "np.random.uniform"),
        (lambda h: keras.random.dropout(h, 0.3), None),
        (lambda h: h * np.float32(2), None),
    ],
    ids=["NumPy", "Python", "compiled", "Keras", "no draw"],
)
def test_numbers_that_are_drawn_while_tracing_are_reported(draw, name, mode):
    report = checked(model_of(draw, **mode))
    notes = [note for note in report.notes if "the model's code draws from" in note]
    assert len(notes) == (name is not None)
    for note in notes:
        assert name in note
        assert ("training sees the same numbers in every step" in note) == (not mode)


# Training is what it was


def drawing_by(*names):
    return lambda h: functools.reduce(lambda h, name: DRAWS[name](h), names, h)


EVERYWHERE = drawing_by("normal", "dropout", "generator", "global generator")
# By XLA, operations without a generator draw other numbers in every run, with a seed too and
# without any check.
REPEATABLY = drawing_by("generator", "global generator")


def restarted(**mode):
    random.seed(5)
    np.random.seed(6)
    GENERATOR.reset_from_seed(9)
    tf.random.get_global_generator().reset_from_seed(8)
    keras.utils.clear_session(free_memory=False)
    model = model_of(REPEATABLY if "jit_compile" in mode else EVERYWHERE, **mode)
    tf.random.set_seed(7)
    return model


def left_by(model):
    """Everything that training has written to, and what is drawn next wherever it has drawn."""
    drawn = [
        tf.random.normal([3]),
        GENERATOR.normal([3]),
        tf.random.get_global_generator().normal([3]),
    ]
    return (
        digest.digest(model),
        [d.numpy().tolist() for d in drawn],
        np.random.normal(size=3).tolist(),
        random.random(),
    )


@pytest.mark.parametrize(
    "mode", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=["graph", "eager", "xla"]
)
def test_training_draws_what_it_drew(mode):
    def trained(*callbacks):
        model = restarted(**mode)
        model.fit(X, X, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        return left_by(model)

    check = gradhooks.GradientCheck(X, X, freq=1, samples=4)
    plain = trained()
    assert trained(check) == plain
    assert {r.verdict for r in check.reports} == {Verdict.PASS}
    assert trained() == plain  # or the comparison says nothing


@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_batches_one_by_one_draw_what_they_drew(mode):
    def trained(is_checking):
        model = restarted(**mode)
        for _ in range(3):
            if is_checking:
                assert checked(model).verdict is Verdict.PASS
            model.train_on_batch(X, X)
        return left_by(model)

    assert trained(True) == trained(False)
