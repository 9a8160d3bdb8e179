"""What a traced graph does: where it writes, where it loses digits."""

import tensorflow as tf

from gradhooks.backends.tensorflow.tensors import is_ragged

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
# Those that write to what is no variable, and so cannot be copied.
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
# Operations that draw from generators which TensorFlow keeps to itself.
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
    return _named(graph, _WRITES + _FOREIGN_WRITES)


def find_foreign_writes(graph):
    """Returns the names of operations that would change state other than variables."""
    return _named(graph, _FOREIGN_WRITES)


def calls_python(graph):
    """Whether an evaluation runs Python code, which nobody has looked into."""
    return bool(_named(graph, _PYTHON))


def find_nondeterministic_operations(graph):
    """Returns pairs (place, kind) of what may give other numbers each time; the kind is `"random"` or `"python"`.

    A place is a name scope, which begins with the layers that open it.
    """
    definition = graph.as_graph_def()
    functions = {function.signature.name: function for function in definition.library.function}
    found, seen, queue = {}, set(), [(node, node.name) for node in definition.node]
    while queue:
        node, name = queue.pop(0)
        kind = "random" if node.op in _RANDOM else "python" if node.op.startswith(_PYTHON) else None
        if kind is not None:
            found[name.rpartition("/")[0] or name, kind] = None
        for called in functions_of(node):
            if called in functions and (called, name) not in seen:
                seen.add((called, name))
                # Inside a function names begin anew; those who look for a layer know that of the
                # call.
                queue += [(inner, name) for inner in functions[called].node_def]
    return tuple(found)


def functions_of(node):
    """Yields the names of the functions that a node calls."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _named(graph, prefixes):
    return tuple(node.name for node in _nodes(graph.as_graph_def()) if node.op.startswith(prefixes))


def find_narrow_operations(graph, forward):
    """Returns the names of operations that take double precision and hand on less: a narrow core behind a wide face.

    Args:
        graph: The `FuncGraph` of the trace.
        forward: The `surgery.Forward` that leads from parameters to the loss.
    """
    operations = [graph.get_operation_by_name(name) for name in forward.moving()]
    found = [
        operation.name
        for operation in operations
        if any(tensor.dtype in _WIDE for tensor in operation.inputs)
        and any(tensor.dtype in _NARROW for tensor in operation.outputs)
    ]
    inside = [
        node
        for function in forward.functions().values()
        for node in function.node_def
        if node.op == "Cast"
    ]
    wide, narrow = ([dtype.as_datatype_enum for dtype in dtypes] for dtypes in (_WIDE, _NARROW))
    found += [
        n.name for n in inside if n.attr["SrcT"].type in wide and n.attr["DstT"].type in narrow
    ]
    return tuple(dict.fromkeys(found))


def run(function, *arguments):
    """Calls a concrete function with its graph as it was traced.

    TensorFlow would first rewrite the graph to make it faster. Measured, that takes a third to a half of the time to a
    first verdict, and evaluations in float64 are no faster for it.
    """
    flat = [*tf.nest.flatten(arguments), *function.captured_inputs]
    try:
        found = tf.raw_ops.StatefulPartitionedCall(
            args=flat,
            Tout=[output.dtype for output in function.outputs],
            f=function,
            config_proto=_AS_TRACED,
        )
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError:
        # Called as everybody calls it, it fails again and says at which layer.
        return function(*arguments)
    return tf.nest.pack_sequence_as(function.structured_outputs, found)


def _as_traced():
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config.SerializeToString()


_AS_TRACED = _as_traced()


def _nodes(definition):
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def specs(tensors):
    """Returns the specifications of nested tensors."""

    def spec(tensor):
        return (
            tf.type_spec_from_value(tensor)
            if is_ragged(tensor)
            else tf.TensorSpec(tensor.shape, tensor.dtype)
        )

    return tf.nest.map_structure(spec, tensors)
