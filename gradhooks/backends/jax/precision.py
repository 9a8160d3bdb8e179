"""Contexts in which float64 exists, and in which code computes as in training.

JAX decides by a flag of the thread whether 64 bits exist. What is traced meanwhile is
kept out of the caches that training uses.
"""

import contextlib
import itertools
import threading

import jax
from jax._src import config as jax_config

# A part of the key of every cache of traces. Each context has a number of its own, so that no
# trace made in it is ever found again, also where the user trains with 64 bits.
_trace_number = jax.make_user_context(None)
_numbers = itertools.count(1)
_local = threading.local()


@contextlib.contextmanager
def open_float64():
    """While open, arrays of 64 bits exist for this thread, and no cache remembers its traces."""
    is_outermost = not hasattr(_local, "is_wide")
    if is_outermost:
        _local.is_wide = bool(jax.config.jax_enable_x64)
    try:
        with jax.enable_x64(True), open_training():
            yield
    finally:
        if is_outermost:
            del _local.is_wide


@contextlib.contextmanager
def native_precision():
    """While open, within `open_float64`, 64 bits exist if they do in training."""
    with jax.enable_x64(getattr(_local, "is_wide", jax.config.jax_enable_x64)):
        yield


def is_wider_than_training():
    """Whether 64 bits exist now, and do not in training."""
    return bool(jax.config.jax_enable_x64) and not getattr(_local, "is_wide", True)


@contextlib.contextmanager
def open_training():
    """While open, code is traced as in training, and no cache remembers its traces.

    JAX neither removes its frames from tracebacks nor notes on an exception that it did.
    """
    with _trace_number(next(_numbers)), jax_config.traceback_filtering("off"):
        yield


def wide():
    """Returns a context in which this thread's arrays may have 64 bits."""
    return jax.enable_x64(True)


def repair_operations(module, is_promoted):
    """Returns a context without effect: JAX computes in float64 what it computes in float32."""
    return contextlib.nullcontext()
