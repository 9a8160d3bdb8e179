"""Casts between floats, and random numbers as XLA draws them."""

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
    """Calls a function of one tensor, compiled with XLA, whose random numbers differ."""
    global _is_in_xla
    before, _is_in_xla = _is_in_xla, True
    try:
        return call(tf.function(function, autograph=False, jit_compile=True), argument)
    finally:
        _is_in_xla = before


def is_in_xla():
    """Whether `call_with_xla` is running; only the checking thread calls it."""
    return _is_in_xla


def cast(value, dtype):
    """Casts floats to floats and complex to complex numbers, even while casts are intercepted.

    Values of other dtypes are returned as they are. The gradient is cast back,
    by TensorFlow or by what intercepts casts.
    """
    source, target = value.dtype, tf.as_dtype(dtype)
    is_complex = source.is_complex and target.is_complex
    is_floating = source.is_floating and target.is_floating
    if source == target or not (is_complex or is_floating):
        return value
    return _cast(value, target)


@contextlib.contextmanager
def widen_mixed_operands(is_widening):
    """Widens, while open, narrow floats that an operation takes beside one of float64.

    Code that is right at float32 writes constants and random numbers at
    float32, and they remain float32 in a trace where all else is float64.
    TensorFlow refuses to mix floats, so a mixture is never in the user's own
    code.

    Args:
        is_widening: Function that says whether to widen at the moment. Only the
            checking thread asks.
    """
    apply_operation, divide = op_def_library._apply_op_helper, math_ops._truediv_python3

    def apply_wide(op_type_name, name=None, **inputs):
        if is_widening():
            for names in _find_inputs_of_one_dtype(op_type_name):
                _widen(inputs, names)
        return apply_operation(op_type_name, name, **inputs)

    def divide_wide(x, y, name=None):
        operands = {"x": x, "y": y}
        if is_widening():
            _widen(operands, ("x", "y"))
        return divide(**operands, name=name)

    with threads.open_patcher() as patch:
        patch(op_def_library, "_apply_op_helper", apply_wide)
        patch(math_ops, "_truediv_python3", divide_wide)  # compares the dtypes itself
        yield


@functools.cache
def _find_inputs_of_one_dtype(operation):
    """Finds the inputs of an operation that must be of one dtype: a tuple of names per dtype."""
    by_attribute = collections.defaultdict(list)
    for argument in op_def_registry.get(operation).input_arg:
        if argument.type_attr:
            by_attribute[argument.type_attr].append(argument)
    groups = []
    for arguments in by_attribute.values():
        if len(arguments) > 1 or arguments[0].number_attr:
            groups.append(tuple(argument.name for argument in arguments))
    return groups


def _widen(inputs, names):
    """Casts narrow floats among some inputs to float64, where another of them is of float64."""
    dtypes = set()
    for name in names:
        for value in tf.nest.flatten(inputs.get(name)):
            if isinstance(value, tf.Tensor):
                dtypes.add(value.dtype)
    if tf.float64 in dtypes and len(dtypes) > 1:
        for name in names:
            inputs[name] = tf.nest.map_structure(_widen_one, inputs[name])


def _widen_one(value):
    if not isinstance(value, tf.Tensor):
        return value
    is_narrow = value.dtype.is_floating and value.dtype != tf.float64
    return _cast(value, tf.float64) if is_narrow else value


@contextlib.contextmanager
def intercept_casts(is_narrowing):
    """Replaces, while open, casts that would lose digits by identities.

    Between real and complex numbers values are still cast, at the precision of
    the source.

    Args:
        is_narrowing: Function `(source, target)` that says whether a cast
            between two float dtypes, given by name, is replaced. Complex
            numbers go by the dtype of their parts. Only the checking thread
            asks.
    """
    original = gen_math_ops.cast

    def cast_without_loss(x, DstT, Truncate=False, name=None):
        source, target = x.dtype.base_dtype, tf.as_dtype(DstT).base_dtype
        if not is_narrowing(source.real_dtype.name, target.real_dtype.name):
            return original(x, DstT, Truncate, name)
        if source.is_complex == target.is_complex:
            return tf.identity(x)
        at_precision = _COMPLEX[source] if target.is_complex else source.real_dtype
        return original(x, at_precision, Truncate, name)

    def cast_gradient(operation, upstream):
        # What was cast up must be cast down again, so this one cast is never intercepted.
        source = operation.inputs[0].dtype.base_dtype
        return _cast(upstream, source) if source.is_floating or source.is_complex else None

    entry = gradient_registry._registry["Cast"]
    gradient = entry["type"]
    with contextlib.ExitStack() as stack:
        threads.Patcher(stack)(gen_math_ops, "cast", cast_without_loss)
        entry["type"] = threads.choose_by_thread(gradient, cast_gradient)
        stack.callback(entry.__setitem__, "type", gradient)
        yield
