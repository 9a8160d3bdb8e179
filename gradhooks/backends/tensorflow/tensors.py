"""Tensors and variables: to the device and back, ragged ones in dense parts."""

import tensorflow as tf


def to_tensor(value):
    """Returns an array as a tensor of its own dtype; a ragged tensor is returned as it is."""
    return value if is_ragged(value) else tf.convert_to_tensor(value)


def repeat_rows(value, rows, count):
    """Repeats the first rows of a tensor or array.

    Args:
        value: Tensor or array of shape (batch, ...).
        rows: How many of its rows are repeated.
        count: How many times.

    Returns:
        Tensor of shape (rows * count, ...).
    """
    return tf.concat([value[:rows]] * count, 0)


def is_ragged(value):
    """Whether a value is a ragged tensor, or the specification of one."""
    return isinstance(value, (tf.RaggedTensor, tf.RaggedTensorSpec))


def disassemble(value):
    """Returns the dense parts of a tensor: itself, or the values and row splits of a ragged one."""
    return [value.flat_values, *value.nested_row_splits] if is_ragged(value) else [value]


def reassemble(like, parts):
    """Returns a tensor made of the next parts of an iterator: the inverse of `disassemble`.

    Args:
        like: A tensor with as many dense parts.
        parts: Iterator over dense tensors.
    """
    values = next(parts)
    if not is_ragged(like):
        return values
    splits = [next(parts) for _ in range(like.ragged_rank)]
    return tf.RaggedTensor.from_nested_row_splits(values, splits, validate=False)


def make_ragged(parts):
    """Returns the ragged tensor of values and row splits.

    Raises:
        ValueError: If they make none.
    """
    values, *splits = parts
    try:
        return tf.RaggedTensor.from_nested_row_splits(values, splits)
    except (TypeError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(f"no ragged tensor: {error}") from error


def snapshot(variables):
    """Returns the present values of Keras variables, each at its own dtype."""
    return [read(v.value) for v in variables]


def read(storage):
    """Returns the present value of a variable's storage, which later writes do not change."""
    if is_plain(storage):
        return tf.raw_ops.ReadVariableOp(resource=storage.handle, dtype=storage.dtype)
    return tf.identity(tf.convert_to_tensor(storage))


def write(storage, value):
    """Writes a tensor of the same shape and dtype to a variable's storage."""
    if is_plain(storage):
        tf.raw_ops.AssignVariableOp(resource=storage.handle, value=value)
    else:
        storage.assign(value, read_value=False)


def is_plain(storage):
    """Whether a value is a `tf.Variable` on one device, which raw operations can read and write.

    Raw operations take a third of the time, and a check reads and writes hundreds of
    variables.
    """
    is_variable = isinstance(storage, tf.Variable)
    return is_variable and not isinstance(storage, tf.distribute.DistributedValues)


def handle_id(variable):
    """Returns the id of the handle of a Keras variable, by which graphs know it.

    Returns:
        None for a variable with several handles, one on each device.
    """
    storage = variable._value
    return id(storage.handle) if is_plain(storage) else None


def handle_ids(variable):
    """Returns the ids of the handles of a Keras variable, one on each device: a set."""
    storage = variable._value
    parts = storage.values if isinstance(storage, tf.distribute.DistributedValues) else [storage]
    return {id(part.handle) for part in parts if is_plain(part)}


def is_constant(value):
    """Whether a value is a tensor that holds numbers, and not one of a graph."""
    return isinstance(value, tf.__internal__.EagerTensor)


def is_symbolic(value):
    """Whether a value is a tensor of a graph."""
    return isinstance(value, tf.Tensor) and not isinstance(value, tf.__internal__.EagerTensor)


def is_out_of_memory(error):
    """Whether an exception says that memory ran out."""
    return isinstance(error, tf.errors.ResourceExhaustedError)
