"""Right gradients of layers written in JAX and not in Keras' operations."""

import jax
import jax.numpy as jnp
import numpy as np
from keras import layers

from tests.corpora.controls.building import between
from tests.corpora.corpus import Case


class _NarrowProduct(layers.Layer):
    """Multiplies in float32 with JAX's own cast."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

    def call(self, x):
        kernel = jnp.asarray(self.kernel.value).astype(jnp.float32)
        return jnp.tanh(x.astype(jnp.float32) @ kernel).astype(x.dtype)


class _Spectrum(layers.Layer):
    """Mixes positions with a Fourier transform in complex64."""

    def call(self, x):
        return jnp.real(jnp.fft.fft2(x.astype(jnp.complex64))).astype(x.dtype)


@jax.custom_vjp
def _outside(x):
    return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def _ahead(x):
    y = _outside(x)
    return y, y


_outside.defvjp(_ahead, lambda y, upstream: (upstream * (1 - y * y),))


class OutsideWithGradient(layers.Layer):
    """Leaves the trace for Python and brings its own gradient, which is right."""

    def call(self, x):
        return _outside(x)


CASES = [
    Case("hidden_jax_cast", between(_NarrowProduct), note="astype(float32)"),
    Case(
        "complex64_mixing",
        between(_Spectrum, (4, 6)),
        note="a float32 core behind a Fourier transform",
    ),
    Case("through_python_with_gradient", between(lambda: OutsideWithGradient(name="outside"))),
]
