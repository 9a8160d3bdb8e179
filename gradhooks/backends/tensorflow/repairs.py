"""Operations that float64 needs in another form: grouped convolutions and the sign bit."""

import contextlib

import keras
from keras import ops

from gradhooks.isolation import threads


@contextlib.contextmanager
def repair_operations(module, is_promoted):
    """While open, operations that TensorFlow cannot compute in float64 take another form.

    Args:
        module: Function from a name, such as `"nn"`, to the module of Keras' operations.
        is_promoted: Whether casts are left out of what is traced.
    """
    with threads.open_patcher() as patch:
        patch(module("nn"), "conv", _split_grouped_convolutions(module("nn")))
        if is_promoted:
            patch(module("numpy"), "signbit", _find_sign)
        yield


def _split_grouped_convolutions(module):
    """Returns a convolution that computes one group after the other.

    TensorFlow cannot differentiate them all at once in float64. With one
    channel a group they are the depthwise convolution, which it can
    differentiate, with one stride and in two dimensions. In three dimensions it
    cannot compute groups at any precision, unless it first rewrites the graph
    to fuse them.
    """
    convolve = module.conv

    def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
        is_first = (data_format or keras.config.image_data_format()) == "channels_first"
        axis = 1 if is_first else -1
        groups = inputs.shape[axis] // kernel.shape[-2]
        strides = _as_tuple(strides)
        options = strides, padding, data_format, _as_tuple(dilation_rate)
        is_volume = len(inputs.shape) == 5
        is_wide = keras.backend.standardize_dtype(kernel.dtype) == "float64"
        if groups == 1 or not (is_wide or is_volume):
            return convolve(inputs, kernel, *options)
        has_one_stride = isinstance(strides, int) or len(set(strides)) == 1
        if kernel.shape[-2] == 1 and not is_volume and has_one_stride:
            shape = (*kernel.shape[:-2], groups, kernel.shape[-1] // groups)
            return module.depthwise_conv(inputs, ops.reshape(kernel, shape), *options)
        input_groups = ops.split(inputs, groups, axis)
        kernel_groups = ops.split(kernel, groups, -1)
        outputs = []
        for part, kernel_part in zip(input_groups, kernel_groups, strict=True):
            outputs.append(convolve(part, kernel_part, *options))
        return ops.concatenate(outputs, axis)

    return conv


def _as_tuple(sizes):
    return sizes if isinstance(sizes, int) else tuple(sizes)


def _find_sign(x):
    """Finds the sign bit by comparisons.

    Keras takes it from the bits of a float32, which a cast that was left out
    does not give.
    """
    x = ops.convert_to_tensor(x)
    is_negative_zero = ops.logical_and(ops.equal(x, 0), ops.less(1 / x, 0))
    return ops.logical_or(ops.less(x, 0), is_negative_zero)
