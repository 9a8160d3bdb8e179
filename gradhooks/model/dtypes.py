"""Float dtypes, and tensors of the widest of them."""

import keras

from gradhooks.model import keras_internals

WIDE = "float64"
WIDE_COMPLEX = "complex128"
NARROW = ("float16", "bfloat16", "float32", "float8_e4m3fn", "float8_e5m2")
HALF = ("float16", "bfloat16")


def widen(value):
    """Returns a tensor of floats in float64, complex numbers in complex128, any other as it is."""
    dtype = keras_internals.dtype_of(value)
    if dtype.startswith("complex"):
        return keras.ops.cast(value, WIDE_COMPLEX)
    if keras.backend.is_float_dtype(dtype):
        return keras.ops.cast(value, WIDE)
    return value


def sum_wide(loss):
    """Returns in float64 the sum of what a layer added to the loss, at whatever precision."""
    return keras.ops.sum(keras.ops.cast(loss, WIDE))
