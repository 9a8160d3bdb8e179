"""To the device and back."""

import tensorflow as tf


def to_tensor(value):
    """Returns a tensor of the array's own dtype; a ragged one stays as it is."""
    return value if is_ragged(value) else tf.convert_to_tensor(value)


def repeat_rows(value, rows, count):
    """Returns the first rows of a tensor or array, so many times one behind the other."""
    return tf.concat([value[:rows]] * count, 0)


def is_ragged(value):
    """Returns whether a value is a ragged tensor, or the specification of one."""
    return isinstance(value, (tf.RaggedTensor, tf.RaggedTensorSpec))


def disassemble(value):
    """Returns what a tensor is made of: itself, or the values and the row splits of a ragged one."""
    return [value.flat_values, *value.nested_row_splits] if is_ragged(value) else [value]


def reassemble(like, parts):
    """Returns a tensor made of the next parts of an iterator: the inverse of `dense_parts`."""
    first = next(parts)
    if not is_ragged(like):
        return first
    splits = [next(parts) for _ in range(like.ragged_rank)]
    return tf.RaggedTensor.from_nested_row_splits(first, splits, validate=False)


def snapshot(variables):
    """Returns the present values of Keras variables, each at its own dtype."""
    return [read(v.value) for v in variables]


def read(storage):
    """Returns the present value of a variable's storage; what is written to it later does not show."""
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
    """Whether an operation alone reads and writes: it takes a third of the time, and a check does so to hundreds."""
    return isinstance(storage, tf.Variable) and not isinstance(
        storage, tf.distribute.DistributedValues
    )


def handle_id(variable):
    """Returns the id by which a graph knows the storage of a Keras variable; None where it has several."""
    storage = variable._value
    return id(storage.handle) if is_plain(storage) else None


def handle_ids(variable):
    """Returns the ids of the storages of a Keras variable, one on each device: a set."""
    storage = variable._value
    parts = storage.values if isinstance(storage, tf.distribute.DistributedValues) else [storage]
    return {id(part.handle) for part in parts if is_plain(part)}


def is_constant(value):
    """Returns whether a value is a tensor that holds numbers, rather than one that stands for an operation's output."""
    return isinstance(value, tf.__internal__.EagerTensor)


def is_symbolic(value):
    """Returns whether a value is a tensor of a graph."""
    return isinstance(value, tf.Tensor) and not isinstance(value, tf.__internal__.EagerTensor)


def is_out_of_memory(error):
    """Returns whether an exception says that memory ran out."""
    return isinstance(error, tf.errors.ResourceExhaustedError)
