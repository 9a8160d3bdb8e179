"""Casts between floats, and noise as XLA draws it."""

import contextlib

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry
from tensorflow.python.ops import gen_math_ops

from gradhooks.backends.tensorflow.functions import call
from gradhooks.isolation import threads

_cast = gen_math_ops.cast
_COMPLEX = {tf.float32: tf.complex64, tf.float64: tf.complex128}
_is_in_xla = False


def with_xla(function, argument):
    """Calls a function of one tensor as XLA would compile it: its random numbers differ from TensorFlow's own."""
    global _is_in_xla
    before, _is_in_xla = _is_in_xla, True
    try:
        return call(tf.function(function, autograph=False, jit_compile=True), argument)
    finally:
        _is_in_xla = before


def is_in_xla():
    """Whether `with_xla` is calling, which only the checking thread asks it to."""
    return _is_in_xla


def cast(value, dtype):
    """Casts floats to floats and complex numbers to such, whoever intercepts casts; leaves other dtypes alone.

    The gradient is cast back, by TensorFlow or by what intercepts casts.
    """
    target = tf.as_dtype(dtype)
    are_complex = value.dtype.is_complex and target.is_complex
    if not (are_complex or (value.dtype.is_floating and target.is_floating)) or value.dtype == target:
        return value
    return _cast(value, target)


@contextlib.contextmanager
def casts_intercepted(is_narrowing):
    """While open, casts of the checking thread for which `is_narrowing(source, target)` holds lose no digits.

    They return their input. Between real and complex numbers they still cast,
    at the precision of the source; such numbers go by the dtype of their parts.
    """
    original = gen_math_ops.cast

    def cast(x, DstT, Truncate=False, name=None):
        source, target = x.dtype.base_dtype, tf.as_dtype(DstT).base_dtype
        if is_narrowing(source.real_dtype.name, target.real_dtype.name):
            if source.is_complex == target.is_complex:
                return tf.identity(x)
            return original(x, _COMPLEX[source] if target.is_complex else source.real_dtype, Truncate, name)
        return original(x, DstT, Truncate, name)

    def exact_gradient(operation, upstream):
        # What was cast up must come down again, so this one cast is never intercepted.
        source = operation.inputs[0].dtype.base_dtype
        return _cast(upstream, source) if source.is_floating or source.is_complex else None

    registered = gradient_registry._registry["Cast"]
    gradient = registered["type"]
    with contextlib.ExitStack() as stack:
        threads.Swap(stack)(gen_math_ops, "cast", cast)
        registered["type"] = threads.by_thread(gradient, exact_gradient)
        stack.callback(registered.__setitem__, "type", gradient)
        yield
