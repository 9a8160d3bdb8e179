"""Loops in a graph that evaluate the loss terms once per row, with some parameters moved."""

import math

import tensorflow as tf

from gradhooks.backends.tensorflow.gradients import capture

# Evaluations at once. One alone leaves cores idle between its operations. Two forward passes, which
# release an activation as soon as it is used, hold less than one forward and backward pass, which
# keeps them all. A free choice that changes time and memory only.
_AT_ONCE = 2
# Above this many parameters, 80 MB, evaluations run one at a time and variables are copied one by
# one. A free choice that changes time and memory only: operations of this size keep cores busy by
# themselves.
HEAVY_ABOVE = 1e7

# The specification of one float64 per row.
VECTOR = tf.TensorSpec([None], tf.float64)


def count_at_once(shapes, heavy_above):
    """Returns how many evaluations run at once.

    Args:
        shapes: Shapes of the variables that move.
        heavy_above: See `LossProgram`.
    """
    size = sum(math.prod(shape) for shape in shapes)
    return 1 if size > heavy_above else _AT_ONCE


def insert_loop(
    forward,
    subgraph,
    group,
    move,
    unmoved,
    rows,
    results,
    at_once,
):
    """Inserts a loop over rows into the default graph.

    Args:
        forward: The `ForwardGraph`.
        subgraph: The `Subgraph` that is evaluated in each row.
        group: The bounds of the variables that move.
        move: Function from the number of a row to the values of these variables.
        unmoved: Tensors by name, for all that the subgraph requires beside.
        rows: Number of the first row, and of the first row after the last.
        results: `TensorArray` of vectors of shape (3,).
        at_once: How many rows are evaluated at once.

    Returns:
        `results`, with the loss terms of these rows written to it.
    """
    begin, end = rows

    def evaluate_row(k, results):
        moved = dict(zip(forward.roots[slice(*group)], move(k), strict=True))
        given = {}
        for name in forward.required_by(subgraph):
            if name not in moved:
                given[name] = capture(unmoved[name])
        terms = forward.insert(subgraph, given | moved, forward.outputs)
        return k + 1, results.write(k, tf.stack(terms))

    _, results = tf.while_loop(
        lambda k, _: k < end,
        evaluate_row,
        (begin, results),
        parallel_iterations=at_once,
    )
    return results
