"""A train step in one compiled call, or as it stands, on copies of everything that it could write to."""

import contextlib
import random

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import (
    gen_dataset_ops,
    gen_lookup_ops,
    gen_resource_variable_ops,
    gen_state_ops,
    stateful_random_ops,
)

from gradhooks.backends.tensorflow.functions import concrete
from gradhooks.backends.tensorflow.gradients import broadcast
from gradhooks.backends.tensorflow.graphs import calls_python, find_foreign_writes, specs
from gradhooks.backends.tensorflow.pairs import as_received
from gradhooks.backends.tensorflow.tensors import is_plain, read, write
from gradhooks.isolation import threads
from gradhooks.reports.errors import RecordingError

_ASSIGNING = [
    (module, name)
    for module in (gen_resource_variable_ops, gen_state_ops)
    for name in vars(module)
    if name.startswith(("assign_", "resource_scatter_")) and not name.endswith("_eager_fallback")
]
# What moves on with every call and cannot be copied.
_ADVANCING = (
    (gen_dataset_ops, "iterator_get_next"),
    (gen_dataset_ops, "iterator_get_next_sync"),
    (gen_lookup_ops, "lookup_table_insert_v2"),
    (gen_lookup_ops, "lookup_table_import_v2"),
    (gen_lookup_ops, "lookup_table_remove_v2"),
)


class CompiledStep:
    """A train step in one compiled call, traced with the real variables and run with copies of them.

    What a graph reads and writes outside of itself are inputs like others. The
    trace is what training would have traced, and with copies handed in nothing
    of the model's is read twice or written.

    Args:
        function: Function `batch -> (nested tensors, *anything else)`.
        batch: Nested tensors.
        is_xla: Whether to compile with XLA.
        functions: Context in which functions of the user's leave no trace, see `functions`.
        shadows: Pairs (storage, copy) of variables of which the trace sees the copies already.

    Raises:
        RecordingError: If the step writes to what cannot be copied.
    """

    def __init__(self, function, batch, is_xla, functions, shadows=()):
        self._told = None

        @tf.function(autograph=False, jit_compile=is_xla)
        def step(batch):
            tensors, *self._told = function(batch)
            return tensors

        with functions, tf.summary.record_if(False):
            self._function = concrete(step, specs(batch))
        _refuse(find_foreign_writes(self._function.graph))
        captured, known = (
            self._function.captured_inputs,
            {id(shadow.handle) for _, shadow in shadows},
        )
        own = [
            (handle, _copy(handle))
            for handle in captured
            if _variable_type(handle) and id(handle) not in known
        ]
        copies = {id(handle): copy.handle for handle, copy in own}
        self._function.set_external_captures(
            [copies.get(id(handle), handle) for handle in captured]
        )
        self._own, self._shadows = own, shadows
        #: Whether running it runs Python code of the user's.
        self.calls_python = calls_python(self._function.graph)

    def __call__(self, batch, moved):
        """Returns what `function` returned, with fresh tensors.

        Args:
            batch: Nested tensors.
            moved: Pairs (storage of a variable, tensor): other values than the present ones.
        """
        for handle, copy in self._own:
            write(copy, _read(handle, copy.dtype))
        for storage, shadow in self._shadows:
            write(shadow, read(storage))
        copies = {id(handle): copy for handle, copy in self._own}
        shadows = {id(storage): shadow for storage, shadow in self._shadows}
        for storage, value in moved:
            copy = shadows.get(id(storage))  # a variable is true or false by its value
            copy = copies.get(id(storage.handle)) if copy is None else copy
            if copy is not None:  # the step may not read it at all
                write(copy, tf.cast(value, copy.dtype))
        return self._function(batch), *self._told


class EagerStep:
    """A train step that runs as it stands, while all variables lead to copies in the thread that runs it.

    Args:
        variables: The variables of TensorFlow that the step may write to.
    """

    def __init__(self, variables):
        self._pairs = [
            (v, tf.Variable(read(v), trainable=v.trainable, dtype=v.dtype)) for v in variables
        ]

    def __call__(self, function, batch, moved, functions):
        """Returns `function(batch)`, see `Step`."""
        copies = {id(variable): copy for variable, copy in self._pairs}
        for variable, copy in self._pairs:
            write(copy, read(variable))
        for storage, value in moved:
            copy = copies.get(id(storage), storage)  # or it is a copy itself
            write(copy, tf.cast(value, copy.dtype))
        with contextlib.ExitStack() as stack:
            put = threads.Patcher(stack)
            for variable, copy in self._pairs:
                put(variable, "_handle", copy.handle)
            stack.enter_context(functions)
            stack.enter_context(tf.summary.record_if(False))
            stack.enter_context(_own_generators())
            stack.enter_context(_nothing_advanced())
            stack.enter_context(_written_back({id(copy.handle) for _, copy in self._pairs}))
            return function(batch)


def _refuse(operations):
    if operations:
        raise RecordingError(
            "`train_step` writes to state outside of variables, which cannot be kept out: "
            + ", ".join(operations[:3])
        )


def is_variable(value):
    """Whether a value is a variable of TensorFlow's, on one device."""
    return is_plain(value)


def generator_state(value):
    """Returns the variable that holds the state of a `tf.random.Generator`; None for anything else."""
    return value.state if isinstance(value, tf.random.Generator) else None


def copy_storage(value, is_trainable):
    """Returns a copy of a variable's storage."""
    return tf.Variable(value, trainable=is_trainable, dtype=value.dtype)


def sum_gradients(gradients, shape, is_complex=False):
    """Returns the sum of gradients as one dense tensor of floats; zeros if there are none.

    Args:
        gradients: Tensors, some perhaps sparse.
        shape: Shape of the sum; for a complex variable its last axis holds the real and the imaginary part.
        is_complex: Whether the variable is complex.

    Raises:
        ValueError: For a gradient that does not fit the shape.
    """
    if not gradients:
        return tf.zeros(shape)
    return tf.add_n([broadcast(as_received(g, is_complex), shape) for g in gradients])


def select_scalars(values):
    """Returns those of some values that are real scalars, as tensors in float64."""
    tensors = [
        tf.convert_to_tensor(v)
        for v in values
        if tf.is_tensor(v) or isinstance(v, (float, int, np.number))
    ]
    real = [t for t in tensors if t.dtype.is_floating or t.dtype.is_integer]
    return [tf.cast(t, tf.float64) for t in real if t.shape.rank == 0]


def _variable_type(handle):
    """The shape and dtype of the variable whose storage a resource is; None for a table, iterator or queue."""
    data = getattr(handle, "_handle_data", None) if handle.dtype == tf.resource else None
    if data is None or not data.is_set or len(data.shape_and_type) != 1:
        return None
    (data,) = data.shape_and_type
    return tf.TensorSpec(tf.TensorShape(data.shape), tf.as_dtype(data.dtype))


def _copy(handle):
    spec = _variable_type(handle)
    value = _read(handle, spec.dtype)
    return tf.Variable(
        value, trainable=False, dtype=spec.dtype, shape=spec.shape, validate_shape=False
    )


def _read(handle, dtype):
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)


@contextlib.contextmanager
def _own_generators():
    """While open, the checking thread draws from copies of TensorFlow's global generators."""
    original = stateful_random_ops.global_generator
    copies = []

    def own():
        if not copies:
            with tf.init_scope():
                copies.append(
                    tf.random.Generator.from_non_deterministic_state()
                    if original is None
                    else tf.random.Generator(
                        copy_from=original
                    )  # from its state it would share the variable
                )
        return copies[0]

    global_seeds = getattr(
        context.context(), "_rng", None
    )  # there is one once a global seed has been set
    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        if global_seeds is not None:
            seeds = random.Random()
            seeds.setstate(global_seeds.getstate())
            put(context, "internal_operation_seed", lambda: seeds.randint(0, 2**31 - 1))
        stack.enter_context(threads.patch_function(tf.random.get_global_generator, own))
        yield


@contextlib.contextmanager
def _nothing_advanced():
    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        for module, name in _ADVANCING:
            put(module, name, lambda *args, name=name, **kwargs: _refuse([name]))
        yield


@contextlib.contextmanager
def _written_back(copies):
    """While open, values of variables that have no copy are noted before they are written to, and put back."""
    noted = {}

    def note(handle):
        if id(handle) in copies or id(handle) in noted or handle.dtype != tf.resource:
            return
        spec = _variable_type(handle)
        is_known = spec is not None and bool(
            gen_resource_variable_ops.var_is_initialized_op(handle)
        )
        noted[id(handle)] = handle, _read(handle, spec.dtype) if is_known else None

    def noting(assigning):
        def assign(resource, *args, **kwargs):
            if tf.executing_eagerly():
                note(resource)
            return assigning(resource, *args, **kwargs)

        return assign

    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        for module, name in _ASSIGNING:
            put(module, name, noting(getattr(module, name)))
        try:
            yield
        finally:
            for handle, value in noted.values():
                if value is not None:
                    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
