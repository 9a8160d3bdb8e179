"""A train step, compiled or run eagerly, on copies of everything that it could write to."""

import contextlib

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.containment import (
    copy_generators,
    refuse_advances,
    refuse_operations,
    restore_writes,
)
from gradhooks.backends.tensorflow.execution import specify
from gradhooks.backends.tensorflow.functions import trace
from gradhooks.backends.tensorflow.gradients import broadcast
from gradhooks.backends.tensorflow.graphs import calls_python, find_foreign_writes
from gradhooks.backends.tensorflow.handles import copy_variable, read_handle, specify_variable
from gradhooks.backends.tensorflow.pairs import as_received
from gradhooks.backends.tensorflow.tensors import is_plain, read, write
from gradhooks.isolation import threads


class CompiledStep:
    """A train step in one compiled call, traced with the real variables and run on copies of them.

    What a graph reads and writes outside of itself are inputs like any others.
    The trace is the one that training would make. It runs with the handles of
    copies in place of the handles of variables, so that nothing of the model is
    written to.

    Args:
        function: Function `batch -> (nested tensors, *anything else)`.
        batch: Nested tensors.
        variables: Not used: a trace shows which variables the step captures.
        is_xla: Whether to compile with XLA.
        functions: Context in which functions of the user's keep no trace, see
            `functions`.
        shadows: Pairs (storage, copy) of variables that are replaced by their
            copies in the trace already.

    Attributes:
        calls_python: Whether running it runs Python code of the user's.

    Raises:
        RecordingError: If the step writes to what cannot be copied.
    """

    def __init__(
        self,
        function,
        batch,
        variables,
        is_xla,
        functions,
        shadows=(),
    ):
        del variables
        self._others = None

        @tf.function(autograph=False, jit_compile=is_xla)
        def step(batch):
            tensors, *self._others = function(batch)
            return tensors

        with functions, tf.summary.record_if(False):
            self._function = trace(step, specify(batch))
        graph = self._function.graph
        refuse_operations(find_foreign_writes(graph))
        self.calls_python = calls_python(graph)
        self._shadows = shadows
        self._copies = []  # pairs (handle, copy)
        self._copy_of = {}  # id of a handle, or of a storage that has a shadow -> its copy
        self._replace_captures()

    def _replace_captures(self):
        """Captures copies in place of variables."""
        shadow_ids = set()
        for storage, shadow in self._shadows:
            shadow_ids.add(id(shadow.handle))
            self._copy_of[id(storage)] = shadow

        captured = []
        for handle in self._function.captured_inputs:
            if specify_variable(handle) and id(handle) not in shadow_ids:
                copy = copy_variable(handle)
                self._copies.append((handle, copy))
                self._copy_of[id(handle)] = copy
                handle = copy.handle
            captured.append(handle)
        self._function.set_external_captures(captured)

    def __call__(self, batch, moved):
        """Runs the step and returns what `function` returned, with fresh tensors.

        Args:
            batch: Nested tensors.
            moved: Pairs (storage of a variable, tensor): values to take in
                place of the present ones.
        """
        for handle, copy in self._copies:
            write(copy, read_handle(handle, copy.dtype))
        for storage, shadow in self._shadows:
            write(shadow, read(storage))

        for storage, value in moved:
            # Compared with None, since the truth of a variable is that of its value.
            copy = self._copy_of.get(id(storage))
            if copy is None:
                copy = self._copy_of.get(id(storage.handle))
            if copy is not None:  # otherwise the step does not use the variable
                write(copy, tf.cast(value, copy.dtype))
        return self._function(batch), *self._others


class EagerStep:
    """A train step that runs eagerly, while the thread that runs it sees copies of all variables.

    Args:
        variables: The `tf.Variable`s that the step may write to.
    """

    def __init__(self, variables):
        self._copies = []  # pairs (variable, copy)
        self._copy_of = {}  # id of a variable -> its copy
        for variable in variables:
            value = read(variable)
            copy = tf.Variable(value, trainable=variable.trainable, dtype=variable.dtype)
            self._copies.append((variable, copy))
            self._copy_of[id(variable)] = copy

    def __call__(self, function, batch, moved, functions):
        """Returns `function(batch)`; for the other arguments see `CompiledStep`."""
        for variable, copy in self._copies:
            write(copy, read(variable))
        for storage, value in moved:
            copy = self._copy_of.get(id(storage), storage)  # or it is a copy itself
            write(copy, tf.cast(value, copy.dtype))

        with contextlib.ExitStack() as stack:
            patch = threads.Patcher(stack)
            for variable, copy in self._copies:
                patch(variable, "_handle", copy.handle)
            stack.enter_context(functions)
            stack.enter_context(tf.summary.record_if(False))
            stack.enter_context(copy_generators())
            stack.enter_context(refuse_advances())
            stack.enter_context(restore_writes({id(copy.handle) for _, copy in self._copies}))
            return function(batch)


def runs_eagerly(model):
    """Whether training runs the model's code in each step, and not a graph of it."""
    return bool(getattr(model, "run_eagerly", False))


def run_train_step(model, batch):
    """Returns what a model's `train_step` returns for a batch: its logs."""
    return model.train_step(batch)


def storage_of(variable):
    """Returns the `tf.Variable` that holds the value of a Keras variable; anything else as it is.

    None for a Keras variable that was not initialized yet.
    """
    return getattr(variable, "_value", variable)


def divide_gradient(gradient, factor):
    """Returns a gradient, dense or sparse, divided by a number."""
    if isinstance(gradient, tf.IndexedSlices):
        # Rows of an embedding, which stay sparse.
        values = gradient.values / tf.cast(factor, gradient.values.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient / tf.cast(factor, gradient.dtype)


def is_variable(value):
    """Whether a value is a `tf.Variable` on one device."""
    return is_plain(value)


def generator_state(value):
    """Returns the variable that holds the state of a `tf.random.Generator`, or None."""
    return value.state if isinstance(value, tf.random.Generator) else None


def copy_storage(storage, is_trainable):
    """Returns a new `tf.Variable` with the value and dtype of a variable's storage."""
    return tf.Variable(storage, trainable=is_trainable, dtype=storage.dtype)


def sum_gradients(gradients, shape, is_complex=False):
    """Returns the sum of gradients as one dense tensor of floats; zeros if there are none.

    Args:
        gradients: Tensors, dense or sparse.
        shape: Shape of the sum. For a complex variable its last axis holds the
            real and the imaginary part.
        is_complex: Whether the variable is complex.

    Raises:
        ValueError: For a gradient that does not fit the shape.
    """
    if not gradients:
        return tf.zeros(shape)
    return tf.add_n([broadcast(as_received(g, is_complex), shape) for g in gradients])


def select_scalars(values):
    """Returns those of some values that are real scalars, as float64 tensors."""
    scalars = []
    for value in values:
        if not (tf.is_tensor(value) or isinstance(value, (float, int, np.number))):
            continue
        tensor = tf.convert_to_tensor(value)
        is_real = tensor.dtype.is_floating or tensor.dtype.is_integer
        if is_real and tensor.shape.rank == 0:
            scalars.append(tf.cast(tensor, tf.float64))
    return scalars
