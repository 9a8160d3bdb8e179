"""What keeps a train step that runs eagerly from leaving traces outside of copied variables.

Each context acts on the checking thread alone.
"""

import contextlib
import random

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import (
    gen_dataset_ops,
    gen_lookup_ops,
    gen_resource_variable_ops,
    gen_state_ops,
    stateful_random_ops,
)

from gradhooks.backends.tensorflow.handles import read_handle, specify_variable
from gradhooks.isolation import threads
from gradhooks.reports.errors import RecordingError

# Operations whose effect can neither be copied nor put back.
_ADVANCING = (
    (gen_dataset_ops, "iterator_get_next"),
    (gen_dataset_ops, "iterator_get_next_sync"),
    (gen_lookup_ops, "lookup_table_insert_v2"),
    (gen_lookup_ops, "lookup_table_import_v2"),
    (gen_lookup_ops, "lookup_table_remove_v2"),
)


def _find_assigning():
    """Finds all functions that write to a variable: pairs (module, name)."""
    assigning = []
    for module in (gen_resource_variable_ops, gen_state_ops):
        for name in vars(module):
            is_assigning = name.startswith(("assign_", "resource_scatter_"))
            if is_assigning and not name.endswith("_eager_fallback"):
                assigning.append((module, name))
    return assigning


_ASSIGNING = _find_assigning()


def refuse_operations(operations):
    """Refuses a step that changes state which cannot be copied.

    Args:
        operations: Names of the operations that change it.

    Raises:
        RecordingError: If there are any.
    """
    if operations:
        raise RecordingError(
            "`train_step` writes to state outside of variables, which cannot be kept out: "
            + ", ".join(operations[:3])
        )


@contextlib.contextmanager
def refuse_advances():
    """Refuses, while open, operations that advance an iterator or change a table."""
    with threads.open_patcher() as patch:
        for module, name in _ADVANCING:
            patch(module, name, lambda *args, name=name, **kwargs: refuse_operations([name]))
        yield


@contextlib.contextmanager
def copy_generators():
    """Draws, while open, from copies of TensorFlow's global generators."""
    original = stateful_random_ops.global_generator
    copies = []

    def get_copy():
        if not copies:
            with tf.init_scope():
                copies.append(_copy_generator(original))
        return copies[0]

    with contextlib.ExitStack() as stack:
        patch = threads.Patcher(stack)
        # There is a generator of operation seeds once a global seed has been set.
        global_seeds = getattr(context.context(), "_rng", None)
        if global_seeds is not None:
            seeds = random.Random()
            seeds.setstate(global_seeds.getstate())
            patch(context, "internal_operation_seed", lambda: seeds.randint(0, 2**31 - 1))
        stack.enter_context(threads.patch_function(tf.random.get_global_generator, get_copy))
        yield


def _copy_generator(original):
    """Returns a generator in the state of another, or a new one if there is none yet."""
    if original is None:
        return tf.random.Generator.from_non_deterministic_state()
    # Made from its state, the copy would share the variable.
    return tf.random.Generator(copy_from=original)


@contextlib.contextmanager
def restore_writes(copied):
    """Puts back, when it closes, the values of variables that were written to while it was open.

    Args:
        copied: Ids of the handles of copies, which need not be put back.
    """
    values = {}  # id of a handle -> (handle, value before it was first written to)

    def note(handle):
        if id(handle) in copied or id(handle) in values or handle.dtype != tf.resource:
            return
        spec = specify_variable(handle)
        value = None
        if spec is not None and bool(gen_resource_variable_ops.var_is_initialized_op(handle)):
            value = read_handle(handle, spec.dtype)
        values[id(handle)] = handle, value

    def make_noting(assign):
        def note_and_assign(resource, *args, **kwargs):
            if tf.executing_eagerly():
                note(resource)
            return assign(resource, *args, **kwargs)

        return note_and_assign

    with threads.open_patcher() as patch:
        for module, name in _ASSIGNING:
            patch(module, name, make_noting(getattr(module, name)))
        try:
            yield
        finally:
            for handle, value in values.values():
                if value is not None:
                    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
