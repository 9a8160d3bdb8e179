"""Losses with narrow constants are checked in float64, unless they insist on float32."""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Verdict
from tests import digest
from tests.corpora.mutants import planted
from tests.test_bit_identity import MODES, seeded

rng = np.random.default_rng(0)
ROWS, CLASSES = 16, 3
X, Y = (
    rng.normal(size=(ROWS, 4)).astype("float32"),
    rng.normal(size=(ROWS, CLASSES)).astype("float32"),
)
NUMBERS = np.array([0.3, 1.7, 4.1], "float32")
GLOBAL = tf.constant(NUMBERS)
LARGE = tf.constant(np.resize(NUMBERS, (ROWS, 64, CLASSES)))  # too large to be copied into a graph


class Helper:
    """No layer, no variable of the model's: nobody at Keras knows of it."""

    def __init__(self):
        self.numbers = {"of classes": [tf.constant(NUMBERS)]}
        self.scale = tf.Variable(1.3)

    def weighted(self, y, p, at):
        return tf.reduce_sum(self.numbers["of classes"][0] * (y - at(p)) ** 2, -1) * self.scale


class Weighted(keras.losses.Loss):
    """Holds what it needs itself, or in an object of its own."""

    def __init__(self, at, held):
        super().__init__(name="weighted")
        self.at, self.held = at, held

    def call(self, y, p):
        if isinstance(self.held, Helper):
            return self.held.weighted(y, p, self.at)
        return tf.reduce_sum(self.held * (y - self.at(p)) ** 2, -1)


def closure(numbers):
    def build(at):
        return lambda y, p: ops.sum(ops.multiply(numbers, (y - at(p)) ** 2), axis=-1)

    return build


def of_raw_operations(numbers):
    def build(at):
        def first(y, p):
            return tf.reduce_sum(tf.multiply(numbers, tf.square(at(p) - y)), -1)

        def last(y, p):
            return tf.reduce_sum(tf.multiply(tf.square(at(p) - y), numbers), -1)

        return lambda y, p: first(y, p) + last(y, p)

    return build


def of_a_global(at):
    return lambda y, p: tf.reduce_sum(GLOBAL * (y - at(p)) ** 2, -1)


def of_a_default(at):
    def loss(y, p, numbers=tf.constant(NUMBERS)):
        return tf.reduce_sum(numbers * (y - at(p)) ** 2, -1)

    return loss


def of_a_partial(at):
    def loss(y, p, numbers):
        return tf.reduce_sum((y - at(p)) ** 2 * numbers, -1)

    return functools.partial(loss, numbers=tf.constant(NUMBERS))


def of_a_method(at):
    return functools.partial(Helper().weighted, at=at)


def of_a_count(at):
    return lambda y, p: tf.reduce_mean(tf.cast(y > 0, tf.float32) * (y - at(p)) ** 2, -1)


def of_a_constant_inside(at):
    return lambda y, p: tf.reduce_sum(tf.constant([0.3, 1.7, 4.1]) * (y - at(p)) ** 2, -1)


def of_a_table(at):
    table = tf.Variable(NUMBERS)
    return lambda y, p: tf.reduce_sum((y - at(p)) ** 2, -1) * tf.gather(table, tf.argmax(y, -1))


def of_a_loop(at):
    def loss(y, p):
        def add(k, total):
            return k + 1, total + tf.reduce_sum(LARGE[:, k] * (y - at(p)) ** 2, -1)

        return tf.while_loop(
            lambda k, _: k < 5, add, (0, tf.zeros_like(p[:, 0])), maximum_iterations=5
        )[1]

    return loss


def of_a_branch(at):
    numbers = tf.constant(NUMBERS)

    def loss(y, p):
        p = at(p)
        squares = tf.cond(
            tf.reduce_sum(y) > 1e3, lambda: (y - p) ** 2, lambda: numbers * (y - p) ** 2
        )
        return tf.reduce_sum(squares, -1)

    return loss


def of_a_graph_function(at):
    numbers = tf.constant(NUMBERS)

    @tf.function
    def loss(y, p):
        return tf.reduce_sum(numbers * (y - at(p)) ** 2, -1)

    return loss


HOLDING = {
    "NumPy": closure(NUMBERS),
    "a constant": closure(tf.constant(NUMBERS)),
    "a variable of TensorFlow": closure(tf.Variable(NUMBERS)),
    "a variable of Keras": closure(keras.Variable(NUMBERS)),
    "a constant in half precision": closure(tf.constant(NUMBERS, "float16")),
    "a constant, raw operations": of_raw_operations(tf.constant(NUMBERS)),
    "a variable, raw operations": of_raw_operations(tf.Variable(NUMBERS)),
    "a global": of_a_global,
    "a default argument": of_a_default,
    "a partial": of_a_partial,
    "a method of a helper": of_a_method,
    "an attribute of a loss": lambda at: Weighted(at, tf.constant(NUMBERS)),
    "a helper of a loss": lambda at: Weighted(at, Helper()),
    "truth values": of_a_count,
    "a constant made inside": of_a_constant_inside,
    "a table": of_a_table,
    "a loop": of_a_loop,
    "a branch": of_a_branch,
    "a graph function": of_a_graph_function,
}


def asserts(at):
    def loss(y, p):
        assert p.dtype == tf.float32
        return tf.reduce_mean((y - at(p)) ** 2, -1)

    return loss


def raises(kind):
    def build(at):
        def loss(y, p):
            if keras.backend.standardize_dtype(p.dtype) != "float32":
                raise kind("predictions must be float32")
            return tf.reduce_mean((y - at(p)) ** 2, -1)

        return loss

    return build


def converts(at):
    return lambda y, p: tf.reduce_mean(
        (tf.convert_to_tensor(at(p), tf.float32) - tf.cast(y, tf.float32)) ** 2, -1
    )


def maps(at):
    def loss(y, p):
        rows = (y, at(p))
        return tf.map_fn(
            lambda r: tf.reduce_mean((r[0] - r[1]) ** 2), rows, fn_output_signature=tf.float32
        )

    return loss


def normalizes(at):
    """By an operation that exists in single precision alone."""

    def loss(y, p):
        p = tf.nn.local_response_normalization(at(p)[:, None, None, :], depth_radius=1)
        return tf.reduce_mean((y - p[:, 0, 0]) ** 2, -1)

    return loss


class Strict(keras.losses.Loss):
    def __init__(self, at):
        super().__init__(name="strict")
        self.at = at

    def call(self, y, p):
        tf.debugging.assert_type(p, tf.float32)
        return ops.mean((y - self.at(p)) ** 2, axis=-1)


INSISTING = {
    "assert": asserts,
    "ValueError": raises(ValueError),
    "TypeError": raises(TypeError),
    "RuntimeError": raises(RuntimeError),
    "convert_to_tensor": converts,
    "map_fn": maps,
    "an operation": normalizes,
    "a Loss": Strict,
}


def network(loss, middle=(), **options):
    keras.utils.set_random_seed(1)
    stack = [
        layers.Input((4,)),
        layers.Dense(5, "tanh", name="below"),
        *middle,
        layers.Dense(CLASSES, name="head"),
    ]
    model = keras.Sequential(stack)
    model.compile("sgd", loss, **options)
    return model


def checked(model, y=Y, **options):
    return gradhooks.check_gradients(model, X, y, **{"samples": 8} | options)


def assert_wrong_by(factor, report):
    """Everything below the loss is wrong, by one factor, as far as the digits go."""
    digits = 1e-2 if report.precision.level == "model" else 1e-3
    assert report.verdict is Verdict.FAIL, report
    assert {c.path.split("/")[-2] for c in report.failures if c.index is not None} == {
        "below",
        "head",
    }
    for comparison in report.failures:
        if comparison.index is not None:
            bar = comparison.error / abs(comparison.numeric)
            ratio = comparison.analytic / comparison.numeric
            assert ratio == pytest.approx(factor, rel=digits + bar)


@pytest.mark.parametrize("name", HOLDING)
def test_what_a_loss_holds_is_widened(name):
    model = network(HOLDING[name](planted.honest))
    fresh = checked(model, train_step=False)
    assert (fresh.verdict, fresh.precision.level, fresh.precision.note) == (
        Verdict.PASS,
        "float64",
        "",
    ), fresh
    assert_wrong_by(1.01, checked(network(HOLDING[name](planted.scale(1.01))), train_step=False))


@pytest.mark.parametrize(
    "name", ["a constant", "a variable of TensorFlow", "an attribute of a loss", "truth values"]
)
def test_it_is_the_same_loss_before_a_fit_and_after(name):
    model = network(HOLDING[name](planted.honest))
    left = digest.digest(model)
    checked(model)
    checked(model, precision="model")
    assert digest.digest(model) == left
    model.fit(X, Y, batch_size=ROWS, verbose=0)
    report = checked(model)
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "float64"), report
    assert report.loss["total"] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-6)


@pytest.mark.parametrize("name", INSISTING)
def test_what_insists_on_float32_gets_it(name):
    model = network(INSISTING[name](planted.honest))
    report = checked(model)
    assert (report.verdict, report.precision.level, report.threshold) == (
        Verdict.PASS,
        "partial",
        1e-4,
    ), report
    (native,) = report.precision.native_layers
    assert native.startswith("the loss ")
    assert native in report.precision.note
    assert_wrong_by(1.01, checked(network(INSISTING[name](planted.scale(1.01))), train_step=False))


@pytest.mark.parametrize("name", INSISTING)
def test_so_it_does_at_native_precision(name):
    report = checked(network(INSISTING[name](planted.honest)), precision="model")
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "model"), report
    assert_wrong_by(
        1.1,
        checked(network(INSISTING[name](planted.scale(1.1))), precision="model", train_step=False),
    )


def test_the_layers_are_in_float64_all_the_same():
    """The loss alone stays native: a wrong layer is found where it is, and it alone."""
    wrong = planted.Dense(5, on_kernel=planted.scale(1.02), name="wrong")
    report = checked(network(asserts(planted.honest), [wrong]), samples=16)
    assert report.verdict is Verdict.FAIL, report
    assert {c.path.split("/", 1)[-1] for c in report.failures if c.index is not None} == {
        "wrong/kernel"
    }


# No operation in float64 on a CPU.
IN_FLOAT32 = layers.Reshape((2, 2, 2, 1)), layers.MaxPooling3D(2, name="pool"), layers.Flatten()


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("a constant", ["pool"]),
        ("truth values", ["pool"]),
        ("convert_to_tensor", ["pool", "the loss <lambda>"]),
    ],
)
def test_beside_a_layer_that_stays_native(name, native):
    for at, verdict in ((planted.honest, Verdict.PASS), (planted.scale(1.02), Verdict.FAIL)):
        loss = (HOLDING | INSISTING)[name](at)
        report = checked(
            network(loss, [layers.Dense(8), *IN_FLOAT32], metrics=["mae"]), train_step=False
        )
        assert (report.verdict, report.precision.level) == (verdict, "partial"), report
        assert [path.split("/")[-1] for path in report.precision.native_layers] == native


@pytest.mark.parametrize("is_fitted", [False, True])
@pytest.mark.parametrize("at", [planted.honest, planted.scale(1.01)], ids=["healthy", "wrong"])
def test_one_of_several_losses(at, is_fitted):
    keras.utils.set_random_seed(1)
    x = layers.Input((4,))
    hidden = layers.Dense(5, "tanh")(x)
    model = keras.Model(
        x, {"a": layers.Dense(3, name="a")(hidden), "b": layers.Dense(3, name="b")(hidden)}
    )
    model.compile("sgd", {"a": asserts(at), "b": "mse"}, loss_weights={"a": 2.0, "b": 0.5})
    y = {"a": Y, "b": -Y}
    if is_fitted:
        model.fit(X, y, batch_size=ROWS, verbose=0)
    report = checked(model, y)
    assert report.precision.level == "partial"
    assert report.precision.native_layers == ("the loss loss, mse",)
    assert report.verdict is (Verdict.PASS if at is planted.honest else Verdict.FAIL), report
    if at is not planted.honest:
        assert not any(c.path.startswith("b/") for c in report.failures)


class Scaling(layers.Layer):
    """Keeps its numbers in an object that is no layer, or insists on float32 for them."""

    def __init__(self, at, insists, **options):
        super().__init__(**options)
        self.at, self.insists, self.helper = at, insists, Helper()

    def call(self, x):
        scale = self.helper.scale * self.helper.numbers["of classes"][0][1]
        if self.insists:
            scale = tf.ensure_shape(
                tf.cast(tf.reduce_sum(scale * tf.zeros(3) + scale), x.dtype), ()
            )
        return self.at(x) * scale


@pytest.mark.parametrize("insists", [False, True])
def test_helpers_of_layers(insists):
    for at, verdict in ((planted.honest, Verdict.PASS), (planted.scale(1.01), Verdict.FAIL)):
        report = checked(network("mse", [Scaling(at, insists)]))
        assert (report.verdict, report.precision.level) == (verdict, "float64"), report
        if verdict is Verdict.FAIL:
            assert all("below" in c.path for c in report.failures if c.index is not None)


@keras.saving.register_keras_serializable("gradhooks.tests")
class Penalty(keras.regularizers.Regularizer):
    def __init__(self, at):
        self.at, self.factors = at, [tf.constant(0.01), tf.Variable(2.0)]

    def __call__(self, kernel):
        return tf.reduce_sum(self.factors[0] * self.at(kernel) ** 2) * self.factors[1]


def test_what_a_regularizer_holds():
    for at, verdict in ((planted.honest, Verdict.PASS), (planted.scale(1.01), Verdict.FAIL)):
        model = network("mse", [layers.Dense(5, kernel_regularizer=Penalty(at), name="held")])
        report = checked(model, samples=16)
        assert (report.verdict, report.precision.level) == (verdict, "float64"), report
        if verdict is Verdict.FAIL:
            assert all("held/kernel" in c.path for c in report.failures if c.index is not None)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a helper of a loss", "eager"),
        ("a loop", "graph"),
        ("a table", "xla"),
        ("assert", "graph"),
        ("assert", "eager"),
    ],
)
def test_training_is_the_same_with_checks(name, mode):
    build = (HOLDING | INSISTING)[name]

    def trained(callbacks):
        model = seeded(lambda: network(build(planted.honest), [layers.Dropout(0.2)], **MODES[mode]))
        history = model.fit(
            X, Y, batch_size=ROWS, epochs=3, verbose=0, shuffle=False, callbacks=callbacks
        ).history
        return digest.digest(model), history["loss"]

    check = gradhooks.GradientCheck(X, Y, samples=4, on_failure="raise")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", gradhooks.GradientCheckWarning)
        with_checks = trained([check])
    assert with_checks == trained([])
    assert [r.verdict for r in check.reports] == [Verdict.PASS] * 4
    # That a part of it is checked with fewer digits is said, once.
    said = [w for w in caught if w.category is gradhooks.GradientCheckWarning]
    assert ["the loss" in str(w.message) for w in said] == [True] * (name == "assert")
