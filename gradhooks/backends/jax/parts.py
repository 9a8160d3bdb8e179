"""A part of a trace by itself: some arrays, computed from others that are given."""

import jax.numpy as jnp
import numpy as np

from gradhooks.backends.jax.equations import select_needed
from gradhooks.backends.jax.precision import wide


class GraphPart:
    """Computes some arrays of a trace from others, which may have any values.

    Args:
        gradients: The `GradientProgram` whose trace holds the arrays.
        state: Arrays; not used, since the trace knows them.
        batch: Likewise.
        entries: The arrays that are given; none where all are computed as they are.
        exits: The arrays that are computed.
    """

    def __init__(self, gradients, state, batch, entries, exits):
        del state, batch
        self._gradients = gradients
        self._given = [tensor.val for tensor in entries]
        self._dtypes = [tensor.dtype for tensor in entries]
        self._wanted = [tensor.val for tensor in exits]
        self._equations = select_needed(gradients.equations, self._wanted, set(self._given))
        self._compiled = None

    def __call__(self, point, state, batch, given=()):
        """Returns the arrays that are computed, a list.

        Args:
            point: float64, shape (P,).
            state: Arrays.
            batch: Nested arrays.
            given: An array for each of the entries.
        """
        program = self._gradients
        with wide():
            arguments = program.bind_inputs(program.split(point), state, batch)
            for variable, value, dtype in zip(self._given, given, self._dtypes, strict=True):
                arguments[variable] = jnp.asarray(value, dtype)
            if self._compiled is None:
                self._compiled = program.compile(self._equations, arguments, self._wanted)
            return [np.asarray(array) for array in self._compiled(arguments)]
