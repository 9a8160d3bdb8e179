"""To the device and back."""

import tensorflow as tf


def tensor(value):
    """Returns a tensor of the array's own dtype; a ragged one stays as it is."""
    return value if is_ragged(value) else tf.convert_to_tensor(value)


def is_ragged(value):
    """Returns whether a value is a ragged tensor, or the specification of one."""
    return isinstance(value, (tf.RaggedTensor, tf.RaggedTensorSpec))


def dense_parts(value):
    """Returns what a tensor is made of: itself, or the values and the row splits of a ragged one."""
    return [value.flat_values, *value.nested_row_splits] if is_ragged(value) else [value]


def put_together(like, parts):
    """Returns a tensor made of the next parts of an iterator: the inverse of `dense_parts`."""
    first = next(parts)
    if not is_ragged(like):
        return first
    splits = [next(parts) for _ in range(like.ragged_rank)]
    return tf.RaggedTensor.from_nested_row_splits(first, splits, validate=False)


def snapshot(variables):
    """Returns copies of the variables' values, each at its own dtype."""
    return [tf.identity(tf.convert_to_tensor(v.value)) for v in variables]


def is_constant(value):
    """Returns whether a value is a tensor that holds numbers, rather than one that stands for an operation's output."""
    return isinstance(value, tf.__internal__.EagerTensor)


def is_exhausted(error):
    """Returns whether an exception says that memory ran out."""
    return isinstance(error, tf.errors.ResourceExhaustedError)
