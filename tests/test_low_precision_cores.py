"""Parts of low precision inside a wide loss, complex64, float32 and quantizers, are named."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradhooks import Verdict, check_gradients
from gradhooks.testing import assert_gradients
from tests.corpora.mutants.planted import Through

IMAGES = np.random.default_rng(0).normal(size=(2, 4, 8, 8, 1)).astype("float32")
PHASES = np.exp(1j * np.linspace(0.0, 3.0, 8)).astype("complex64")


def scale_gradient(factor):
    """Returns the identity whose gradient is off by a factor."""

    @tf.custom_gradient
    def identity(x):
        return tf.identity(x), lambda upstream: upstream * factor

    return identity


def spectrum_loss(y, p):
    """Compares spectra in single precision, however wide the model is."""
    spectrum = tf.signal.fft2d(tf.cast(p - tf.cast(y, p.dtype), tf.complex64)[..., 0])
    return tf.reduce_mean(tf.abs(spectrum) ** 2)


def phases_in_between(x):
    """Turns each row in the complex plane, by phases of complex64."""
    turned = tf.cast(x, tf.complex64) * tf.constant(PHASES)[:, None]
    return tf.cast(tf.math.real(turned) + 0.3 * tf.math.imag(turned) ** 2, x.dtype)


def spectral_filter(x):
    """Filters the spectrum, in single precision."""
    spectrum = tf.signal.fft(tf.cast(x[..., 0], tf.complex64)) * tf.cast(
        tf.linspace(1.0, 0.1, 8), tf.complex64
    )
    return tf.cast(tf.math.real(tf.signal.ifft(spectrum)), x.dtype)[..., None]


def float32_kernel(x):
    """Computes in float32, with a constant of that dtype."""
    mixed = tf.tensordot(tf.cast(x, tf.float32), tf.constant([[0.7]], tf.float32), 1)
    return tf.cast(tf.tanh(mixed), x.dtype)


def report_on(between, loss, factor, seed=0):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(2, 3, padding="same", activation="tanh", name="below"),
            Through(scale_gradient(factor), name="planted"),
            layers.Conv2D(1, 3, padding="same", name="above"),
            Through(between, name="core"),
        ]
    )
    model.compile("adam", loss)
    return check_gradients(model, *IMAGES, seed=seed)


CORES = {
    "loss in complex64": (tf.identity, spectrum_loss),
    "complex64 constants": (phases_in_between, "mse"),
    "transform in complex64": (spectral_filter, "mse"),
    "float32 kernel": (float32_kernel, "mse"),
}


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.sweep) for s in range(1, 6))]
)
@pytest.mark.parametrize("factor", [1.0, 1.001, 1.01, 1.1, -1.0])
@pytest.mark.parametrize("core", CORES)
def test_a_part_of_low_precision_hides_no_error(core, factor, seed):
    report = report_on(*CORES[core], factor, seed)
    if factor == 1.0:
        assert report.verdict is Verdict.PASS, report
    else:
        assert report.verdict is Verdict.FAIL, report
        assert all("below" in d.path for d in report.diagnoses), report


@pytest.mark.parametrize("core", CORES)
def test_the_report_states_the_precision_in_use(core):
    report = report_on(*CORES[core], 1.0)
    has_few_digits = report.precision.noise > 1e-10 * report.loss["total"]
    assert has_few_digits == (report.precision.level != "float64"), report
    assert report.threshold == (1e-4 if has_few_digits else 1e-7)
    assert bool(report.precision.note) == has_few_digits


class Quantized(keras.layers.Layer):
    """Hidden units rounded to a grid, with the gradient of the identity."""

    def __init__(self, units, quantize):
        super().__init__()
        self.hidden, self.out = (
            keras.layers.Dense(units, "tanh", name="hidden"),
            keras.layers.Dense(2, name="out"),
        )
        self.quantize = quantize

    def call(self, x):
        h = self.hidden(x)
        return self.out(h + tf.stop_gradient(self.quantize(h) - h))


def rounding(h):
    return tf.round(h * 127) / 127


def integers(h):
    return tf.cast(tf.cast(tf.round(h * 127), tf.int32), h.dtype) / 127


def table(h):
    levels = tf.cast(tf.linspace(-1.0, 1.0, 255), h.dtype)
    return tf.gather(levels, tf.cast(tf.round((h + 1) * 127), tf.int32))


@pytest.mark.parametrize("quantize", [rounding, integers, table])
@pytest.mark.parametrize("units", [8, 128, 1024])
def test_many_small_steps_are_distinguished_from_rounding_noise(units, quantize):
    keras.utils.set_random_seed(0)
    layer = Quantized(units, quantize)
    x = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    with pytest.raises(AssertionError, match="straight-through estimator, or a wrong gradient"):
        assert_gradients(layer, x)


def test_an_undecided_check_of_a_loss_in_steps_says_so():
    """Every unit sits exactly on a jump."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, kernel_initializer="zeros", name="still"),
            Through(lambda h: h + tf.sign(h), name="jump"),
            keras.layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse")
    report = check_gradients(model, x, np.ones((10, 2)))
    assert report.verdict is Verdict.INCONCLUSIVE, report
    assert any(
        "moves in steps" in note and "jump" in note and "Sign" in note for note in report.notes
    ), report
