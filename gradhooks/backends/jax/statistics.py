"""Arrays inside a trace: where gradients can be taken, and their values in a few numbers."""

import jax
import jax.numpy as jnp

from gradhooks.backends.jax.tensors import is_symbolic
from gradhooks.backends.jax.tracing import is_outermost

# Of the waves along which arrays are moved, in radians an entry: the golden angle, of which no
# multiple comes near a whole turn for long. And the factor that makes their mean square 1.
_FREQUENCY = 2.399963229728653
_SQUARE_ROOT_OF_TWO = 2.0**0.5


def is_float_tensor(value):
    """Whether a value is an array of floats of a trace, in whichever loop or branch."""
    return is_symbolic(value) and jnp.issubdtype(value.dtype, jnp.floating)


def is_watchable(value):
    """Whether a value is an array of floats of the outermost trace."""
    return is_outermost(value) and is_float_tensor(value)


def insert_identity(tensor):
    """Returns a copy of an array, so that the gradient through this use alone can be taken."""
    return jnp.copy(tensor)


def add_direction(tensor, amount, seed):
    """Returns an array moved along a fixed direction of its own size.

    The direction is a wave over the flat entries, whose length no size is a
    multiple of, so that it is the same in every trace without random numbers.

    Args:
        tensor: An array of floats.
        amount: float64 scalar. How far, in root mean squares of the array.
        seed: int. Number of the direction.
    """
    entries = tensor.astype("float64")
    size = jnp.sqrt(jnp.mean(jnp.square(entries))) if tensor.size else jnp.ones(())
    is_usual = jnp.isfinite(size) & (size > 0)
    # As a constant: where nothing is moved yet, how the size changes has no part in the derivative.
    size = jax.lax.stop_gradient(jnp.where(is_usual, size, jnp.ones_like(size)))
    positions = jnp.arange(tensor.size, dtype="float64").reshape(tensor.shape)
    direction = _SQUARE_ROOT_OF_TWO * jnp.sin(_FREQUENCY * (positions + 1.0) + float(seed))
    return tensor + (amount * size * direction).astype(tensor.dtype)


def summarize(tensor):
    """Summarizes the entries of an array of floats.

    Returns:
        float64, shape (5,): the fraction of finite entries, the fraction of
        nonzero ones, and the root mean square, the largest magnitude and the
        projection of the finite entries, see `departure.Summary`. An empty array
        gives (1, 0, 0, 0, 0).
    """
    if not tensor.size:
        return jnp.array([1.0, 0, 0, 0, 0], "float64")
    is_finite = jnp.isfinite(tensor)
    finite = jnp.where(is_finite, tensor, 0).astype("float64").reshape(-1)
    numbers = jnp.arange(tensor.size, dtype="float64")
    projection = jnp.sum(finite * jnp.cos(numbers**2)) / tensor.size**0.5
    return jnp.stack(
        [
            jnp.mean(is_finite.astype("float64")),
            jnp.mean((tensor != 0).astype("float64")),
            jnp.sqrt(jnp.mean(jnp.square(finite))),
            jnp.max(jnp.abs(finite)),
            projection,
        ]
    )


def name_operations(name):
    """Returns a context whose operations, and their gradients', have a part of their name."""
    return jax.named_scope(name)
