"""A `tf.data` pipeline, read without advancing it."""

import tensorflow as tf

from gradhooks.backends.tensorflow.nodes import index_nodes

# Operation -> number of the input that is its generator of seeds.
_SEED_INPUTS = {"ShuffleDatasetV3": 4, "ShuffleAndRepeatDatasetV2": 5}


def copy_dataset(data):
    """Returns data whose first element can be taken without advancing the original.

    Args:
        data: Anything.

    Returns:
        The first element of a `tf.data` pipeline as a pipeline of its own;
        anything else as it is.
    """
    is_pipeline = type(data).__module__.startswith("tensorflow") and hasattr(data, "element_spec")
    return _copy_first_element(data) if is_pipeline else data


def _copy_first_element(dataset):
    """Returns the first element of a pipeline as a pipeline of its own.

    Iterating a shuffled pipeline advances its generator of seeds, and with it
    the order in which training would see the data. The copy has a generator of
    its own, in the state in which the generator of the original began.
    """
    serialized = tf.raw_ops.DatasetToGraphV2(
        input_dataset=dataset.take(1)._variant_tensor,
        external_state_policy=1,
        strip_device_assignment=True,
    )
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(serialized.numpy())
    _replace_seed_generators(graph.node)
    for function in graph.library.function:
        _replace_seed_generators(function.node_def)

    (result,) = (node.input[0] for node in graph.node if node.op == "_Retval")
    name = result if ":" in result else f"{result}:0"

    def rebuild():
        return tf.graph_util.import_graph_def(graph, return_elements=[name], name="")[0]

    variant = tf.compat.v1.wrap_function(rebuild, [])()
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def _replace_seed_generators(nodes):
    """Replaces the generators of seeds among the nodes of a graph by ones that start anew."""
    by_name = index_nodes(nodes)
    for node in nodes:
        if node.op not in _SEED_INPUTS:
            continue
        generator = by_name.get(node.input[_SEED_INPUTS[node.op]].split(":")[0])
        if generator is not None:
            name = generator.name
            generator.Clear()
            generator.name, generator.op = name, "DummySeedGenerator"
