"""Seeds of random operations, from the place of the draw and the iterations of loops around it."""

import hashlib

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import control_flow_v2_func_graphs

# Bits of the counter for the iterations of one loop. The counter has 64 bits: three nested loops of
# a million iterations each remain apart.
_LOOP_BITS = 20


def find_seed(draws, operation):
    """Finds the seed of the next draw.

    Args:
        draws: The `Draws` that knows where a draw takes place.
        operation: Name of the random operation.

    Returns:
        The key, uint64 of shape (1,), from the place alone, and the counter,
        uint64 of shape (2,), from the iteration of the loops around it.
    """
    path, number = draws.place(operation)
    digest = hashlib.blake2b(f"{path}\0{number}".encode(), digest_size=8).digest()
    iteration = tf.constant(0, tf.uint64)
    for turn in [*_find_traced_turns(), *draws.turns]:
        iteration = iteration * 2**_LOOP_BITS + tf.cast(turn, tf.uint64)
    key = tf.constant(np.frombuffer(digest, np.uint64))
    return key, tf.stack([tf.constant(0, tf.uint64), iteration])


def _find_traced_turns():
    """Finds the counters of the loops around the operation being traced, the outermost first."""
    turns = []
    graph = tf.compat.v1.get_default_graph()
    while isinstance(graph, FuncGraph):
        if isinstance(graph, control_flow_v2_func_graphs.WhileBodyFuncGraph):
            # The first argument of a body is its counter.
            turns.append(graph.get_operations()[0].outputs[0])
        graph = graph.outer_graph
    return reversed(turns)
