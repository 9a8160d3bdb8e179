"""Right gradients of models that only TensorFlow can run.

Strings, excursions to Python, operations that Keras does not have.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.corpora.controls.building import around, between
from tests.corpora.corpus import Case, compiled, features, integers, seeded


class _NarrowProduct(layers.Layer):
    """Multiplies in float32 with TensorFlow's own cast."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

    def call(self, x):
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), tf.float32)
        return tf.cast(tf.tanh(tf.matmul(tf.cast(x, tf.float32), kernel)), x.dtype)


class _Spectrum(layers.Layer):
    """Mixes positions with a Fourier transform in complex64."""

    def call(self, x):
        return tf.cast(tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64))), x.dtype)


class _FixedConstant(layers.Layer):
    """Adds a float32 constant, which refuses to meet a float64 tensor."""

    def call(self, x):
        return tf.tanh(x) + tf.linspace(0.0, 1.0, x.shape[-1])


class _LocalResponse(layers.Layer):
    """Local response normalization, an operation without a float64 kernel."""

    def call(self, x):
        return tf.nn.local_response_normalization(x, depth_radius=1)


def responses(seed):
    def convolution():
        return layers.Conv2D(4, 3, activation="relu", name="convolution")

    return around(seed, (6, 6, 2), convolution, _LocalResponse)


class OutsideWithGradient(layers.Layer):
    """Leaves the graph for Python and comes back with the right gradient."""

    def call(self, x):
        return tf.ensure_shape(tf.py_function(tf.tanh, [x], x.dtype), x.shape)


def words(seed):
    """Strings go in, which Keras takes as a tensor only; a lookup turns them into numbers."""
    rng = seeded(seed)
    vocabulary = np.array(["red", "green", "blue", "grey"])
    x = keras.Input((4,), dtype="string", name="x")
    table = layers.Embedding(6, 4, name="table")
    h = table(layers.StringLookup(vocabulary=vocabulary)(x))
    model = compiled(keras.Model(x, layers.Dense(2, name="head")(layers.Flatten()(h))))
    return model, tf.constant(vocabulary[integers(rng, 4, 8, 4)]), features(rng, 8, 2)


CASES = [
    Case("hidden_tensorflow_cast", between(_NarrowProduct), note="tf.cast to float32"),
    Case(
        "complex64_mixing",
        between(_Spectrum, (4, 6)),
        note="a float32 core behind a Fourier transform",
    ),
    Case("fixed_float32_constant", between(_FixedConstant), note="cannot be traced at float64"),
    Case("local_response_normalization", responses, note="no float64 kernel"),
    Case("through_python_with_gradient", between(lambda: OutsideWithGradient(name="outside"))),
    Case("string_inputs", words),
]
