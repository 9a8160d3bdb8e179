"""Contexts that TensorFlow needs and JAX does not, and what belongs to devices and data."""

import contextlib
import sys


def fix_draws(draws):
    """Returns a context without effect: a draw follows from its key, and draws the same again."""
    return contextlib.nullcontext()


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


def replica_context(strategy):
    """Returns a context without effect."""
    return contextlib.nullcontext()
