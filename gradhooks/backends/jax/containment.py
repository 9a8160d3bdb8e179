"""Random draws, data and devices; and contexts that TensorFlow needs and JAX does not."""

import contextlib
import sys
import warnings

import jax
import jax.numpy as jnp

from gradhooks.backends.jax.precision import is_wider_than_training, native_precision
from gradhooks.isolation import threads

# The draws whose numbers depend on whether 64 bits exist.
_DRAWS = (
    "bernoulli",
    "beta",
    "binomial",
    "exponential",
    "gamma",
    "gumbel",
    "laplace",
    "normal",
    "truncated_normal",
    "uniform",
)


@contextlib.contextmanager
def fix_draws(draws):
    """While open, a draw with a key gives what it gives in training, where float64 is promoted.

    From the same key JAX draws other numbers with 64 bits, also where no dtype is asked for.
    """
    with threads.open_patcher() as patch:
        for name in _DRAWS:
            patch(jax.random, name, _draw_as_in_training(getattr(jax.random, name)))
        yield


def _draw_as_in_training(draw):
    """Wraps a function of `jax.random`: what it draws at the precision of training is widened."""

    def draw_native(*args, **kwargs):
        if not is_wider_than_training():
            return draw(*args, **kwargs)
        with native_precision(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a dtype of 64 bits is asked for
            numbers = draw(*args, **kwargs)
        is_float = jnp.issubdtype(numbers.dtype, jnp.floating)
        return numbers.astype("float64") if is_float else numbers

    return draw_native


def inline_functions():
    """Returns a context without effect: each trace has a key of its own in every cache."""
    return contextlib.nullcontext()


def copy_functions():
    """Returns a context without effect, see `inline_functions`."""
    return contextlib.nullcontext()


def copy_dataset(data):
    """Returns the first element of a `tf.data` pipeline as one of its own; others as they are."""
    if "tensorflow" not in sys.modules or not type(data).__module__.startswith("tensorflow"):
        return data
    from gradhooks.backends.tensorflow.datasets import copy_dataset

    return copy_dataset(data)


def count_devices(strategy):
    """Returns 1: a step sees the whole batch, however it is divided among devices."""
    return 1


def is_chief():
    """Whether this process is the first of those that train together."""
    return jax.process_index() == 0


def replica_context(strategy):
    """Returns a context without effect."""
    return contextlib.nullcontext()
