"""Which variables a function that training has compiled writes to, seen from its traces."""

import types
import weakref

from gradhooks.backends.tensorflow.functions import is_function
from gradhooks.backends.tensorflow.graphs import functions_of

_WRITING = (
    "Assign",
    "ResourceApply",
    "ResourceScatter",
    "ResourceSparseApply",
    "ResourceStridedSlice",
)
# They take what they decide by before what they hand on.
_DECIDING = ("If", "StatelessIf", "Case", "StatelessCase")
_found = (
    weakref.WeakKeyDictionary()
)  # graph -> ids of handles; a large graph takes a second to look through


def find_written_handles(function):
    """Returns what each trace of a compiled function writes to.

    Args:
        function: A Python function that closes over `tf.function`s, as Keras' `train_function` does, or None.

    Returns:
        List of sets: per trace the ids of the handles of variables, see `tensors.handle_ids`. Empty for what runs
        eagerly, or has not run yet.
    """
    return [_written(concrete.graph) for concrete in _traces(function, set())]


def _traces(function, seen):
    """The traces of the innermost `tf.function`s that have any, of those that Python functions close over."""
    if id(function) in seen:
        return []
    seen.add(id(function))
    if is_function(function):
        # One with a signature would be traced by the question.
        own = function._list_all_concrete_functions() if function.input_signature is None else ()
        return _traces(function.python_function, seen) or list(own)
    if not isinstance(function, types.FunctionType):
        return []  # the methods of a model, above all
    return [trace for cell in function.__closure__ or () for trace in _traces(_content(cell), seen)]


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # nothing in it yet
        return None


def _written(graph):
    if graph not in _found:
        definition, handles = (
            graph.as_graph_def(),
            {inner.op.name: outer for outer, inner in graph.captures},
        )
        library = {function.signature.name: function for function in definition.library.function}
        names = list(handles)
        _found[graph] = {
            id(handles[names[k]]) for k in _positions(definition.node, names, library, {})
        }
    return _found[graph]


def _positions(nodes, arguments, library, known):
    """The positions among some arguments of the resources that nodes write to, also in functions that they call."""
    position = {name: k for k, name in enumerate(arguments)}
    found = set()
    for node in nodes:
        inputs = [name.partition(":")[0] for name in node.input if not name.startswith("^")]
        if node.op.startswith(_WRITING):
            found |= {position[name] for name in inputs[:1] if name in position}
        if node.op == "Identity" and inputs[0] in position:
            position[node.name] = position[inputs[0]]
        for called in functions_of(node):
            if called in library and called not in known:
                own, known[called] = library[called], set()
                names = [argument.name for argument in own.signature.input_arg]
                known[called] = _positions(own.node_def, names, library, known)
            handed = inputs[1:] if node.op in _DECIDING else inputs
            found |= {position[handed[k]] for k in known.get(called, ()) if handed[k] in position}
    return found
