"""Tensors of a trace told in a few numbers, and the gradients with respect to them."""

import functools

import tensorflow as tf

from gradhooks.backends.tensorflow.functions import concrete, inline_functions
from gradhooks.backends.tensorflow.graphs import run, specs
from gradhooks.backends.tensorflow.tensors import is_symbolic

# What Keras knows of a tensor, and of an identity would not.
_KNOWN = ("_keras_mask", "_keras_logits")


def evaluate_once(function, *arguments, is_optimized=False, is_xla=False):
    """Returns what a function of nested tensors returns, traced and run once: a list of arrays.

    Args:
        function: Function of `arguments` that returns a list of tensors.
        arguments: Nested tensors.
        is_optimized: Whether TensorFlow rewrites the graph first, as it does
            for training: that moves constants, and with them what overflows.
        is_xla: Whether XLA compiles it.
    """
    with inline_functions():
        traced = concrete(
            tf.function(function, autograph=False, jit_compile=is_xla), *map(specs, arguments)
        )
    return [
        tensor.numpy()
        for tensor in (traced if is_optimized else functools.partial(run, traced))(*arguments)
    ]


def is_watchable(value):
    """Whether a value is a tensor of floats of the graph that is being traced, and of no loop or branch within it."""
    is_here = is_symbolic(value) and value.graph is tf.compat.v1.get_default_graph()
    return is_here and value.dtype.is_floating


def insert_identity(tensor):
    """Returns the tensor under another name, so that the gradient through this one place can be told."""
    other = tf.identity(tensor)
    for name in _KNOWN:
        if hasattr(tensor, name):
            setattr(other, name, getattr(tensor, name))
    return other


def differentiate_scaled(target, factor, tensors):
    """Returns the gradients of `factor` times a scalar as dense tensors, None where it does not depend on one."""
    found = tf.gradients(target * tf.cast(factor, target.dtype), tensors)
    return [None if g is None else tf.convert_to_tensor(g) for g in found]


def summarize(tensor):
    """Returns share of finite entries, share not zero, root mean square and largest of the finite: float64, (4,)."""
    is_finite = tf.math.is_finite(tensor)
    wide = tf.cast(tf.where(is_finite, tensor, tf.zeros_like(tensor)), tf.float64)
    count = tf.cast(tf.maximum(tf.size(tensor), 1), tf.float64)
    shares = [
        tf.reduce_sum(tf.cast(is_it, tf.float64)) / count
        for is_it in (is_finite, tf.not_equal(tensor, 0))
    ]
    size = tf.sqrt(tf.reduce_sum(tf.square(wide)) / count)
    largest = tf.reduce_max(tf.concat([[0.0], tf.reshape(tf.abs(wide), [-1])], 0))
    empty = tf.equal(tf.size(tensor), 0)
    return tf.stack([tf.where(empty, tf.ones_like(count), shares[0]), shares[1], size, largest])
