"""A number that differs at every evaluation, by state that neither Keras nor a check knows of."""

import secrets

import keras
import numpy as np
from keras import ops


def _of_tensorflow():
    import tensorflow as tf

    # Compiled before any check, so that a check cannot make it deterministic.
    compiled = tf.function(lambda: tf.random.uniform([])).get_concrete_function()
    return lambda tensor: compiled()


def _of_jax():
    import jax

    def drawn(tensor):
        return np.float32(secrets.randbelow(1000) / 1000)

    shape = jax.ShapeDtypeStruct((), np.float32)
    # Given a tensor, it may not be computed once and for all.
    return lambda tensor: jax.pure_callback(drawn, shape, ops.stop_gradient(tensor))


roll = {"tensorflow": _of_tensorflow, "jax": _of_jax}[keras.backend.backend()]()


def draw_like(tensor):
    """Returns numbers that broadcast with a tensor, and differ each time it is computed."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.random.normal(tf.shape(tensor))
    return roll(tensor)


class Moody(keras.layers.Layer):
    """Multiplies by another number at each evaluation."""

    def call(self, x):
        return x * ops.cast(roll(x), x.dtype)
