"""Functions of arrays, traced to be run at once."""

import jax
import numpy as np

from gradhooks.backends.jax.gradients import compile_fast
from gradhooks.backends.jax.precision import wide
from gradhooks.backends.jax.tracing import note_trace


def evaluate(function, *arguments, times=1, is_optimized=False, is_xla=False):
    """Traces a function of nested arrays once and runs it.

    Args:
        function: Function of `arguments` that returns a list of arrays.
        *arguments: Nested arrays.
        times: How often the trace is run.
        is_optimized: Without effect: XLA compiles everything.
        is_xla: Likewise.

    Returns:
        For each run a list of arrays: the values.
    """

    def traced(*arguments):
        with note_trace():
            return function(*arguments)

    with wide():
        compiled = compile_fast(jax.jit(traced).lower(*arguments))
        return [[np.asarray(array) for array in compiled(*arguments)] for _ in range(times)]
