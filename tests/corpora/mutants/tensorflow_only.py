"""Wrong gradients that only TensorFlow lets pass."""

import numpy as np
import tensorflow as tf

from tests.corpora.corpus import Case
from tests.corpora.mutants import planted
from tests.corpora.mutants.factors import through


def through_numpy(seed):
    def outside(x):
        y = tf.numpy_function(lambda a: np.tanh(2 * a), [x], x.dtype)
        return tf.ensure_shape(y, x.shape)

    return through(seed, planted.choose(outside, lambda x: tf.tanh(2 * x)))


CASES = [
    Case(
        "through_numpy",
        through_numpy,
        "below",
        ("blocked",),
        note="numpy_function has no gradient, and says nothing",
    ),
]
