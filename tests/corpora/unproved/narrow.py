"""Single precision inside, whatever the precision around it."""

from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.corpora.corpus import seeded
from tests.corpora.unproved.building import WIDTH, Entry, applied, multiplied, regression, stem


def unit_length(x):
    narrow = tf.cast(x, tf.float32)
    return tf.cast(
        narrow / tf.sqrt(tf.reduce_mean(narrow * narrow, -1, keepdims=True) + 1e-3), x.dtype
    )


def by_numpy(x):
    """NumPy gives the values, and a hand-written gradient what comes back."""

    @tf.custom_gradient
    def softplus(x):
        found = tf.numpy_function(
            lambda v: np.logaddexp(np.float32(0), v.astype("float32")), [x], tf.float32
        )
        return tf.ensure_shape(
            tf.cast(found, x.dtype), x.shape
        ), lambda upstream: upstream * tf.sigmoid(x)

    return softplus(x)


def by_python(x):
    found = tf.py_function(lambda v: tf.sin(tf.cast(v, tf.float32)), [x], tf.float32)
    return tf.ensure_shape(tf.cast(found, x.dtype), x.shape)


def by_constant(x):
    """Refuses every other precision."""
    return x * tf.constant(np.linspace(0.5, 1.5, WIDTH), tf.float32)


# What is carried far from zero and back keeps the digits that single precision leaves it there, and
# the right gradient.


def far_in_numpy(x):
    @tf.custom_gradient
    def there_and_back(x):
        far = np.float32(300)
        found = tf.numpy_function(lambda v: (v.astype("float32") + far) - far, [x], tf.float32)
        return tf.ensure_shape(tf.cast(found, x.dtype), x.shape), lambda upstream: upstream

    return there_and_back(x)


def far_in_complex(x):
    waves = tf.signal.fft(tf.cast(x + 300, tf.complex64))
    return tf.cast(tf.math.real(tf.signal.ifft(waves)), x.dtype) - 300


def far_by_constant(x):
    far = tf.constant(3000, tf.float32)
    return (x + far) - far


def narrow_inside(factor, function, **options):
    seeded(0)
    inputs, hidden = stem(factor)
    return regression(inputs, applied(function, hidden), **options)


def power(x):
    waves = tf.signal.fft2d(tf.cast(tf.transpose(x, [0, 3, 1, 2]), tf.complex64))
    return tf.cast(tf.square(tf.math.real(waves)) + tf.square(tf.math.imag(waves)), x.dtype)


def spectrum(factor):
    seeded(0)
    inputs = keras.Input((6, 6, 1))
    hidden = multiplied(factor, layers.Conv2D(2, 3, activation="tanh", name="below")(inputs))
    return regression(inputs, layers.Flatten()(applied(power, hidden)))


ENTRIES = (
    Entry("normalization in single precision", partial(narrow_inside, function=unit_length)),
    Entry("NumPy inside", partial(narrow_inside, function=by_numpy)),
    Entry("Python inside", partial(narrow_inside, function=by_python)),
    Entry("constant of single precision", partial(narrow_inside, function=by_constant)),
    Entry("spectrum in complex64", spectrum),
    Entry("far from zero in NumPy", partial(narrow_inside, function=far_in_numpy, samples=4)),
    Entry("far from zero in complex64", partial(narrow_inside, function=far_in_complex)),
    Entry("far from zero by a constant", partial(narrow_inside, function=far_by_constant)),
)
