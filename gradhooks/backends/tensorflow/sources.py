"""Where narrow floats enter a graph that is otherwise float64.

Code of the user's may hold a tensor or a variable of float32 anywhere, in a
closure, a list or an object of its own. There are few ways from there into a
graph, and each of them is intercepted here: captured tensors, reads of
variables, constants, and casts of whole numbers.
"""

import contextlib

import tensorflow as tf
from tensorflow.python.framework import op_def_library, ops
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import gen_math_ops
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from gradhooks.isolation import threads

_NARROW = (tf.float16, tf.bfloat16, tf.float32)
# Operations whose result may be floats although none of their inputs is: reads of variables, and
# casts of whole numbers and truth values.
_SOURCES = frozenset(("ReadVariableOp", "ResourceGather", "ResourceGatherNd", "Cast"))
_cast = gen_math_ops.cast


@contextlib.contextmanager
def intercept_sources(is_on, is_widening, note):
    """Notes, while open, narrow floats that enter a graph of the checking thread; may widen them.

    Args:
        is_on: Function that says whether to intercept at the moment.
        is_widening: Whether values are cast to float64 where they enter, which
            changes none of them.
        note: Function without arguments, called whenever a narrow float enters.
    """
    capture, read_variable = FuncGraph.capture, BaseResourceVariable._dense_var_to_tensor
    apply_operation, make_constant = op_def_library._apply_op_helper, ops._create_graph_constant

    def note_and_widen(tensor):
        note()
        return _cast(tensor, tf.float64) if is_widening else tensor

    def capture_wide(graph, tensor, name=None, shape=None):
        is_constant = isinstance(tensor, tf.__internal__.EagerTensor)
        if not (is_on() and is_constant and tensor.dtype in _NARROW):
            return capture(graph, tensor, name, shape)
        if is_widening and isinstance(graph.outer_graph, FuncGraph):
            # A loop or a branch takes the tensor from the graph around it, where its dtype must
            # be the same for all.
            outer = capture_wide(
                graph.outer_graph,
                tensor,
                name,
                shape,
            )
            return capture(graph, outer, name, shape)
        with graph.as_default():
            return note_and_widen(capture(graph, tensor, name, shape))

    def read_wide(variable, dtype=None, name=None, as_ref=False):
        is_refused = dtype == tf.float64 and variable.dtype in _NARROW
        if is_on() and is_widening and is_refused:
            dtype = None
        return read_variable(variable, dtype, name, as_ref)

    def apply_wide(op_type_name, name=None, **keywords):
        structure, is_stateful, operation, outputs = apply_operation(op_type_name, name, **keywords)
        is_source = op_type_name in _SOURCES and not _takes_floats(operation)
        if is_source and is_on() and outputs[0].dtype in _NARROW:
            outputs = [note_and_widen(outputs[0])]
        return structure, is_stateful, operation, outputs

    def make_wide_constant(value, dtype, *args, **kwargs):
        constant = make_constant(value, dtype, *args, **kwargs)
        # A dtype that was asked for is kept.
        is_source = dtype is None and is_on() and constant.dtype in _NARROW
        return note_and_widen(constant) if is_source else constant

    with threads.open_patcher() as patch:
        patch(FuncGraph, "capture", capture_wide)
        patch(BaseResourceVariable, "_dense_var_to_tensor", read_wide)
        patch(op_def_library, "_apply_op_helper", apply_wide)
        patch(ops, "_create_graph_constant", make_wide_constant)
        yield


def _takes_floats(operation):
    return any(tensor.dtype.is_floating for tensor in operation.inputs)
