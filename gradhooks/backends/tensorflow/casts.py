"""Casts between floats, and noise as XLA draws it."""

import contextlib

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry
from tensorflow.python.ops import gen_math_ops

from gradhooks.backends.tensorflow.functions import call
from gradhooks.isolation import threads

_cast = gen_math_ops.cast


def with_xla(function, argument):
    """Calls a function of one tensor as XLA would compile it: its random numbers differ from TensorFlow's own."""
    return call(tf.function(function, autograph=False, jit_compile=True), argument)


def cast(value, dtype):
    """Casts floats, whoever intercepts casts; leaves other dtypes alone.

    The gradient is cast back, by TensorFlow or by what intercepts casts.
    """
    target = tf.as_dtype(dtype)
    if not (value.dtype.is_floating and target.is_floating) or value.dtype == target:
        return value
    return _cast(value, target)


@contextlib.contextmanager
def casts_intercepted(instead):
    """While open, casts of the checking thread go elsewhere.

    Args:
        instead: Function `(source, target) -> dtype`, names of dtypes all: what to cast to; None for what was asked.
    """
    original = gen_math_ops.cast

    def cast(x, DstT, Truncate=False, name=None):
        source = x.dtype.base_dtype
        wide = instead(source.name, tf.as_dtype(DstT).base_dtype.name)
        if wide is None:
            return original(x, DstT, Truncate, name)
        return tf.identity(x) if wide == source.name else original(x, tf.as_dtype(wide), Truncate, name)

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
