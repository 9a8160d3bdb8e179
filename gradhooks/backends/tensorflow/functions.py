"""`tf.function`s in the user's code, none of which keeps a trace of a check.

They cache graphs by the dtypes and shapes of their arguments, and training
would be given a graph that a check has traced. So the checking thread never
calls the functions themselves: their code becomes part of the trace being made,
or runs eagerly. Where the code allows neither, copies of the functions without
any trace are called.
"""

import contextlib

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx

from gradhooks.backends.tensorflow.custom_gradients import (
    forget_gradients,
    list_registered_gradients,
)
from gradhooks.isolation import threads

_Function = type(tf.function(lambda: None))
_call, _get_concrete_function = _Function.__call__, _Function.get_concrete_function


def is_function(value):
    """Whether a value is a `tf.function`."""
    return isinstance(value, _Function)


def trace(function, *specifications):
    """Traces a `tf.function` of gradhooks' own, even while others are inlined or copied.

    Nothing differentiates its graph later, so that no custom gradient need hold it.

    Returns:
        The concrete function.
    """
    known = list_registered_gradients()
    traced = _get_concrete_function(function, *specifications)
    # The graph refers to variables weakly, and a gradient may have held the only reference.
    traced.variables_in_use = traced.graph.variables
    forget_gradients(known, traced.graph)
    return traced


def call(function, *arguments):
    """Calls a `tf.function` of gradhooks' own, even while others are inlined or copied."""
    return _call(function, *arguments)


@contextlib.contextmanager
def inline_functions():
    """Runs, while open, the code of a `tf.function` in place of the function.

    Autograph converts the code as it would for the function. This holds for the
    checking thread.
    """

    def trace_copy(function, *args, **kwargs):
        return _get_concrete_function(function._clone(None), *args, **kwargs)

    with threads.open_patcher() as patch:
        patch(_Function, "__call__", _run_code)
        patch(_Function, "get_concrete_function", trace_copy)
        yield


@contextlib.contextmanager
def copy_functions():
    """Calls, while open, a copy of each `tf.function`, made when the function is first called.

    This holds for the checking thread.
    """
    copies = {}  # id -> (function, copy): the function is kept, so that its id is not given again

    def copy_of(function):
        if id(function) not in copies:
            copies[id(function)] = function, function._clone(None)
        return copies[id(function)][1]

    def call_copy(function, *args, **kwargs):
        return _call(copy_of(function), *args, **kwargs)

    def trace_copy(function, *args, **kwargs):
        return _get_concrete_function(copy_of(function), *args, **kwargs)

    with threads.open_patcher() as patch:
        patch(_Function, "__call__", call_copy)
        patch(_Function, "get_concrete_function", trace_copy)
        yield


def _run_code(function, *args, **kwargs):
    """Runs the Python code of a `tf.function`."""
    code = function.python_function
    if function._autograph:
        # Control flow on tensors becomes operations, as in a graph of the function's own.
        status = ag_ctx.ControlStatusCtx(status=ag_ctx.Status.ENABLED)
        code = tf.__internal__.autograph.tf_convert(code, status)
    return code(*_convert_arguments(function, args), **kwargs)


def _convert_arguments(function, args):
    """Converts numbers and arrays to tensors where the function's signature has tensors.

    Tensors keep their dtypes, whatever the signature says.
    """
    signature = function.input_signature
    if signature is None:
        return args
    converted = []
    for value, spec in zip(args, [*signature, *[None] * len(args)], strict=False):
        if isinstance(spec, tf.TensorSpec) and not _is_tensor(value):
            value = tf.convert_to_tensor(value, spec.dtype)
        converted.append(value)
    return converted


def _is_tensor(value):
    return tf.is_tensor(value) or hasattr(value, "__tf_tensor__")
