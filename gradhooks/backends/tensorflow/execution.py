"""Traced functions, run with the graph as it was traced, and functions traced to be run at once."""

import tensorflow as tf

from gradhooks.backends.tensorflow.functions import inline_functions, trace
from gradhooks.backends.tensorflow.tensors import is_ragged


def specify(tensors):
    """Returns the specifications of nested tensors."""
    return tf.nest.map_structure(_specify_one, tensors)


def _specify_one(tensor):
    if is_ragged(tensor):
        return tf.type_spec_from_value(tensor)
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def run(function, *arguments):
    """Calls a concrete function with its graph as it was traced.

    TensorFlow would first rewrite the graph to make it faster. Measured, the
    rewriting takes a third to a half of the time to a first verdict, and
    evaluations in float64 are no faster for it.
    """
    inputs = [*tf.nest.flatten(arguments), *function.captured_inputs]
    try:
        results = tf.raw_ops.StatefulPartitionedCall(
            args=inputs,
            Tout=[output.dtype for output in function.outputs],
            f=function,
            config_proto=_AS_TRACED,
        )
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError:
        # Called in the ordinary way it fails again, with a message that names the layer.
        return function(*arguments)
    return tf.nest.pack_sequence_as(function.structured_outputs, results)


def _serialize_config():
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config.SerializeToString()


_AS_TRACED = _serialize_config()


def evaluate(
    function,
    *arguments,
    times=1,
    is_optimized=False,
    is_xla=False,
):
    """Traces a function of nested tensors once and runs it.

    Args:
        function: Function of `arguments` that returns a list of tensors.
        *arguments: Nested tensors.
        times: How often the trace is run.
        is_optimized: Whether TensorFlow rewrites the graph first, as it does
            in training. Rewriting moves constants, and with them what
            overflows.
        is_xla: Whether XLA compiles it.

    Returns:
        For each run a list of arrays: the values of the tensors.
    """
    specifications = [specify(argument) for argument in arguments]
    with inline_functions():
        compiled = tf.function(function, autograph=False, jit_compile=is_xla)
        traced = trace(compiled, *specifications)
    runs = []
    for _ in range(times):
        results = traced(*arguments) if is_optimized else run(traced, *arguments)
        runs.append([tensor.numpy() for tensor in results])
    return runs
