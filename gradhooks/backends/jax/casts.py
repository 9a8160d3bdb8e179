"""Casts between floats, and how they are intercepted."""

import contextlib

import jax.numpy as jnp
import numpy as np
from jax._src.lax import lax as lax_internal

from gradhooks.isolation import threads

# All casts of jax.numpy and of `astype` come here.
_convert = lax_internal._convert_element_type


def cast(value, dtype):
    """Casts floats to floats, even while casts are intercepted; other dtypes stay."""
    target = jnp.dtype(dtype)
    is_float = jnp.issubdtype(value.dtype, jnp.floating) and jnp.issubdtype(target, jnp.floating)
    is_complex = jnp.issubdtype(value.dtype, jnp.complexfloating)
    is_complex = is_complex and jnp.issubdtype(target, jnp.complexfloating)
    if not (is_float or is_complex) or value.dtype == target:
        return value
    return _convert(value, target)


def from_pairs(tensor, dtype):
    """Returns floats at a dtype, pairs as complex numbers if the dtype is complex."""
    is_complex = jnp.issubdtype(jnp.dtype(dtype), jnp.complexfloating)
    if not is_complex or jnp.issubdtype(tensor.dtype, jnp.complexfloating):
        return cast(tensor, dtype)
    return (tensor[..., 0] + 1j * tensor[..., 1]).astype(dtype)


@contextlib.contextmanager
def intercept_casts(is_narrowing):
    """While open, casts for which `is_narrowing(source, target)` holds return their input."""

    def convert(operand, new_dtype=None, *args, **kwargs):
        source = getattr(operand, "dtype", None)
        is_known = new_dtype is not None and source is not None
        if is_known and is_narrowing(np.dtype(source).name, jnp.dtype(new_dtype).name):
            return operand
        return _convert(operand, new_dtype, *args, **kwargs)

    with threads.open_patcher() as patch:
        patch(lax_internal, "_convert_element_type", convert)
        yield


def intercept_sources(is_on, is_widening, note):
    """Returns a context without effect: JAX widens a narrow operand beside a wide one."""
    return contextlib.nullcontext()


def widen_mixed_operands(is_widening):
    """Returns a context without effect, see `intercept_sources`."""
    return contextlib.nullcontext()


def call_with_xla(function, argument):
    """Calls a function; whether XLA compiles it makes no difference to what it draws."""
    return function(argument)
