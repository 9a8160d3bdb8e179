"""A `tf.data` pipeline, read without advancing it."""

import tensorflow as tf

# Which input of a shuffling operation is its generator of seeds.
_SEED_INPUTS = {"ShuffleDatasetV3": 4, "ShuffleAndRepeatDatasetV2": 5}


def copy_dataset(data):
    """Returns what can be iterated without advancing the data.

    Args:
        data: Anything.

    Returns:
        Of a `tf.data` pipeline the first element, as a pipeline of its own;
        anything else as it is.
    """
    is_pipeline = type(data).__module__.startswith("tensorflow") and hasattr(data, "element_spec")
    return _copy_first_element(data) if is_pipeline else data


def _copy_first_element(dataset):
    """Returns the first element of a `tf.data` pipeline as a pipeline of its own.

    Iterating a shuffled pipeline advances its generator of seeds, and so the
    order in which training would see the data. The copy gets a generator of
    its own, in the state in which the original's began.
    """
    serialized = tf.raw_ops.DatasetToGraphV2(
        input_dataset=dataset.take(1)._variant_tensor,
        external_state_policy=1,
        strip_device_assignment=True,
    )
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(serialized.numpy())
    for nodes in [graph.node, *(function.node_def for function in graph.library.function)]:
        _give_own_seeds(nodes)
    (result,) = (node.input[0] for node in graph.node if node.op == "_Retval")
    name = result if ":" in result else f"{result}:0"
    rebuild = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, return_elements=[name], name="")[0], []
    )
    return tf.data.experimental.from_variant(rebuild(), dataset.element_spec)


def _give_own_seeds(nodes):
    by_name = {node.name: node for node in nodes}
    for node in nodes:
        if node.op in _SEED_INPUTS:
            generator = by_name.get(node.input[_SEED_INPUTS[node.op]].split(":")[0])
            if generator is not None:
                name = generator.name
                generator.Clear()
                generator.name, generator.op = name, "DummySeedGenerator"
