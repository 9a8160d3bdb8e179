"""Where narrow floats enter a graph that is otherwise float64: captured tensors, variables, constants, counts.

Code of the user's may hold a tensor or a variable of float32 anywhere, in a
closure, a list, an object of its own. Wherever it comes from, there are few
ways into a graph, and each of them is asked here.
"""

import contextlib

import tensorflow as tf
from tensorflow.python.framework import op_def_library, ops
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import gen_math_ops
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from gradhooks.isolation import threads

_NARROW = (tf.float16, tf.bfloat16, tf.float32)
# Operations that make floats out of none: reads of variables, and whole numbers and truth values
# turned into floats.
_READING = frozenset(("ReadVariableOp", "ResourceGather", "ResourceGatherNd", "Cast"))
_cast = gen_math_ops.cast


@contextlib.contextmanager
def intercept_sources(is_on, is_widening, note):
    """While open, what enters the checking thread's graphs in a narrow float is noted, and perhaps widened.

    Args:
        is_on: Function that says whether anything is to be done at the moment.
        is_widening: Whether float64 goes on from there. The value stays what it is.
        note: Function without arguments, called whenever something narrow enters.
    """
    capture, variable_read = FuncGraph.capture, BaseResourceVariable._dense_var_to_tensor
    apply, constant = op_def_library._apply_op_helper, ops._create_graph_constant

    def widened(tensor):
        note()
        return _cast(tensor, tf.float64) if is_widening else tensor

    def capture_wide(graph, tensor, name=None, shape=None):
        if not (
            is_on() and isinstance(tensor, tf.__internal__.EagerTensor) and tensor.dtype in _NARROW
        ):
            return capture(graph, tensor, name, shape)
        if is_widening and isinstance(graph.outer_graph, FuncGraph):
            # A loop or a branch takes it from around it, where it must have one dtype only.
            return capture(graph, capture_wide(graph.outer_graph, tensor, name, shape), name, shape)
        with graph.as_default():
            return widened(capture(graph, tensor, name, shape))

    def read_wide(variable, dtype=None, name=None, as_ref=False):
        is_narrow = is_on() and is_widening and dtype == tf.float64 and variable.dtype in _NARROW
        return variable_read(variable, None if is_narrow else dtype, name, as_ref)

    def apply_wide(op_type_name, name=None, **keywords):
        structure, is_stateful, operation, outputs = apply(op_type_name, name, **keywords)
        is_source = op_type_name in _READING and not any(
            tensor.dtype.is_floating for tensor in operation.inputs
        )
        if is_source and is_on() and outputs[0].dtype in _NARROW:
            outputs = [widened(outputs[0])]
        return structure, is_stateful, operation, outputs

    def constant_wide(value, dtype, *args, **kwargs):
        made = constant(value, dtype, *args, **kwargs)
        # Who asks for a dtype must get that one.
        return widened(made) if dtype is None and is_on() and made.dtype in _NARROW else made

    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        put(FuncGraph, "capture", capture_wide)
        put(BaseResourceVariable, "_dense_var_to_tensor", read_wide)
        put(op_def_library, "_apply_op_helper", apply_wide)
        put(ops, "_create_graph_constant", constant_wide)
        yield
