"""A train step in one compiled call, on copies of everything that it could write to."""

import contextlib

import tensorflow as tf

from gradhooks.backends.tensorflow.graphs import WRITES, called, specs
from gradhooks.backends.tensorflow.tensors import read, write


class Step:
    """A train step in one compiled call, with what it writes to known.

    Args:
        function: Function `batch -> (gradients, received, applications, optimizers)`.
        batch: Nested tensors.
        is_xla: Whether to compile with XLA.
    """

    def __init__(self, function, batch, is_xla):
        self._told = None

        @tf.function(autograph=False, jit_compile=is_xla)
        def step(batch):
            gradients, *self._told = function(batch)
            return gradients

        self._function = step.get_concrete_function(specs(batch))

    def __call__(self, batch):
        """Returns what `function` returned, with fresh gradients."""
        return self._function(batch), *self._told

    def foreign_writes(self, storage):
        """Returns the names of operations that write to variables other than those in `storage`."""
        graph = self._function.graph
        own = {id(s.state if isinstance(s, tf.random.Generator) else s) for s in storage}
        foreign = {id(v.handle): v for v in graph.variables if id(v) not in own}
        captured = {inner.name for outer, inner in graph.captures if id(outer) in foreign}
        if not captured:
            return ()
        writers = {
            function.signature.name
            for function in graph.as_graph_def().library.function
            if any(node.op.startswith(WRITES) for node in function.node_def)
        }
        return tuple(
            operation.name
            for operation in graph.get_operations()
            if any(tensor.name in captured for tensor in operation.inputs)
            and (operation.type.startswith(WRITES) or called(operation) & writers)
        )


def shadow(value, is_trainable):
    """Returns a copy of a variable's storage, or of a random generator."""
    if isinstance(value, tf.random.Generator):
        return tf.random.Generator.from_state(value.state, value.algorithm)
    return tf.Variable(value, trainable=is_trainable, dtype=value.dtype)


def is_raw_state(value):
    """Whether a value is TensorFlow state that Keras does not know."""
    return isinstance(value, (tf.Variable, tf.random.Generator))


def assign(copy, value):
    """Brings a copy to the present value of what it stands for."""
    if isinstance(copy, tf.random.Generator):
        copy.reset(value.state)
    else:
        write(copy, read(value))


def summed(gradients, shape):
    """Returns the sum of gradients as one dense tensor; zeros if there are none."""
    if not gradients:
        return tf.zeros(shape)
    return tf.add_n([tf.convert_to_tensor(g) for g in gradients])


@contextlib.contextmanager
def isolated_generator():
    """While open, TensorFlow's global generator is a copy."""
    generator = tf.random.get_global_generator()
    tf.random.set_global_generator(tf.random.Generator.from_state(generator.state, generator.algorithm))
    try:
        yield
    finally:
        tf.random.set_global_generator(generator)
