"""`tf.function`s of the user's code: none of them keeps a trace of a check.

They cache graphs by the dtypes and shapes of their arguments, and training
would be served what a check has traced. So the checking thread never calls the
functions themselves: their code becomes part of the trace that is made, or runs
as it stands. Code that does not take that is called as a copy without any trace.
"""

import contextlib

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx

from gradhooks.isolation import threads

_Function = type(tf.function(lambda: None))
_call, _get_concrete_function = _Function.__call__, _Function.get_concrete_function


def is_function(value):
    """Whether a value is a `tf.function`."""
    return isinstance(value, _Function)


def concrete(function, *specifications):
    """Returns the concrete function of a `tf.function` of gradhooks' own."""
    return _get_concrete_function(function, *specifications)


def call(function, *arguments):
    """Calls a `tf.function` of gradhooks' own."""
    return _call(function, *arguments)


@contextlib.contextmanager
def inline_functions():
    """While open, the checking thread runs the code of a `tf.function` in the place of it, converted as it would be."""
    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        put(_Function, "__call__", _run_code)
        put(
            _Function,
            "get_concrete_function",
            lambda f, *args, **kwargs: concrete(f._clone(None), *args, **kwargs),
        )
        yield


@contextlib.contextmanager
def copy_functions():
    """While open, the checking thread calls copies of `tf.function`s, made when they are first asked for."""
    copies = {}

    def copy(function):
        # The function is kept, so that its id is not given out again.
        if id(function) not in copies:
            copies[id(function)] = function, function._clone(None)
        return copies[id(function)][1]

    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        put(_Function, "__call__", lambda f, *args, **kwargs: _call(copy(f), *args, **kwargs))
        put(
            _Function,
            "get_concrete_function",
            lambda f, *args, **kwargs: concrete(copy(f), *args, **kwargs),
        )
        yield


def _run_code(function, *args, **kwargs):
    code = function.python_function
    if function._autograph:
        # Control flow on tensors becomes operations, as in a graph of the function's own.
        status = ag_ctx.ControlStatusCtx(status=ag_ctx.Status.ENABLED)
        code = tf.__internal__.autograph.tf_convert(code, status)
    return code(*_as_signed(function, args), **kwargs)


def _as_signed(function, args):
    """Turns numbers and arrays into tensors where the function's signature has tensors; tensors keep their dtypes."""
    signature = function.input_signature
    if signature is None:
        return args
    return [
        tf.convert_to_tensor(value, spec.dtype)
        if isinstance(spec, tf.TensorSpec) and not _is_tensor(value)
        else value
        for value, spec in zip(args, [*signature, *[None] * len(args)], strict=False)
    ]


def _is_tensor(value):
    return tf.is_tensor(value) or hasattr(value, "__tf_tensor__")
