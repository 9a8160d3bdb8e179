"""TensorFlow's random operations, computed from random bits that belong to the place of the draw.

Random bits are the same with XLA and without it, while a uniform or normal
number of TensorFlow's own is not. What TensorFlow does not differentiate is not
differentiated here either.
"""

import math

import tensorflow as tf
from tensorflow.python.ops import gen_stateless_random_ops_v2

from gradhooks.backends.tensorflow.draw_seeds import find_seed

_PHILOX = tf.random.Algorithm.PHILOX.value
# Random bits in a uniform number: as many as its dtype resolves everywhere between 0 and 1.
_BITS = {"float64": 53, "float32": 23, "float16": 10, "bfloat16": 8}
# Fraction of the normal distribution within two standard deviations, where a truncated one ends.
_WITHIN_TWO = math.erf(math.sqrt(2))
# A value computed from one of these may differ between evaluations.
_VARYING = ("Placeholder", "ReadVariableOp", "ResourceGather", "While", "StatelessWhile")
_full_int = gen_stateless_random_ops_v2.stateless_random_uniform_full_int_v2


class FixedDraws:
    """Stands for TensorFlow's random operations: a method for each, with the arguments that matter.

    A method returns None where the operation must not be replaced.

    Args:
        draws: The `Draws` that knows where a draw takes place, and at which
            dtype training draws.
    """

    def __init__(self, draws):
        self._draws = draws

    def normal(self, shape, dtype, **_):
        """Draws from the normal distribution."""
        return self._invert_normal(shape, dtype, 1.0, "normal")

    def truncated_normal(self, shape, dtype, **_):
        """Draws from the normal distribution within two standard deviations."""
        return self._invert_normal(
            shape,
            dtype,
            _WITHIN_TWO,
            "truncated_normal",
        )

    def uniform(self, shape, dtype, **_):
        """Draws uniformly between 0 and 1."""
        dtype = tf.as_dtype(dtype)
        native = self._native_dtype(dtype)
        cells, width = self._draw_cells(shape, native, "uniform")
        # A number of few digits stands for all in its cell, and the wide number is the middle of
        # the cell. So both are on the same side of a threshold, even of one that is rounded.
        middle = 0.5 * width if dtype.size > native.size else 0.0
        return tf.cast(cells, dtype) * width + middle

    def integers(self, shape, minval, maxval, name=None, **_):
        """Draws integers `minval <= n < maxval`."""
        key, counter = find_seed(self._draws, "integers")
        return gen_stateless_random_ops_v2.stateless_random_uniform_int_v2(
            shape,
            key,
            counter,
            _PHILOX,
            minval,
            maxval,
            name,
        )

    def shuffle(self, value, name=None, **_):
        """Shuffles the rows of a tensor."""
        value = tf.stop_gradient(tf.convert_to_tensor(value))
        is_known = value.shape.rank and value.shape[0] is not None
        count = value.shape[0] if is_known else tf.shape(value)[0]
        order = tf.argsort(self._draw_bits([count], tf.int32, "shuffled"), stable=True)
        return tf.gather(value, order, name=name)

    def categories(self, logits, num_samples, output_dtype=tf.int64, name=None, **_):
        """Draws from categorical distributions.

        The largest of logits with Gumbel noise has this distribution, and XLA
        knows no other way.
        """
        logits = tf.stop_gradient(tf.convert_to_tensor(logits))
        if logits.dtype.size < 4:
            logits = tf.cast(logits, tf.float32)
        rows, classes = tf.unstack(tf.shape(logits))
        cells, width = self._draw_cells([rows, num_samples, classes], tf.float32, "categories")
        noise = -tf.math.log(-tf.math.log((cells + 0.5) * width))
        noisy = logits[:, None, :] + tf.cast(noise, logits.dtype)
        return tf.argmax(noisy, -1, output_dtype, name)

    def gamma(self, shape, alpha, name=None, **_):
        """Draws from gamma distributions, if their shape parameters are constant.

        TensorFlow differentiates the drawn number with respect to `alpha`, and
        no other `alpha` gives with the same seed the number that this
        derivative predicts.
        """
        if not _is_constant(alpha):
            return None
        numbers = tf.random.stateless_gamma(
            _append_shape(shape, alpha),
            self._draw_seed("gamma"),
            tf.cast(alpha, tf.float64),
            dtype=tf.float64,
        )
        return tf.cast(self._round(numbers, alpha.dtype), alpha.dtype, name=name)

    def poisson(self, shape, rate, dtype=tf.int64, name=None, **_):
        """Draws from Poisson distributions."""
        rate = tf.stop_gradient(tf.convert_to_tensor(rate))
        shape, seed = _append_shape(shape, rate), self._draw_seed("poisson")
        numbers = tf.random.stateless_poisson(shape, seed, rate, tf.int64)
        return tf.cast(numbers, dtype, name=name)

    def binomial(
        self,
        resource,
        algorithm,
        shape,
        counts,
        probs,
        dtype=tf.int64,
        name=None,
    ):
        """Draws from binomial distributions."""
        counts = tf.stop_gradient(tf.convert_to_tensor(counts))
        probs = tf.stop_gradient(tf.convert_to_tensor(probs))
        seed = self._draw_seed("binomial")
        counts = tf.cast(counts, probs.dtype)
        return tf.random.stateless_binomial(
            shape,
            seed,
            counts,
            probs,
            dtype,
            name,
        )

    def state(self, resource, alg, delta, name=None):
        """Returns a state for a `tf.random.Generator`: a counter and a key.

        None for an algorithm that is known only when the graph runs.
        """
        algorithm = tf.get_static_value(alg)
        if algorithm is None:
            return None
        key, counter = find_seed(self._draws, "state")
        if algorithm == tf.random.Algorithm.THREEFRY.value:
            counter = counter[1:]  # Threefry has one number
        return tf.bitcast(tf.concat([counter, key], 0), tf.int64)

    def _invert_normal(self, shape, dtype, fraction, operation):
        """Normal numbers from the middle `fraction` of the distribution, by its inverse."""
        native = self._native_dtype(tf.as_dtype(dtype))
        cell_dtype = native if native.size > 4 else tf.float32
        cells, width = self._draw_cells(shape, cell_dtype, operation)
        # Twice the middle of a cell, minus one, without rounding.
        centred = (2 * cells + (1 - 1 / width)) * width
        numbers = math.sqrt(2) * tf.math.erfinv(fraction * centred)
        return tf.cast(self._round(numbers, native), dtype)

    def _draw_cells(self, shape, dtype, operation):
        """Draws cells of the interval from 0 to 1.

        Returns:
            The numbers of the cells, as floats, and the width of a cell.
        """
        is_double = dtype.size > 4
        unsigned = tf.uint64 if is_double else tf.uint32
        signed = tf.int64 if is_double else tf.int32
        bits = self._draw_bits(shape, unsigned, operation)
        shift = tf.constant(unsigned.size * 8 - _BITS[dtype.name], unsigned)
        cells = tf.cast(tf.bitwise.right_shift(bits, shift), signed)
        return tf.cast(cells, tf.float64 if is_double else tf.float32), 2.0 ** -_BITS[dtype.name]

    def _round(self, numbers, dtype):
        """Numbers with no more digits than training has."""
        return tf.cast(numbers, self._draws.dtype(dtype.name))

    def _native_dtype(self, dtype):
        """The dtype at which training draws what is drawn here at a dtype."""
        return tf.as_dtype(self._draws.dtype(dtype.name))

    def _draw_bits(self, shape, dtype, operation):
        key, counter = find_seed(self._draws, operation)
        return _full_int(shape, key, counter, _PHILOX, dtype)

    def _draw_seed(self, operation):
        """A seed for operations that take two numbers."""
        return self._draw_bits([2], tf.int32, operation)


def _append_shape(shape, parameter):
    """The shape of draws for each entry of a parameter."""
    return tf.concat([shape, tf.shape(parameter)], 0)


def _is_constant(tensor):
    """Whether a tensor is computed from constants alone."""
    if not tf.is_tensor(tensor) or tf.executing_eagerly() or not hasattr(tensor, "op"):
        return True
    seen = set()
    queue = [tensor.op]
    while queue:
        operation = queue.pop()
        if operation.type.startswith(_VARYING) or operation.op_def.is_stateful:
            return False
        if operation.name not in seen:
            seen.add(operation.name)
            queue += [value.op for value in operation.inputs]
    return True
