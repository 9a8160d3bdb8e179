"""Casts between floats, and noise as XLA draws it."""

import collections
import contextlib
import functools

import tensorflow as tf
from tensorflow.python.framework import op_def_library, op_def_registry
from tensorflow.python.framework.ops import gradient_registry
from tensorflow.python.ops import gen_math_ops, math_ops

from gradhooks.backends.tensorflow.functions import call
from gradhooks.isolation import threads

_cast = gen_math_ops.cast
_COMPLEX = {tf.float32: tf.complex64, tf.float64: tf.complex128}
_is_in_xla = False


def call_with_xla(function, argument):
    """Calls a function of one tensor as XLA would compile it: its random numbers differ from TensorFlow's own."""
    global _is_in_xla
    before, _is_in_xla = _is_in_xla, True
    try:
        return call(tf.function(function, autograph=False, jit_compile=True), argument)
    finally:
        _is_in_xla = before


def is_in_xla():
    """Whether `with_xla` is calling, which only the checking thread asks it to."""
    return _is_in_xla


def cast(value, dtype):
    """Casts floats to floats and complex numbers to such, whoever intercepts casts; leaves other dtypes alone.

    The gradient is cast back, by TensorFlow or by what intercepts casts.
    """
    target = tf.as_dtype(dtype)
    are_complex = value.dtype.is_complex and target.is_complex
    if (
        not (are_complex or (value.dtype.is_floating and target.is_floating))
        or value.dtype == target
    ):
        return value
    return _cast(value, target)


@contextlib.contextmanager
def widen_mixed_operands(is_widening):
    """While open, and `is_widening()`, operations of the checking thread take a narrow float beside one of float64.

    Code that is right at float32 writes constants and random numbers at float32, which stay what they are in a trace
    where all else is float64. TensorFlow mixes no floats, so no mixture can be of the code's own making.
    """

    apply, divide = op_def_library._apply_op_helper, math_ops._truediv_python3

    def applied(op_type_name, name=None, **inputs):
        if is_widening():
            for arguments in _of_one_dtype(op_type_name):
                _widen(inputs, arguments)
        return apply(op_type_name, name, **inputs)

    def divided(x, y, name=None):
        operands = {"x": x, "y": y}
        if is_widening():
            _widen(operands, ("x", "y"))
        return divide(**operands, name=name)

    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        put(op_def_library, "_apply_op_helper", applied)
        put(math_ops, "_truediv_python3", divided)  # looks at the dtypes itself
        yield


@functools.cache
def _of_one_dtype(operation):
    """The names of the inputs of an operation that must be of the same dtype, one tuple per dtype."""
    names = collections.defaultdict(list)
    for argument in op_def_registry.get(operation).input_arg:
        if argument.type_attr:
            names[argument.type_attr].append(argument)
    return [
        tuple(a.name for a in found)
        for found in names.values()
        if len(found) > 1 or found[0].number_attr
    ]


def _widen(inputs, names):
    """Casts tensors of narrow floats to float64 where another of them is of float64."""
    values = [v for name in names for v in tf.nest.flatten(inputs.get(name))]
    dtypes = {v.dtype for v in values if isinstance(v, tf.Tensor)}
    if tf.float64 in dtypes and len(dtypes) > 1:
        for name in names:
            inputs[name] = tf.nest.map_structure(_wide, inputs[name])


def _wide(value):
    is_narrow = (
        isinstance(value, tf.Tensor) and value.dtype.is_floating and value.dtype != tf.float64
    )
    return _cast(value, tf.float64) if is_narrow else value


@contextlib.contextmanager
def intercept_casts(is_narrowing):
    """While open, casts of the checking thread for which `is_narrowing(source, target)` holds lose no digits.

    They return their input. Between real and complex numbers they still cast,
    at the precision of the source; such numbers go by the dtype of their parts.
    """
    original = gen_math_ops.cast

    def cast(x, DstT, Truncate=False, name=None):
        source, target = x.dtype.base_dtype, tf.as_dtype(DstT).base_dtype
        if is_narrowing(source.real_dtype.name, target.real_dtype.name):
            if source.is_complex == target.is_complex:
                return tf.identity(x)
            return original(
                x, _COMPLEX[source] if target.is_complex else source.real_dtype, Truncate, name
            )
        return original(x, DstT, Truncate, name)

    def exact_gradient(operation, upstream):
        # What was cast up must come down again, so this one cast is never intercepted.
        source = operation.inputs[0].dtype.base_dtype
        return _cast(upstream, source) if source.is_floating or source.is_complex else None

    registered = gradient_registry._registry["Cast"]
    gradient = registered["type"]
    with contextlib.ExitStack() as stack:
        threads.Patcher(stack)(gen_math_ops, "cast", cast)
        registered["type"] = threads.choose_by_thread(gradient, exact_gradient)
        stack.callback(registered.__setitem__, "type", gradient)
        yield
