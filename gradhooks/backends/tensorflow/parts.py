"""A part of a traced graph by itself: some tensors, computed from others that are given."""

import tensorflow as tf

from gradhooks.backends.tensorflow.execution import run, specify
from gradhooks.backends.tensorflow.parameters import specify_float64
from gradhooks.backends.tensorflow.subgraphs import ForwardGraph


class GraphPart:
    """Computes some tensors of a trace from others, which may have any values.

    Args:
        gradients: The `GradientProgram` whose trace holds the tensors.
        state: Tensors; only their specifications matter here.
        batch: Nested tensors, likewise.
        entries: The tensors that are given; none where all are computed as they are.
        exits: The tensors that are computed.
    """

    def __init__(self, gradients, state, batch, entries, exits):
        self._gradients = gradients
        forward = ForwardGraph(gradients.graph, exits, entries)
        part = forward.everything()
        names = [tensor.name for tensor in exits]

        @tf.function(autograph=False)
        def compute(values, state, batch, given):
            tensors = gradients.bind_inputs((values, state, batch))
            tensors |= dict(zip(forward.roots, given, strict=True))
            computed = forward.insert(part, {n: tensors[n] for n in part.inputs}, names)
            return [tf.convert_to_tensor(tensor) for tensor in computed]

        self._dtypes = [tensor.dtype for tensor in entries]
        self._function = compute.get_concrete_function(
            specify_float64(gradients.shapes),
            specify(state),
            specify(batch),
            [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in entries],
        )

    def __call__(self, point, state, batch, given=()):
        """Returns the tensors that are computed, a list of arrays.

        Args:
            point: float64, shape (P,).
            state: Tensors.
            batch: Nested tensors.
            given: An array for each of the entries.
        """
        pairs = zip(given, self._dtypes, strict=True)
        tensors = [tf.constant(value, dtype) for value, dtype in pairs]
        values = self._gradients.split(point)
        return [t.numpy() for t in run(self._function, values, state, batch, tensors)]
