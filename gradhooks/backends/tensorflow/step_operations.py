"""Operations that give the loss a value in steps: rounding, fake quantization, values in integers, lookups.

Between two steps such a value stands still, so its derivative is zero whatever
a gradient says. To a survey of rounding noise the steps of many units look like
few digits; the graph tells them apart.
"""

import tensorflow as tf

from gradhooks.backends.tensorflow.graphs import functions_of

_ROUNDING = (
    "Round",
    "Rint",
    "Floor",
    "Ceil",
    "Sign",
    "FloorDiv",
    "TruncateDiv",
    "Bucketize",
    "OneHot",
)
_QUANTIZING = ("FakeQuant", "Quantize", "LookupTableFind")
_LOOKUPS = {"Gather": 1, "GatherV2": 1, "GatherNd": 1, "ResourceGather": 1, "ResourceGatherNd": 1}
# Of these, the first input chooses between the others.
_CHOOSING = ("Select", "SelectV2")


def find_step_operations(graph, forward):
    """Returns the names of operations through which the loss depends on parameters in steps.

    Args:
        graph: The `FuncGraph` of the trace.
        forward: The `surgery.Forward` that leads to the loss.

    Returns:
        Tuple of names, those of the operations nearest to the loss first.
    """
    moving, functions = set(forward.moving()), forward.functions()
    found, seen, queue = [], set(), list(forward.output_names())
    while queue:
        name = queue.pop(0)
        if name in seen or name not in moving:
            continue
        seen.add(name)
        operation = graph.get_operation_by_name(name)
        if _is_staircase(operation, moving) or _calls_staircase(operation, functions):
            found.append(name)
        queue += [tensor.op.name for tensor in _valued(operation)]
    return tuple(found)


def _is_staircase(operation, moving):
    kind = operation.type
    if kind == "Cast":
        source, target = operation.inputs[0].dtype, operation.outputs[0].dtype
        return (_is_float(source) and not _is_float(target)) or (
            source == tf.bool and target != tf.bool
        )
    if kind in _LOOKUPS:
        return operation.inputs[_LOOKUPS[kind]].op.name in moving
    return kind in _ROUNDING or kind.startswith(_QUANTIZING)


def _calls_staircase(operation, functions):
    """Whether a loop or a branch rounds inside; which of its inputs the rounding depends on is not looked into."""
    called, seen = list(functions_of(operation.node_def)), set()
    while called:
        name = called.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            if node.op in ("Round", "Rint") or node.op.startswith(_QUANTIZING):
                return True
            called += functions_of(node)
    return False


def _valued(operation):
    """The inputs whose values go into the result, and not only into its shape, its order or a choice."""
    inputs = list(operation.inputs)
    if operation.type == "Cast" or operation.type.startswith(("Dequantize", "Quantized")):
        return inputs
    if operation.type in _CHOOSING:
        return inputs[1:]
    if operation.type in _LOOKUPS:
        return inputs[:1]
    if any(_is_float(output.dtype) for output in operation.outputs):
        return [
            tensor for tensor in inputs if _is_float(tensor.dtype) or tensor.dtype in _QUANTIZED
        ]
    return [
        tensor
        for tensor in inputs
        if tensor.dtype not in (tf.bool, tf.resource, tf.string, tf.variant)
    ]


_QUANTIZED = (tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32)


def _is_float(dtype):
    return dtype.is_floating or dtype.is_complex
