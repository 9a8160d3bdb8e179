"""To the device and back."""

import tensorflow as tf


def tensor(value):
    """Returns a tensor of the array's own dtype."""
    return tf.convert_to_tensor(value)


def flat_point(variables):
    """Returns the values of the variables as one float64 tensor of shape (P,)."""
    return tf.concat([tf.reshape(tf.cast(v.value, tf.float64), [-1]) for v in variables], 0)


def snapshot(variables):
    """Returns copies of the variables' values, each at its own dtype."""
    return [tf.identity(tf.convert_to_tensor(v.value)) for v in variables]


def to_host(value):
    """Returns a NumPy array."""
    return value.numpy()


def is_constant(value):
    """Returns whether a value is a tensor that holds numbers, rather than one that stands for an operation's output."""
    return isinstance(value, tf.__internal__.EagerTensor)


def is_exhausted(error):
    """Returns whether an exception says that memory ran out."""
    return isinstance(error, tf.errors.ResourceExhaustedError)
