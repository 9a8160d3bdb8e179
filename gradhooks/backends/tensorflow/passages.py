"""Which variables a loss depends on through some tensors of its graph, and which around them."""

import numpy as np

from gradhooks.backends.common.passages import Passage
from gradhooks.backends.tensorflow.nodes import functions_of


def find_passages(graph, forward, entries, exits, is_around_wanted):
    """Finds the variables that lead to a loss through a part of its graph.

    Args:
        graph: The `FuncGraph` of the trace.
        forward: The `ForwardGraph` that leads from variables to the loss terms.
        entries: Tensors that go into the part.
        exits: Tensors that come out of it.
        is_around_wanted: Whether ways around the part are looked for.

    Returns:
        A `Passage` for each loss term, a tuple.
    """
    is_nested = any(tensor.graph is not graph for tensor in (*entries, *exits))
    callers = _index_callers(forward) if is_nested else {}
    before = _find_owners(graph, callers, entries)
    behind = _find_owners(graph, callers, exits)
    # A loop that holds the whole part passes on what does not go through it.
    is_whole = not any(tensor.graph is not graph for tensor in exits)
    closed = behind if is_whole else frozenset()
    enters = forward.find_dependence(before)
    if None in before:
        enters = np.ones_like(enters)
    passages = []
    for output in forward.output_nodes():
        is_open = None in behind or bool(forward.find_reaching(output) & behind)
        around = None
        if is_around_wanted:
            left = forward.find_reaching(output, closed) & forward.root_nodes()
            around = forward.find_dependence(left)
        passages.append(Passage(enters & is_open, around, is_open))
    return tuple(passages)


def _index_callers(forward):
    """Returns the names of nodes by the functions that they call."""
    callers = {}
    for node in forward.nodes():
        for function in functions_of(node):
            callers[function] = node.name
    return callers


def _find_owners(graph, callers, tensors):
    """Returns the names of the nodes of a graph that compute tensors, or that call their graphs.

    None stands for those that are not found.
    """
    owners = set()
    for tensor in tensors:
        inner = tensor.graph
        if inner is graph:
            owners.add(tensor.op.name)
            continue
        while inner is not None and getattr(inner, "outer_graph", None) is not graph:
            inner = getattr(inner, "outer_graph", None)
        owners.add(callers.get(getattr(inner, "name", None)))
    return frozenset(owners)
