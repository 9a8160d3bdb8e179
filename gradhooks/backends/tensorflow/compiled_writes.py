"""The variables that a function compiled for training writes to, read from its traces."""

import types
import weakref

from gradhooks.backends.tensorflow.functions import is_function
from gradhooks.backends.tensorflow.nodes import functions_by_name, functions_of, owner_of

_WRITING = (
    "Assign",
    "ResourceApply",
    "ResourceScatter",
    "ResourceSparseApply",
    "ResourceStridedSlice",
)
# Their first input decides, and only the others are handed to the functions that they call.
_BRANCHING = ("If", "StatelessIf", "Case", "StatelessCase")
# Graph -> ids of handles: to search a large graph takes a second.
_known = weakref.WeakKeyDictionary()


def find_written_handles(function):
    """Finds what each trace of a compiled function writes to.

    Args:
        function: A Python function that closes over `tf.function`s, as Keras'
            `train_function` does, or None.

    Returns:
        List of sets, one for each trace: the ids of the handles of variables,
        see `tensors.handle_ids`. Empty for a function that runs eagerly or has
        not run yet.
    """
    return [_find_in_graph(concrete.graph) for concrete in _find_traces(function, set())]


def _find_traces(function, seen):
    """Finds the traces that a function leads to.

    Of nested `tf.function`s the innermost that have any.
    """
    if id(function) in seen:
        return []
    seen.add(id(function))
    if is_function(function):
        inner = _find_traces(function.python_function, seen)
        # A `tf.function` with a signature is traced by being asked for its traces.
        is_askable = function.input_signature is None
        own = function._list_all_concrete_functions() if is_askable else ()
        return inner or list(own)
    if not isinstance(function, types.FunctionType):
        return []  # above all the methods of a model
    traces = []
    for cell in function.__closure__ or ():
        traces += _find_traces(_content_of(cell), seen)
    return traces


def _content_of(cell):
    try:
        return cell.cell_contents
    except ValueError:  # nothing in it yet
        return None


def _find_in_graph(graph):
    """Finds the ids of the handles that a graph writes to."""
    if graph not in _known:
        handles = {inner.op.name: outer for outer, inner in graph.captures}
        names = list(handles)
        definition = graph.as_graph_def()
        functions = functions_by_name(definition.library)
        positions = _find_positions(
            definition.node,
            names,
            functions,
            {},
        )
        _known[graph] = {id(handles[names[k]]) for k in positions}
    return _known[graph]


def _find_positions(nodes, arguments, functions, known):
    """Finds which of some arguments are resources that nodes, or functions they call, write to.

    Args:
        nodes: The nodes of a graph or a function.
        arguments: Names of its arguments.
        functions: All functions by name.
        known: Function name -> result, for the functions that have been searched.

    Returns:
        Set of positions among the arguments.
    """
    position = {name: k for k, name in enumerate(arguments)}
    written = set()
    for node in nodes:
        inputs = [owner_of(name) for name in node.input if not name.startswith("^")]
        if node.op.startswith(_WRITING) and inputs and inputs[0] in position:
            written.add(position[inputs[0]])
        if node.op == "Identity" and inputs[0] in position:
            position[node.name] = position[inputs[0]]
        handed = inputs[1:] if node.op in _BRANCHING else inputs
        for name in functions_of(node):
            if name in functions and name not in known:
                known[name] = set()  # for a function that calls itself
                known[name] = _find_in_function(functions[name], functions, known)
            for k in known.get(name, ()):
                if handed[k] in position:
                    written.add(position[handed[k]])
    return written


def _find_in_function(function, functions, known):
    arguments = [argument.name for argument in function.signature.input_arg]
    return _find_positions(
        function.node_def,
        arguments,
        functions,
        known,
    )
