"""Complex tensors as pairs of real numbers, which can be moved and differentiated with respect to.

For a real loss L of z = a + ib, TensorFlow's gradient is dL/da + i dL/db, so
that its pairs are the gradient with respect to the pairs.
"""

import tensorflow as tf

from gradhooks.backends.tensorflow.casts import cast


def to_pairs(tensor):
    """Returns a complex tensor as a real one, whose last axis holds real and imaginary part.

    Real tensors are returned as they are.
    """
    if not tensor.dtype.is_complex:
        return tensor
    return tf.stack([tf.math.real(tensor), tf.math.imag(tensor)], axis=-1)


def from_pairs(tensor, dtype):
    """Returns floats at a dtype; for a complex dtype they are pairs: the inverse of `to_pairs`."""
    target = tf.as_dtype(dtype)
    if not target.is_complex or tensor.dtype.is_complex:
        return cast(tensor, dtype)
    parts = cast(tensor, target.real_dtype)
    return tf.complex(parts[..., 0], parts[..., 1])


def as_received(gradient, is_complex):
    """Returns a gradient as its variable takes it.

    Args:
        gradient: A tensor, dense or sparse, real or complex.
        is_complex: Whether the variable is complex.

    Returns:
        Pairs for a complex variable, the real part for a real one.
    """
    gradient = tf.convert_to_tensor(gradient)
    if not is_complex:
        return tf.math.real(gradient) if gradient.dtype.is_complex else gradient
    if not gradient.dtype.is_complex:
        gradient = tf.complex(gradient, tf.zeros_like(gradient))
    return to_pairs(gradient)
