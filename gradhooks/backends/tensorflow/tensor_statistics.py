"""Tensors inside a trace: where gradients can be taken, and their values in a few numbers."""

import tensorflow as tf

from gradhooks.backends.tensorflow.tensors import is_symbolic

# Attributes that Keras sets on tensors and an identity operation would lose.
_KERAS_ATTRIBUTES = ("_keras_mask", "_keras_logits")
# Of the waves along which tensors are moved, in radians an entry: the golden angle, of which no
# multiple comes near a whole turn for long. And the factor that makes their mean square 1.
_FREQUENCY = 2.399963229728653
_SQUARE_ROOT_OF_TWO = 2.0**0.5


def is_watchable(value):
    """Whether a value is a tensor of floats of the graph being traced.

    Tensors of loops and branches within it are not.
    """
    is_here = is_symbolic(value) and value.graph is tf.compat.v1.get_default_graph()
    return is_here and value.dtype.is_floating


def insert_identity(tensor):
    """Returns a copy of a tensor, so that the gradient through this use alone can be taken."""
    copy = tf.identity(tensor)
    for name in _KERAS_ATTRIBUTES:
        if hasattr(tensor, name):
            setattr(copy, name, getattr(tensor, name))
    return copy


def is_float_tensor(value):
    """Whether a value is a dense tensor of floats of a trace, in whichever loop or branch."""
    return is_symbolic(value) and value.dtype.is_floating


def add_direction(tensor, amount, seed):
    """Returns a tensor moved along a fixed direction of its own size.

    The direction is a wave over the flat entries, whose length no size is a
    multiple of, so that it is the same in every trace without random numbers.

    Args:
        tensor: A dense tensor of floats.
        amount: float64 scalar tensor. How far, in root mean squares of the tensor.
        seed: int. Number of the direction.
    """
    entries = tf.cast(tensor, tf.float64)
    size = tf.sqrt(tf.reduce_mean(tf.square(entries)))
    is_usual = tf.math.is_finite(size) & (size > 0)
    # As a constant: where nothing is moved yet, how the size changes has no part in the derivative.
    size = tf.stop_gradient(tf.where(is_usual, size, tf.ones_like(size)))
    positions = tf.reshape(tf.range(tf.size(tensor)), tf.shape(tensor))
    angles = _FREQUENCY * (tf.cast(positions, tf.float64) + 1.0) + float(seed)
    direction = _SQUARE_ROOT_OF_TWO * tf.sin(angles)
    moved = tensor + tf.cast(amount * size * direction, tensor.dtype)
    return _keep_attributes(tensor, moved, amount, seed)


def _keep_attributes(tensor, moved, amount, seed):
    """Gives a tensor the attributes that Keras has set on another; logits are moved too."""
    for name in _KERAS_ATTRIBUTES:
        value = getattr(tensor, name, None)
        if value is None:
            continue
        if name == "_keras_logits":
            value = add_direction(value, amount, seed)
        setattr(moved, name, value)
    return moved


def differentiate_scaled(target, factor, tensors):
    """Differentiates `factor * target`.

    Args:
        target: A scalar tensor of the graph being traced.
        factor: A number or scalar tensor, cast to the dtype of `target`.
        tensors: The tensors to differentiate with respect to.

    Returns:
        List with a dense tensor for each of `tensors`, None where `target` does
        not depend on it.
    """
    gradients = tf.gradients(target * tf.cast(factor, target.dtype), tensors)
    return [None if g is None else tf.convert_to_tensor(g) for g in gradients]


def summarize(tensor):
    """Summarizes the entries of a tensor of floats.

    Returns:
        float64, shape (5,): the fraction of finite entries, the fraction of
        nonzero ones, and the root mean square, the largest magnitude and the
        projection of the finite entries, see `departure.Summary`. An empty tensor
        gives (1, 0, 0, 0, 0).
    """
    count = tf.cast(tf.maximum(tf.size(tensor), 1), tf.float64)

    is_finite = tf.math.is_finite(tensor)
    finite = tf.cast(tf.where(is_finite, tensor, tf.zeros_like(tensor)), tf.float64)
    finite_fraction = _count_true(is_finite) / count
    is_empty = tf.equal(tf.size(tensor), 0)
    finite_fraction = tf.where(is_empty, tf.ones_like(count), finite_fraction)
    nonzero_fraction = _count_true(tf.not_equal(tensor, 0)) / count

    root_mean_square = tf.sqrt(tf.reduce_sum(tf.square(finite)) / count)
    magnitudes = tf.reshape(tf.abs(finite), [-1])
    largest = tf.reduce_max(tf.concat([[0.0], magnitudes], 0))
    projection = _project(finite) / tf.sqrt(count)
    return tf.stack([finite_fraction, nonzero_fraction, root_mean_square, largest, projection])


def _project(values):
    """Returns the sum of the entries, each times a number between -1 and 1 as if drawn at random.

    The cosines of squares follow no pattern that values could follow too.
    """
    flat = tf.reshape(values, [-1])
    numbers = tf.cast(tf.range(tf.size(flat)), tf.float64)
    return tf.reduce_sum(flat * tf.cos(tf.square(numbers)))


def _count_true(mask):
    return tf.reduce_sum(tf.cast(mask, tf.float64))
