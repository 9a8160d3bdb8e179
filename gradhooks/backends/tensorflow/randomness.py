"""TensorFlow's random operations, with numbers that belong to the place where they are drawn.

All come from random bits, which are the same with XLA and without it; a uniform
or normal number of TensorFlow's own is not. What TensorFlow does not
differentiate is not differentiated here either.
"""

import contextlib
import hashlib
import math

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import (
    control_flow_v2_func_graphs,
    gen_random_ops,
    gen_stateful_random_ops,
    gen_stateless_random_ops_v2,
    while_loop,
)

from gradhooks.backends.tensorflow.casts import call_with_xla, is_in_xla
from gradhooks.isolation import threads

_PHILOX = tf.random.Algorithm.PHILOX.value
# Random bits in a uniform number: as many as its dtype keeps apart everywhere between 0 and 1.
_BITS = {"float64": 53, "float32": 23, "float16": 10, "bfloat16": 8}
# Share of the normal distribution within two standard deviations, where a truncated one ends.
_WITHIN_TWO = math.erf(math.sqrt(2))
# Iterations of one loop that are kept apart from those of the loop around it, in bits; the counter
# has 64.
_LOOP_BITS = 20
# What a value is computed from where it is none that stays the same in every evaluation.
_VARYING = ("Placeholder", "ReadVariableOp", "ResourceGather", "While", "StatelessWhile")
_full_int = gen_stateless_random_ops_v2.stateless_random_uniform_full_int_v2


@contextlib.contextmanager
def fix_draws(draws):
    """While open, random operations of the checking thread give numbers that belong to the place of the draw.

    The state of no generator is read or moved on.

    Args:
        draws: The `noise.Draws` that knows where a draw takes place.
    """
    fixed = _Fixed(draws)
    replaced = {
        gen_random_ops: {
            "random_standard_normal": fixed.normal,
            "random_uniform": fixed.uniform,
            "truncated_normal": fixed.truncated_normal,
            "random_uniform_int": fixed.integers,
            "random_shuffle": fixed.shuffled,
            "multinomial": fixed.categories,
            "random_gamma": fixed.gamma,
            "random_poisson_v2": fixed.poisson,
        },
        gen_stateful_random_ops: {
            "rng_read_and_skip": fixed.state,
            "stateful_random_binomial": fixed.binomial,
        },
        tf.random.Generator: {
            "_standard_normal": lambda self, shape, dtype: fixed.normal(shape, dtype),
            "_uniform": lambda self, shape, dtype: fixed.uniform(shape, dtype),
            "_truncated_normal": lambda self, shape, dtype: fixed.truncated_normal(shape, dtype),
        },
    }
    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        for owner, functions in replaced.items():
            for name, function in functions.items():
                put(owner, name, _where_fixed(draws, function, vars(owner)[name]))
        for name in (
            "stateless_random_normal_v2",
            "stateless_random_uniform_v2",
            "stateless_truncated_normal_v2",
        ):
            put(
                gen_stateless_random_ops_v2,
                name,
                _native(draws, vars(gen_stateless_random_ops_v2)[name]),
            )
        put(while_loop, "while_loop", _turning(draws, while_loop.while_loop))
        yield


def _where_fixed(draws, function, original):
    def drawn(*args, **kwargs):
        found = function(*args, **kwargs) if draws.is_fixed else None
        return original(*args, **kwargs) if found is None else found

    return drawn


def _native(draws, original):
    """Draws from a seed of the user's own what training draws from it, which in float64 would be other numbers."""

    def drawn(shape, key, counter, alg, dtype=tf.float32, name=None):
        dtype, static = tf.as_dtype(dtype), tf.get_static_value(shape)
        native = draws.dtype(dtype.name)
        if draws.is_xla and static is not None and not is_in_xla():
            # XLA draws other numbers from the same seed than TensorFlow; training with XLA sees
            # those.
            numbers = call_with_xla(lambda key: original(static, key, counter, alg, native), key)
        else:
            numbers = original(shape, key, counter, alg, native, name)
        return tf.cast(numbers, dtype)

    return drawn


def _turning(draws, original):
    """Counts the iterations of a loop that runs eagerly, and has each draw in the places of the first."""

    def looped(cond, body, *args, **kwargs):
        if not tf.executing_eagerly():
            return original(cond, body, *args, **kwargs)
        position, count = draws.position(), 0

        def turn(*values):
            nonlocal count
            draws.rewind(position)
            draws.turns.append(count)
            count += 1
            try:
                return body(*values)
            finally:
                draws.turns.pop()

        return original(cond, turn, *args, **kwargs)

    return looped


class _Fixed:
    """Stands for TensorFlow's random operations: a method each, with the arguments that matter here.

    A method returns None where the operation must stay what it is.
    """

    def __init__(self, draws):
        self._draws = draws

    def normal(self, shape, dtype, **_):
        return self._bent(shape, dtype, 1.0, "normal")

    def truncated_normal(self, shape, dtype, **_):
        return self._bent(shape, dtype, _WITHIN_TWO, "truncated_normal")

    def uniform(self, shape, dtype, **_):
        dtype = tf.as_dtype(dtype)
        native = tf.as_dtype(self._draws.dtype(dtype.name))
        cells, width = self._cells(shape, native, "uniform")
        # A number at fewer digits stands for all in its cell, and the wide one is the middle of it.
        # So both are on the same side of a threshold that is rounded, too.
        return tf.cast(cells, dtype) * width + (0.5 * width if dtype.size > native.size else 0.0)

    def integers(self, shape, minval, maxval, name=None, **_):
        key, counter = self._seed("integers")
        return gen_stateless_random_ops_v2.stateless_random_uniform_int_v2(
            shape, key, counter, _PHILOX, minval, maxval, name
        )

    def shuffled(self, value, name=None, **_):
        value = tf.stop_gradient(tf.convert_to_tensor(value))
        count = (
            value.shape[0]
            if value.shape.rank and value.shape[0] is not None
            else tf.shape(value)[0]
        )
        return tf.gather(
            value, tf.argsort(self._bits([count], tf.int32, "shuffled"), stable=True), name=name
        )

    def categories(self, logits, num_samples, output_dtype=tf.int64, name=None, **_):
        # The largest of logits with Gumbel noise is distributed as asked; XLA knows no other way.
        logits = tf.stop_gradient(tf.convert_to_tensor(logits))
        logits = tf.cast(logits, tf.float32) if logits.dtype.size < 4 else logits
        rows, classes = tf.unstack(tf.shape(logits))
        cells, width = self._cells([rows, num_samples, classes], tf.float32, "categories")
        noise = -tf.math.log(-tf.math.log((cells + 0.5) * width))
        return tf.argmax(logits[:, None, :] + tf.cast(noise, logits.dtype), -1, output_dtype, name)

    def gamma(self, shape, alpha, name=None, **_):
        # From one seed, another alpha does not give the number whose derivative TensorFlow takes.
        if not _is_constant(alpha):
            return None
        numbers = tf.random.stateless_gamma(
            self._full_shape(shape, alpha),
            self._old_seed("gamma"),
            tf.cast(alpha, tf.float64),
            dtype=tf.float64,
        )
        return tf.cast(self._rounded(numbers, alpha.dtype), alpha.dtype, name=name)

    def poisson(self, shape, rate, dtype=tf.int64, name=None, **_):
        rate = tf.stop_gradient(tf.convert_to_tensor(rate))
        shape, seed = self._full_shape(shape, rate), self._old_seed("poisson")
        return tf.cast(tf.random.stateless_poisson(shape, seed, rate, tf.int64), dtype, name=name)

    def binomial(self, resource, algorithm, shape, counts, probs, dtype=tf.int64, name=None):
        counts, probs = (tf.stop_gradient(tf.convert_to_tensor(value)) for value in (counts, probs))
        counts = tf.cast(counts, probs.dtype)
        return tf.random.stateless_binomial(
            shape, self._old_seed("binomial"), counts, probs, dtype, name
        )

    def state(self, resource, alg, delta, name=None):
        """The state of a `tf.random.Generator`, a counter and a key; None for one that is not known before it runs."""
        algorithm = tf.get_static_value(alg)
        if algorithm is None:
            return None
        key, counter = self._seed("state")
        if algorithm == tf.random.Algorithm.THREEFRY.value:
            counter = counter[1:]  # it has one
        return tf.bitcast(tf.concat([counter, key], 0), tf.int64)

    def _bent(self, shape, dtype, share, operation):
        """Normal numbers from the middle `share` of their distribution."""
        native = tf.as_dtype(self._draws.dtype(tf.as_dtype(dtype).name))
        cells, width = self._cells(shape, native if native.size > 4 else tf.float32, operation)
        # Twice the middle of a cell, less one, in a way that is exact.
        centred = (2 * cells + (1 - 1 / width)) * width
        return tf.cast(self._rounded(math.sqrt(2) * tf.math.erfinv(share * centred), native), dtype)

    def _cells(self, shape, dtype, operation):
        """Whole numbers as floats, and the width of a cell if they number the cells between 0 and 1."""
        is_double = dtype.size > 4
        integer = tf.uint64 if is_double else tf.uint32
        bits = self._bits(shape, integer, operation)
        bits = tf.bitwise.right_shift(
            bits, tf.constant(integer.size * 8 - _BITS[dtype.name], integer)
        )
        cells = tf.cast(
            tf.cast(bits, tf.int64 if is_double else tf.int32),
            tf.float64 if is_double else tf.float32,
        )
        return cells, 2.0 ** -_BITS[dtype.name]

    def _rounded(self, numbers, dtype):
        """Numbers as training has them; they keep no more digits than those."""
        return tf.cast(numbers, self._draws.dtype(dtype.name))

    def _bits(self, shape, dtype, operation):
        key, counter = self._seed(operation)
        return _full_int(shape, key, counter, _PHILOX, dtype)

    def _seed(self, operation):
        """The key, of the place alone, and the counter, of the iteration."""
        path, number = self._draws.place(operation)
        digest = hashlib.blake2b(f"{path}\0{number}".encode(), digest_size=8).digest()
        iteration = tf.constant(0, tf.uint64)
        for turn in [*_turns(), *self._draws.turns]:
            iteration = iteration * 2**_LOOP_BITS + tf.cast(turn, tf.uint64)
        return tf.constant(np.frombuffer(digest, np.uint64)), tf.stack(
            [tf.constant(0, tf.uint64), iteration]
        )

    def _old_seed(self, operation):
        """A seed for operations that take two numbers."""
        return self._bits([2], tf.int32, operation)

    @staticmethod
    def _full_shape(shape, parameter):
        return tf.concat([shape, tf.shape(parameter)], 0)


def _turns():
    """The iteration of every loop around the operation that is being traced, the outermost first."""
    found, graph = [], tf.compat.v1.get_default_graph()
    while isinstance(graph, FuncGraph):
        if isinstance(graph, control_flow_v2_func_graphs.WhileBodyFuncGraph):
            found.append(
                graph.get_operations()[0].outputs[0]
            )  # the first argument of a body counts
        graph = graph.outer_graph
    return reversed(found)


def _is_constant(tensor):
    """Whether a tensor is computed from constants alone."""
    if not tf.is_tensor(tensor) or tf.executing_eagerly() or not hasattr(tensor, "op"):
        return True
    found, queue = set(), [tensor.op]
    while queue:
        operation = queue.pop()
        if operation.type.startswith(_VARYING) or operation.op_def.is_stateful:
            return False
        if operation.name not in found:
            found.add(operation.name)
            queue += [value.op for value in operation.inputs]
    return True
