"""Variables that stand for a tensor: code that differentiates them differentiates the tensor."""

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops


class StandIn(resource_variable_ops.BaseResourceVariable):
    """A `tf.Variable` whose value is a tensor of the graph being traced.

    The tensor is its handle as well. So a tape that watches the variable, a
    custom gradient that is given the variables it captures, and `tf.gradients`
    all arrive at the tensor.

    Args:
        tensor: The value.
        trainable: Whether tapes watch the variable of their own accord.
        name: Name of the variable that it stands for. Custom gradients order
            variables by name.
    """

    def __init__(self, tensor, trainable, name):
        super().__init__(
            trainable=trainable,
            shape=tensor.shape,
            dtype=tensor.dtype,
            handle=tensor,
            handle_name=name,
            unique_id=name,
            in_graph_mode=False,
        )

    def _read_variable_op(self, no_copy=False):
        resource_variable_ops.variable_accessed(self)
        # A new tensor for each read, since a tape does not see what was read before it began.
        return tf.identity(self._handle)

    def sparse_read(self, indices, name=None):
        """Reads some rows."""
        return tf.gather(self._read_variable_op(), indices, name=name)

    def gather_nd(self, indices, name=None):
        """Reads some entries."""
        return tf.gather_nd(self._read_variable_op(), indices, name=name)


def make_stand_in(tensor, variable):
    """Returns a `StandIn` with the value of a tensor for a Keras variable."""
    storage = getattr(variable, "_value", None)
    name = storage.name if isinstance(storage, tf.Variable) else variable.name
    return StandIn(tensor, bool(variable.trainable), name.partition(":")[0])
