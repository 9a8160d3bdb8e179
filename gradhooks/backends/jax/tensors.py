"""Arrays: to the device and back."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from gradhooks.backends.jax.precision import wide


def to_tensor(value):
    """Returns an array of the value's own dtype, 64 bits included."""
    with wide():
        return jnp.asarray(value)


def disassemble(value):
    """Returns a list of the array alone: there are no ragged ones."""
    return [value]


def reassemble(like, parts):
    """Returns the next part."""
    return next(parts)


def repeat_rows(value, rows, count):
    """Returns the first rows of an array, `count` times one behind the other."""
    return np.concatenate([np.asarray(value)[:rows]] * count)


def is_ragged(value):
    """JAX knows no ragged arrays."""
    return False


def make_ragged(parts):
    """Raises the error that such parts make no ragged array.

    Raises:
        ValueError: Always.
    """
    raise ValueError("JAX knows no ragged tensors; try KERAS_BACKEND=tensorflow")


def is_symbolic(value):
    """Whether a value belongs to a trace."""
    return isinstance(value, jax.core.Tracer)


def is_constant(value):
    """Whether a value is an array that holds numbers."""
    return isinstance(value, jax.Array) and not is_symbolic(value)


def snapshot(variables):
    """Returns the present values of Keras variables, each at its own dtype.

    They are copies by way of the host: the next step of the training gives the
    model's own buffers away, and where a model is spread over devices they belong to
    all of these, to which the parameters of a check do not.
    """
    return [to_tensor(to_host(variable.value)) for variable in variables]


def to_host(array):
    """Returns a copy of an array, of one that is divided among processes as well.

    All processes must ask for the latter together.
    """
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.array(array)
    return np.array(multihost_utils.process_allgather(array, tiled=True))


def flatten(tensors, dtype="float64"):
    """Copies arrays to the host, end to end: shape (P,); complex ones in pairs."""
    parts = []
    for tensor in tensors:
        array = np.asarray(tensor)
        if np.iscomplexobj(array):
            array = np.stack([array.real, array.imag], axis=-1)
        parts.append(np.ravel(array).astype(dtype))
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def to_pairs(tensor):
    """Returns a complex array as a real one, whose last axis holds real and imaginary part."""
    if not jnp.issubdtype(tensor.dtype, jnp.complexfloating):
        return tensor
    with wide():
        return jnp.stack([jnp.real(tensor), jnp.imag(tensor)], axis=-1)


def fill_missing_gradients(gradients, shapes):
    """Returns gradients as float64 arrays, zeros for those that are None."""
    filled = []
    for gradient, shape in zip(gradients, shapes, strict=True):
        if gradient is None:
            filled.append(jnp.zeros(shape, "float64"))
        else:
            filled.append(jnp.asarray(gradient).astype("float64"))
    return filled


def specify(nested):
    """Returns the shapes and dtypes of nested arrays."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), nested)


def specify_float64(shapes):
    """Returns specifications of float64 arrays."""
    return [jax.ShapeDtypeStruct(shape, np.float64) for shape in shapes]


def is_out_of_memory(error):
    """Whether an exception says that memory ran out."""
    is_of_jax = isinstance(error, jax.errors.JaxRuntimeError)
    return isinstance(error, MemoryError) or (is_of_jax and "RESOURCE_EXHAUSTED" in str(error))
