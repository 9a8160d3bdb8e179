"""Gradients that code registers while it is traced, and TensorFlow keeps for ever.

`tf.custom_gradient` registers a function that holds tensors of the trace, and with
them the whole graph. Once a graph has been differentiated it needs none of them.
"""

import types

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

from gradhooks.backends.tensorflow.tensors import is_symbolic


def list_registered_gradients():
    """Returns the names of all registered gradients, a set."""
    return set(gradient_registry._registry)


def forget_gradients(known, graph):
    """Removes gradients that were registered for a graph.

    What another thread has registered meanwhile belongs to another graph, and stays.

    Args:
        known: Names that were registered before, a set.
        graph: The `FuncGraph`, which is not differentiated any more.
    """
    for name in list_registered_gradients() - known:
        function = gradient_registry._registry[name]["type"]
        if _holds_tensors_of(function, graph):
            del gradient_registry._registry[name]


def _holds_tensors_of(function, graph):
    """Returns whether a function encloses tensors of a graph, or of a loop or branch in it.

    The registered function encloses another one, which encloses the tensors.
    """
    queue, seen = [function], set()
    while queue:
        function = queue.pop()
        seen.add(id(function))
        for cell in getattr(function, "__closure__", None) or ():
            try:
                values = tf.nest.flatten(cell.cell_contents)
            except ValueError:  # an empty cell
                continue
            for value in values:
                if is_symbolic(value) and _is_within(value.graph, graph):
                    return True
                if isinstance(value, types.FunctionType) and id(value) not in seen:
                    queue.append(value)
    return False


def _is_within(inner, graph):
    while inner is not None:
        if inner is graph:
            return True
        inner = getattr(inner, "outer_graph", None)
    return False
