"""A model of the work that an operation takes, in multiplications, and of its results, in bytes.

Used to choose which variables share a loop. It changes what a check costs, and
never a result.
"""

import numpy as np

from gradhooks.backends.tensorflow.nodes import functions_of

# The work of an operation that calls a function, a loop above all, whose body is not modelled. A
# free choice: more than any operation beside it.
_CALL = 1e9
_FREE = ("Const", "Placeholder", "Identity", "Reshape", "Shape")


def work_of(graph, node):
    """Models the work of one evaluation of a node, in multiplications."""
    if any(True for _ in functions_of(node)):
        return _CALL
    if node.op in _FREE:
        return 0.0
    operation = graph.get_operation_by_name(node.name)
    entries = sum(_count_entries(tensor) for tensor in operation.outputs)
    return entries * _work_per_entry(node, operation)


def bytes_of(graph, node):
    """Returns the size of what a node computes; 0 for what only names or holds what is there."""
    if node.op in _FREE:
        return 0.0
    outputs = graph.get_operation_by_name(node.name).outputs
    return sum(_count_entries(tensor) * tensor.dtype.size for tensor in outputs)


def _work_per_entry(node, operation):
    """How many multiplications each entry of a result takes."""
    if "Conv" in node.op and len(operation.inputs) > 1:
        kernel = operation.inputs[1].shape
        if kernel.is_fully_defined() and len(kernel):
            return kernel.num_elements() / max(1, kernel[-1])
    if "MatMul" in node.op or node.op == "Einsum":
        left = operation.inputs[0].shape
        if left.rank and left[-1] is not None:
            return left[-1]
    return 1.0


def _count_entries(tensor):
    """The number of entries of a tensor, with unknown sides taken as 1."""
    if tensor.shape.rank is None:
        return 1.0
    return float(np.prod([side or 1 for side in tensor.shape], dtype=np.float64))
