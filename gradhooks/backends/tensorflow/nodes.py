"""Nodes of a `GraphDef`: which tensors and functions they name, and which other nodes they need.

A tensor is named `node:number`, an order without data `^node`.
"""


def owner_of(name):
    """Returns the name of the node that computes a tensor."""
    return name.partition(":")[0]


def inputs_of(node):
    """Returns the names of the tensors that a node takes, each as `node:number`."""
    names = []
    for name in node.input:
        if not name.startswith("^"):
            names.append(name if ":" in name else f"{name}:0")
    return names


def names_of(nodes):
    """Returns the names of nodes: a set."""
    return {node.name for node in nodes}


def index_nodes(nodes):
    """Returns nodes by name, in their order."""
    return {node.name: node for node in nodes}


def functions_of(node):
    """Yields the names of the functions that a node calls."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name


def functions_by_name(library):
    """Returns the functions of a `FunctionDefLibrary` by name."""
    return {function.signature.name: function for function in library.function}


def all_nodes(definition):
    """Yields the nodes of a `GraphDef` and those of its functions."""
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def find_needed(by_name, wanted, ends):
    """Finds the nodes from which some nodes are computed, themselves included.

    Args:
        by_name: All nodes by name, in the order of the graph.
        wanted: Names of the nodes that are wanted.
        ends: Names of nodes whose own inputs are not followed.

    Returns:
        List of nodes, in the order of the graph.
    """
    needed = set()
    queue = list(wanted)
    while queue:
        name = queue.pop()
        if name in needed:
            continue
        needed.add(name)
        if name not in ends:
            queue += [owner_of(other).removeprefix("^") for other in by_name[name].input]
    return [node for name, node in by_name.items() if name in needed]


def restrict_library(library, nodes):
    """Returns the part of a `FunctionDefLibrary` that some nodes call, directly or not."""
    by_name = functions_by_name(library)
    needed = {}
    queue = []
    for node in nodes:
        queue += functions_of(node)
    while queue:
        name = queue.pop()
        if name not in by_name or name in needed:
            continue
        needed[name] = by_name[name]
        for node in by_name[name].node_def:
            queue += functions_of(node)
    restricted = type(library)()
    restricted.function.extend(needed.values())
    restricted.gradient.extend(g for g in library.gradient if g.function_name in needed)
    return restricted
