"""What a traced graph does: where it writes, draws random numbers, calls Python or loses digits."""

import collections

import tensorflow as tf

from gradhooks.backends.tensorflow.nodes import all_nodes, functions_by_name, functions_of

# Operations that write to variables outside the graph, or advance a generator there.
_WRITES = (
    "Assign",
    "ResourceScatter",
    "ResourceApply",
    "RngSkip",
    "RngReadAndSkip",
    "StatefulUniform",
    "StatefulStandard",
)
# Operations that write to something other than a variable, which cannot be copied.
_FOREIGN_WRITES = (
    "IteratorGetNext",
    "LookupTableInsert",
    "LookupTableImport",
    "LookupTableRemove",
    "QueueEnqueue",
    "QueueDequeue",
    "BarrierInsert",
    "BarrierTake",
)
_PYTHON = ("PyFunc", "EagerPyFunc")
_WIDE = (tf.float64, tf.complex128)
_NARROW = (tf.half, tf.bfloat16, tf.float32, tf.complex64)
# Operations that draw from generators inside TensorFlow, whose state cannot be set.
_RANDOM = (
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "RandomShuffle",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "Multinomial",
    "TruncatedNormal",
    "ParameterizedTruncatedNormal",
    "NonDeterministicInts",
)


def find_writes(graph):
    """Returns the names of operations that would change state outside the graph."""
    return _find_nodes(graph, _WRITES + _FOREIGN_WRITES)


def find_foreign_writes(graph):
    """Returns the names of operations that would change state other than variables."""
    return _find_nodes(graph, _FOREIGN_WRITES)


def calls_python(graph):
    """Whether an evaluation runs Python code, whose effects the graph does not show."""
    return bool(_find_nodes(graph, _PYTHON))


def _find_nodes(graph, prefixes):
    nodes = all_nodes(graph.as_graph_def())
    return tuple(node.name for node in nodes if node.op.startswith(prefixes))


def find_nondeterministic_operations(graph):
    """Finds operations that may give other numbers in each evaluation.

    Returns:
        Tuple of pairs (scope, kind). The scope is a name scope, which begins
        with the layers that open it; the kind is `"random"` or `"python"`.
    """
    definition = graph.as_graph_def()
    functions = functions_by_name(definition.library)
    found = {}  # in order, each once
    seen = set()
    queue = collections.deque((node, node.name) for node in definition.node)
    while queue:
        node, name = queue.popleft()
        kind = _kind_of_chance(node.op)
        if kind is not None:
            scope = name.rpartition("/")[0] or name
            found[scope, kind] = None
        for function in functions_of(node):
            if function in functions and (function, name) not in seen:
                seen.add((function, name))
                # Names inside a function do not begin with a layer, the name of the call does.
                queue.extend((inner, name) for inner in functions[function].node_def)
    return tuple(found)


def _kind_of_chance(operation):
    if operation in _RANDOM:
        return "random"
    return "python" if operation.startswith(_PYTHON) else None


def find_narrow_operations(graph, forward):
    """Finds operations that take double precision and return less.

    The loss that they lead to has a wide dtype and fewer digits.

    Args:
        graph: The `FuncGraph` of the trace.
        forward: The `ForwardGraph` that leads from variables to the loss.

    Returns:
        Tuple of names, each once.
    """
    narrow = {}  # in order, each once
    for name in forward.moving_nodes():
        operation = graph.get_operation_by_name(name)
        takes_wide = any(tensor.dtype in _WIDE for tensor in operation.inputs)
        if takes_wide and any(tensor.dtype in _NARROW for tensor in operation.outputs):
            narrow[operation.name] = None

    # Inside functions only casts are searched, since a definition does not give the dtypes of what
    # other operations return.
    for function in forward.functions().values():
        for node in function.node_def:
            if node.op != "Cast":
                continue
            source, target = node.attr["SrcT"].type, node.attr["DstT"].type
            if _is_one_of(source, _WIDE) and _is_one_of(target, _NARROW):
                narrow[node.name] = None
    return tuple(narrow)


def _is_one_of(number, dtypes):
    """Whether the number of a dtype, as a `NodeDef` has it, is that of one of some dtypes."""
    return any(dtype.as_datatype_enum == number for dtype in dtypes)


def name_operations(name):
    """Returns a context whose operations, and their gradients', have a part of their name."""
    return tf.name_scope(name)
