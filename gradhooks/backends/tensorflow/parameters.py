"""Parameters end to end as one tensor, and one tensor for each variable as a model takes them."""

import math

import numpy as np
import tensorflow as tf

from gradhooks.backends.common.flat import split
from gradhooks.backends.tensorflow.pairs import to_pairs


def flatten(tensors, dtype="float64"):
    """Copies tensors to the host, end to end.

    Args:
        tensors: Tensors of fully known shapes; complex ones become pairs.
        dtype: Dtype of the result, wide enough for all of them.

    Returns:
        Array of shape (P,).
    """
    tensors = [to_pairs(tensor) for tensor in tensors]
    flat = np.empty(sum(tensor.shape.num_elements() for tensor in tensors), dtype)
    start = 0
    for tensor in tensors:
        stop = start + tensor.shape.num_elements()
        flat[start:stop] = np.ravel(tensor)
        start = stop
    return flat


def split_cached(cache, flat, shapes):
    """Returns the parts of a vector as tensors, kept in a `Cache` while the vector lives.

    Tensors, unlike views, do not keep the vector itself alive.
    """
    return cache.get(flat, "parts", lambda: [tf.constant(part) for part in split(flat, shapes)])


def specify_float64(shapes):
    """Returns the specifications of float64 tensors of some shapes."""
    return [tf.TensorSpec(shape, tf.float64) for shape in shapes]


def bundle(values):
    """Joins tensors end to end into one of shape (P,)."""
    flat = [tf.reshape(value, [-1]) for value in values]
    return flat[0] if len(flat) == 1 else tf.concat(flat, 0)


def unbundle(flat, shapes):
    """Splits a tensor of shape (P,) into tensors of some shapes: the inverse of `bundle`."""
    parts = [flat] if len(shapes) == 1 else tf.split(flat, [math.prod(shape) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def move_entries(flat, indices, offsets):
    """Adds offsets to entries of a tensor.

    Args:
        flat: Tensor of shape (P,).
        indices: Integer tensor of shape (M,); an index outside changes nothing.
        offsets: Tensor of shape (M,).
    """
    if not flat.shape[0]:
        return flat
    return tf.raw_ops.TensorScatterAdd(
        tensor=flat,
        indices=tf.expand_dims(indices, 1),
        updates=offsets,
        bad_indices_policy="IGNORE",
    )


def fill_missing_gradients(gradients, shapes):
    """Returns gradients as dense float64 tensors of some shapes, zeros for those that are None."""
    dense = []
    for gradient, shape in zip(gradients, shapes, strict=True):
        if gradient is None:
            dense.append(tf.zeros(shape, tf.float64))
        else:
            dense.append(tf.cast(tf.convert_to_tensor(gradient), tf.float64))
    return dense
