"""Which variables a loss depends on through some tensors of its graph, and which around them."""

import dataclasses

import numpy as np

from gradhooks.backends.tensorflow.nodes import functions_of, inputs_of, owner_of


@dataclasses.dataclass(frozen=True)
class Passage:
    """How a loss depends on variables through a part of its graph.

    Args:
        through: bool, shape (V,). Whether it depends on the variable through the part.
        around: bool, shape (V,). Whether it depends on it on another way, too.
        is_open: Whether it depends on the part at all.
    """

    through: np.ndarray
    around: np.ndarray
    is_open: bool


def find_passages(graph, forward, entries, exits):
    """Finds the variables that lead to a loss through a part of its graph.

    Args:
        graph: The `FuncGraph` of the trace.
        forward: The `ForwardGraph` that leads from variables to the loss terms.
        entries: Tensors that go into the part.
        exits: Tensors that come out of it.

    Returns:
        A `Passage` for each loss term, a tuple.
    """
    callers = {}
    for node in forward.nodes():
        for function in functions_of(node):
            callers[function] = node.name
    before = _find_owners(graph, callers, entries)
    behind = _find_owners(graph, callers, exits)
    # A loop that holds the whole part passes on what does not go through it.
    is_whole = not any(tensor.graph is not graph for tensor in exits)
    enters = forward.find_dependence(before)
    if None in before:
        enters = np.ones_like(enters)
    passages = []
    for output in forward.output_nodes():
        reached = _find_reached(forward, output, behind if is_whole else frozenset())
        is_open = None in behind or bool(_find_reached(forward, output, frozenset()) & behind)
        around = forward.find_dependence(reached & forward.root_nodes())
        passages.append(Passage(enters & is_open, around, is_open))
    return tuple(passages)


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


def _find_reached(forward, output, closed):
    """Returns the names of the nodes that lead to an output without passing closed ones."""
    by_name = {node.name: node for node in forward.nodes()}
    reached, queue = set(), [output]
    while queue:
        name = queue.pop()
        if name in reached or name in closed or name not in by_name:
            continue
        reached.add(name)
        queue += [owner_of(other) for other in inputs_of(by_name[name])]
    return reached
