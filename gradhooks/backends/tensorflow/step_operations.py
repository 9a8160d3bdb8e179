"""Operations through which the loss is piecewise constant: rounding, quantization, casts, lookups.

Between two steps the derivative of a rounded value is zero, whatever its
gradient is. Where many units round, the loss moves in small steps, which look
like rounding noise. The graph distinguishes the two.
"""

import collections

import tensorflow as tf

from gradhooks.backends.tensorflow.nodes import functions_of

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
_QUANTIZED = (tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32)
_WITHOUT_VALUE = (tf.bool, tf.resource, tf.string, tf.variant)
# Operation -> number of the input that says which entries are taken.
_LOOKUPS = {"Gather": 1, "GatherV2": 1, "GatherNd": 1, "ResourceGather": 1, "ResourceGatherNd": 1}
# The first input of these chooses between the others.
_CHOOSING = ("Select", "SelectV2")


def find_step_operations(graph, forward):
    """Finds operations through which the loss depends on variables in steps.

    Args:
        graph: The `FuncGraph` of the trace.
        forward: The `ForwardGraph` that leads from variables to the loss.

    Returns:
        Tuple of names, those of the operations nearest to the loss first.
    """
    moving = set(forward.moving_nodes())
    functions = forward.functions()
    found = []
    seen = set()
    queue = collections.deque(forward.output_nodes())
    while queue:
        name = queue.popleft()
        if name in seen or name not in moving:
            continue
        seen.add(name)
        operation = graph.get_operation_by_name(name)
        if _moves_in_steps(operation, moving) or _calls_rounding(operation, functions):
            found.append(name)
        queue.extend(tensor.op.name for tensor in _value_inputs(operation))
    return tuple(found)


def _moves_in_steps(operation, moving):
    """Whether the result of an operation is piecewise constant in inputs that move."""
    kind = operation.type
    if kind == "Cast":
        source, target = operation.inputs[0].dtype, operation.outputs[0].dtype
        loses_fraction = _is_float(source) and not _is_float(target)
        return loses_fraction or (source == tf.bool and target != tf.bool)
    if kind in _LOOKUPS:
        return operation.inputs[_LOOKUPS[kind]].op.name in moving
    return kind in _ROUNDING or kind.startswith(_QUANTIZING)


def _calls_rounding(operation, functions):
    """Whether a loop or a branch rounds inside, whichever of its inputs the rounding depends on."""
    called = list(functions_of(operation.node_def))
    seen = set()
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


def _value_inputs(operation):
    """The inputs whose values enter the result, and not only its shape, its order or a choice."""
    inputs = list(operation.inputs)
    kind = operation.type
    if kind == "Cast" or kind.startswith(("Dequantize", "Quantized")):
        return inputs
    if kind in _CHOOSING:
        return inputs[1:]
    if kind in _LOOKUPS:
        return inputs[:1]
    if any(_is_float(output.dtype) for output in operation.outputs):
        return [t for t in inputs if _is_float(t.dtype) or t.dtype in _QUANTIZED]
    return [t for t in inputs if t.dtype not in _WITHOUT_VALUE]


def _is_float(dtype):
    return dtype.is_floating or dtype.is_complex
