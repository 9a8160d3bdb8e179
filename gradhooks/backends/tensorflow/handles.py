"""Handles: the resources by which a graph knows the storage of variables."""

import tensorflow as tf


def specify_variable(handle):
    """Returns the shape and dtype of the variable that a handle leads to.

    Returns:
        A `tf.TensorSpec`. None for the resource of a table, an iterator or a
        queue, and for a tensor that is no resource.
    """
    data = getattr(handle, "_handle_data", None) if handle.dtype == tf.resource else None
    if data is None or not data.is_set or len(data.shape_and_type) != 1:
        return None
    (data,) = data.shape_and_type
    return tf.TensorSpec(tf.TensorShape(data.shape), tf.as_dtype(data.dtype))


def read_handle(handle, dtype):
    """Returns the present value of the variable that a handle leads to."""
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)


def copy_variable(handle):
    """Returns a copy of the variable that a handle leads to: a new `tf.Variable`."""
    spec = specify_variable(handle)
    value = read_handle(handle, spec.dtype)
    return tf.Variable(
        value,
        trainable=False,
        dtype=spec.dtype,
        shape=spec.shape,
        validate_shape=False,
    )
