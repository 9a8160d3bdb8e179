"""Wrong derivatives in JAX's own constructions are caught and placed; right ones pass."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks


@jax.custom_vjp
def off(x):
    """tanh, whose gradient is 1.001 times too large."""
    return jnp.tanh(x)


off.defvjp(lambda x: (jnp.tanh(x),) * 2, lambda y, slope: (1.001 * slope * (1 - y * y),))


@jax.custom_jvp
def off_forward(x):
    """tanh, whose tangent is 1.001 times too large."""
    return jnp.tanh(x)


@off_forward.defjvp
def _off_forward_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    y = jnp.tanh(x)
    return y, 1.001 * tangent * (1 - y * y)


@jax.custom_vjp
def honest(x):
    """tanh with its own rule."""
    return jnp.tanh(x)


honest.defvjp(lambda x: (jnp.tanh(x),) * 2, lambda y, slope: (slope * (1 - y * y),))


KEY = jax.random.PRNGKey(3)


def scanned(function):
    """Applies a function twice in a loop of JAX's."""
    return lambda x: jax.lax.scan(lambda carry, _: (function(carry), None), x, None, 2)[0]


WRONG = {
    "custom_vjp": off,
    "custom_jvp": off_forward,
    "in jit": jax.jit(off),
    "in checkpoint": jax.checkpoint(off),
    "in scan": scanned(off),
    "in cond": lambda x: jax.lax.cond(jnp.sum(x) > -1e9, off, jnp.tanh, x),
    "in remat": keras.remat(off),
    "stop_gradient": jax.lax.stop_gradient,
    "keras.ops.custom_gradient": ops.custom_gradient(
        lambda x: (x + 0, lambda *slopes, upstream=None: 0.9 * (slopes or (upstream,))[0])
    ),
}
RIGHT = {
    "custom_vjp": honest,
    "in jit": jax.jit(honest),
    "in checkpoint": jax.checkpoint(honest),
    "in scan": scanned(honest),
    "in cond": lambda x: jax.lax.cond(jnp.sum(x) > -1e9, honest, jnp.tanh, x),
    "while without a gradient": lambda x: (
        x + jax.lax.stop_gradient(jax.lax.fori_loop(0, 3, lambda _, c: jnp.tanh(c), x)) * 0
    ),
    "a reduction at a dtype": lambda x: x - jnp.mean(x, -1, keepdims=True, dtype="float32"),
    "a constant of NumPy's": lambda x: x * np.float64(1.5),
    "a key of its own": lambda x: x * jax.random.bernoulli(KEY, 0.5, x.shape).astype(x.dtype),
    "uniform numbers without a dtype": lambda x: x * jax.random.uniform(KEY, x.shape),
    "normal numbers at the dtype of x": lambda x: x + jax.random.normal(KEY, x.shape, x.dtype),
    "exponential numbers": lambda x: x * (1 + jax.random.exponential(KEY, x.shape)),
    "debugging": lambda x: (jax.debug.callback(lambda v: None, x), jnp.tanh(x))[1],
    "pure_callback": lambda x: (
        x
        * jax.pure_callback(
            lambda v: np.ones_like(v),
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            jax.lax.stop_gradient(x),
        )
    ),
}


def make(function):
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="tanh", name="below"),
            layers.Lambda(function, name="suspect"),
            layers.Dense(3),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, rng.normal(size=(8, 5)).astype("float32"), rng.integers(0, 3, 8)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_caught_and_placed(name):
    report = gradhooks.check_gradients(*make(WRONG[name]))
    assert report.verdict is gradhooks.Verdict.FAIL, report
    assert report.precision.level == "float64"
    assert report.culprit.path == "sequential/suspect" or report.culprit.path.endswith("suspect")


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rule_passes(name):
    report = gradhooks.check_gradients(*make(RIGHT[name]))
    assert report.verdict is not gradhooks.Verdict.FAIL, report
    assert report.verdict is gradhooks.Verdict.PASS, report


def test_a_complex_weight_is_trained_with_the_conjugate():
    """JAX's gradient of a real loss is the conjugate of what a step must follow."""

    class Complex(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(5,), dtype="complex64", initializer="ones")

        def call(self, x):
            z = ops.cast(x, "complex64") * self.w * (1 + 0.5j)
            return ops.real(z) * ops.imag(z)

    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((5,)), Complex(), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = rng.normal(size=(8, 5)).astype("float32")
    report = gradhooks.check_gradients(model, x, x[:, :1])
    assert report.verdict is gradhooks.Verdict.FAIL, report
