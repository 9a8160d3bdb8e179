"""Complex weights: real and imaginary parts are parameters of their own, and both are checked."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks import Reason, Verdict
from tests import digest, models

SIDE = 8


def normal(shape, dtype):
    """An initializer of complex numbers, the same at every call."""
    rng = np.random.default_rng(5)
    return tf.constant(rng.normal(size=shape) + 1j * rng.normal(size=shape), dtype)


def times(z, w):
    return z * w


@tf.custom_gradient
def times_by_hand(z, w):
    """The product, with its gradient written out."""
    return z * w, lambda upstream: (
        upstream * tf.math.conj(w),
        tf.reduce_sum(upstream * tf.math.conj(z), 0),
    )


@tf.custom_gradient
def times_without_conjugation(z, w):
    """The gradient of real numbers, which is not that of complex ones."""
    return z * w, lambda upstream: (upstream * tf.math.conj(w), tf.reduce_sum(upstream * z, 0))


@tf.custom_gradient
def times_conjugated(z, w):
    """Returns the derivative of a holomorphic function; TensorFlow wants its conjugate."""

    def gradient(upstream):
        return upstream * tf.math.conj(w), tf.reduce_sum(
            tf.math.conj(upstream * tf.math.conj(z)), 0
        )

    return z * w, gradient


@tf.custom_gradient
def times_half_too_large(z, w):
    """The imaginary part alone is wrong, by half of itself."""

    def gradient(upstream):
        right = tf.reduce_sum(upstream * tf.math.conj(z), 0)
        return upstream * tf.math.conj(w), tf.complex(
            tf.math.real(right), 1.5 * tf.math.imag(right)
        )

    return z * w, gradient


@tf.custom_gradient
def times_turned(z, w):
    """Turned by a right angle."""

    def gradient(upstream):
        return upstream * tf.math.conj(w), tf.reduce_sum(
            upstream * tf.math.conj(z) * tf.constant(1j, z.dtype), 0
        )

    return z * w, gradient


@tf.custom_gradient
def times_the_real_part(z, w):
    """The gradient that a real weight would have."""

    def gradient(upstream):
        right = tf.math.real(tf.reduce_sum(upstream * tf.math.conj(z), 0))
        return upstream * tf.math.conj(w), tf.complex(right, tf.zeros_like(right))

    return z * w, gradient


class Complex(layers.Layer):
    """A layer with a complex weight."""

    def __init__(self, times=times, kind="complex64", **kwargs):
        super().__init__(**kwargs)
        self._times, self._kind = times, kind

    def weight(self, *shape):
        return self.add_weight(shape=shape, dtype=self._kind, initializer=normal, name="w")

    def complex_of(self, x):
        return tf.cast(x, self.w.dtype)


class Spectral(Complex):
    """Multiplies frequencies."""

    def build(self, shape):
        self.w = self.weight(shape[-1] // 2 + 1)

    def call(self, x):
        spectrum = tf.signal.rfft(
            tf.cast(x, "float64" if self._kind == "complex128" else "float32")
        )
        return tf.cast(
            tf.signal.irfft(self._times(spectrum, tf.convert_to_tensor(self.w))), x.dtype
        )


class Gate(Complex):
    """Multiplies numbers, and returns the size of what comes out."""

    def build(self, shape):
        self.w = self.weight(shape[-1])

    def call(self, x):
        z = self._times(
            self.complex_of(x) * tf.constant(1 + 0.5j, self.w.dtype), tf.convert_to_tensor(self.w)
        )
        return tf.cast(tf.math.real(z * tf.math.conj(z)) + 0.3 * tf.math.imag(z), x.dtype)


class Mixing(Complex):
    """A dense layer of complex numbers, and a holomorphic function behind it."""

    def build(self, shape):
        self.w = self.weight(shape[-1], 3)

    def call(self, x):
        z = tf.exp(0.1 * self.complex_of(x) @ tf.convert_to_tensor(self.w))
        return tf.cast(tf.concat([tf.math.real(z), tf.math.imag(z), tf.abs(z)], -1), x.dtype)


class Scalar(Complex):
    """One complex number."""

    def build(self, shape):
        self.w = self.weight()

    def call(self, x):
        return tf.cast(
            tf.math.real(tf.math.sin(self.complex_of(x) * tf.convert_to_tensor(self.w))), x.dtype
        )


class Conjugates(keras.Sequential):
    """Its step hands on conjugated gradients."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = [tf.math.conj(g) for g in tape.gradient(loss, self.trainable_variables)]
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def data():
    return models.data((SIDE,), (1,), 0)


def built(layer, kind=keras.Sequential, **options):
    keras.utils.set_random_seed(0)
    model = kind([layers.Input((SIDE,)), layers.Dense(SIDE), layer, layers.Dense(1)])
    return models.compiled(model, **options)


HEALTHY = {
    "spectral": lambda: built(Spectral(name="odd")),
    "spectral, wide": lambda: built(Spectral(kind="complex128", name="odd")),
    "by hand": lambda: built(Spectral(times_by_hand, name="odd")),
    "gate": lambda: built(Gate(name="odd")),
    "gate by hand": lambda: built(Gate(times_by_hand, name="odd")),
    "holomorphic": lambda: built(Mixing(name="odd")),
    "a single number": lambda: built(Scalar(name="odd")),
    "eagerly": lambda: built(Gate(name="odd"), run_eagerly=True),
}
WRONG = {
    wrong.__name__: (kind, wrong)
    for wrong in (
        times_without_conjugation,
        times_conjugated,
        times_half_too_large,
        times_turned,
        times_the_real_part,
    )
    for kind in (Gate,)
} | {
    "spectral": (Spectral, times_without_conjugation),
    "spectral, turned": (Spectral, times_turned),
}
PRECISIONS = [(case, "auto") for case in WRONG] + [
    ("times_without_conjugation", "model"),
    ("spectral, turned", "model"),
]


@pytest.mark.parametrize("case", HEALTHY)
def test_right_gradients_pass_and_the_loss_is_that_of_the_model(case):
    model = HEALTHY[case]()
    x, y = data()
    before = digest.digest(model)
    report = gradhooks.check_gradients(model, x, y, samples=100)
    assert digest.digest(model) == before
    assert report.verdict is Verdict.PASS, report
    assert report.precision.level == "float64"
    assert report.loss["total"] == pytest.approx(
        model.evaluate(x[:32], y[:32], verbose=0), rel=1e-5
    )
    assert report.relative_difference["total"] < 1e-8
    assert report.relative_difference["trained"] < 1e-4
    checked = {c.index[-1] for c in report.comparisons if "odd" in c.path and c.index is not None}
    assert checked == {0, 1}
    assert any("1 for the imaginary" in note for note in report.notes)


@pytest.mark.parametrize(("case", "precision"), PRECISIONS)
def test_wrong_gradients_fail(case, precision):
    kind, wrong = WRONG[case]
    x, y = data()
    report = gradhooks.check_gradients(built(kind(wrong, name="odd")), x, y, precision=precision)
    assert report.verdict is Verdict.FAIL, report
    assert {c.path.rpartition("/")[2] for c in report.failures if c.index is not None} == {"w"}
    assert any("odd" in c.path for c in report.failures)


def test_at_its_own_precision_right_gradients_pass():
    x, y = data()
    report = gradhooks.check_gradients(built(Gate(name="odd")), x, y, precision="model")
    assert report.verdict is Verdict.PASS, report


def test_a_step_that_hands_on_something_else_fails():
    x, y = data()
    report = gradhooks.check_gradients(built(Gate(name="odd"), Conjugates), x, y)
    assert report.verdict is Verdict.FAIL
    assert {(c.path.rpartition("/")[2], c.term, c.reason) for c in report.failures} == {
        ("w", "trained", Reason.UNTRAINED)
    }


def test_a_frozen_one_is_as_wide_as_the_rest():
    model = built(Gate(name="odd"))
    model.get_layer("odd").trainable = False
    model.compile("sgd", "mse")
    x, y = data()
    report = gradhooks.check_gradients(model, x, y)
    assert (report.verdict, report.precision.level, report.notes) == (Verdict.PASS, "float64", ())


def test_complex_data_are_as_wide_as_the_rest():
    keras.utils.set_random_seed(0)
    x, y = data()
    z = (x + 1j * x[::-1]).astype("complex64")
    model = keras.Sequential(
        [layers.Input((SIDE,), dtype="complex64"), OfData(name="odd"), layers.Dense(1)]
    )
    models.compiled(model)
    report = gradhooks.check_gradients(model, z, y)
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "float64")
    assert report.loss["total"] == pytest.approx(
        model.evaluate(z[:32], y[:32], verbose=0), rel=1e-5
    )


class OfData(Complex):
    """Takes complex inputs."""

    def build(self, shape):
        self.w = self.weight(shape[-1])

    def call(self, z):
        z = z * tf.convert_to_tensor(self.w)
        return tf.math.real(z) * tf.math.imag(z)


def test_a_narrow_cast_to_complex_numbers_keeps_its_digits():
    class Narrow(Complex):
        def call(self, x):
            z = tf.cast(x, tf.complex64)
            return tf.cast(tf.math.real(z * z) * 0.5, x.dtype)

    x, y = data()
    report = gradhooks.check_gradients(built(Narrow()), x, y)
    assert (report.verdict, report.precision.level) == (Verdict.PASS, "float64")
    assert report.relative_difference["total"] < 1e-8


@pytest.mark.parametrize("eager", [False, True])
def test_training_goes_on_as_without(eager):
    x, y = data()
    ends = []
    for callbacks in ([], [gradhooks.GradientCheck(x, y, samples=4)]):
        model = built(Gate(name="odd"), run_eagerly=eager)
        model.fit(x, y, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        ends.append([w.tobytes() for w in model.get_weights()])
    assert ends[0] == ends[1]
    assert [r.verdict for r in callbacks[0].reports] == [Verdict.PASS] * 3
