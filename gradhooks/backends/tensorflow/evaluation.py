"""The loss along lines and its gradient, each in one compiled call.

Nothing here knows about Keras models; `terms` is a function from parameter
values to scalars, and everything that varies is an argument of the graph, so
that one trace serves every later check.
"""

import contextlib

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.graphs import inlined_functions, specs


class Losses:
    """The loss terms at many points along probes, in one compiled call.

    Args:
        terms: Function `(values, state, batch) -> three scalars`.
        shapes: Shape of each parameter.
        state: The tensors that `terms` gets as `state`; only their
            specifications matter here.
        batch: The nested tensors that `terms` gets as `batch`, likewise.
    """

    def __init__(self, terms, shapes, state, batch):
        @tf.function(autograph=False)
        def losses(point, state, batch, starts, splits, weights, which, offsets):
            count = tf.shape(offsets)[0]
            found = tf.TensorArray(tf.float64, size=count, element_shape=(3,))

            def evaluate(k, found):
                first, last = splits[which[k]], splits[which[k] + 1]
                start = starts[which[k]]
                stop = start + last - first
                moved = point[start:stop] + offsets[k] * weights[first:last]
                values = _unflatten(tf.concat([point[:start], moved, point[stop:]], 0), shapes)
                return k + 1, found.write(k, _stacked(terms(values, state, batch)))

            # One evaluation at a time: more would multiply the memory of the activations.
            loop = tf.while_loop(lambda k, _: k < count, evaluate, (0, found), parallel_iterations=1)
            return loop[1].stack()

        vector = tf.TensorSpec([None], tf.float64)
        integers = tf.TensorSpec([None], tf.int64)
        with inlined_functions():
            self._function = losses.get_concrete_function(
                tf.TensorSpec([_size(shapes)], tf.float64), specs(state), specs(batch),
                integers, integers, vector, integers, vector,
            )  # fmt: skip
        self.graph = self._function.graph

    def __call__(self, point, state, batch, probes, pairs):
        """Returns float64, shape (K, 3): total, data and penalty for K pairs `(number of the probe, offset)`."""
        splits = np.cumsum([0] + [len(p.weights) for p in probes])
        return self._function(
            point, state, batch,
            tf.constant([p.start for p in probes], tf.int64),
            tf.constant(splits, tf.int64),
            tf.constant(np.concatenate([p.weights for p in probes]), tf.float64),
            tf.constant([which for which, _ in pairs], tf.int64),
            tf.constant([offset for _, offset in pairs], tf.float64),
        ).numpy()  # fmt: skip


class Gradients:
    """The gradient of the loss terms, flat, by automatic differentiation.

    Args:
        differentiate: Function `(values, state, batch, gradient) -> tuple of
            lists`, one list of tensors (or None) per term, where
            `gradient(target, values, tape)` differentiates.
        shapes, state, batch: As for `Losses`.
    """

    def __init__(self, differentiate, shapes, state, batch):
        self.connected = None

        @tf.function(autograph=False)
        def gradients(point, state, batch):
            per_term = differentiate(_unflatten(point, shapes), state, batch)
            self.connected = np.array([g is not None for g in per_term[0]])
            return tuple(_flatten(gradient, shapes) for gradient in per_term)

        with inlined_functions():
            self._function = gradients.get_concrete_function(
                tf.TensorSpec([_size(shapes)], tf.float64), specs(state), specs(batch)
            )
        self.graph = self._function.graph

    def __call__(self, point, state, batch):
        """Returns one float64 array of shape (P,) per term."""
        return tuple(gradient.numpy() for gradient in self._function(point, state, batch))


@contextlib.contextmanager
def recording(values):
    """Records what follows; yields `gradient(target)`, which returns one tensor or None per value."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as recorder:
        recorder.watch(values)

        def gradient(target):
            # The backward pass of a backward pass is nobody's business here.
            with recorder.stop_recording():
                return recorder.gradient(target, values)

        yield gradient


def _size(shapes):
    return int(sum(np.prod(shape, dtype=np.int64) for shape in shapes))


def _unflatten(flat, shapes):
    parts = tf.split(flat, [int(np.prod(shape, dtype=np.int64)) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def _flatten(gradient, shapes):
    """A missing gradient is zero here; `connected` tells the difference."""
    dense = [
        tf.zeros(shape, tf.float64) if g is None else tf.convert_to_tensor(g)
        for g, shape in zip(gradient, shapes, strict=True)
    ]
    return tf.concat([tf.reshape(tf.cast(g, tf.float64), [-1]) for g in dense], 0)


def _stacked(terms):
    return tf.stack([tf.cast(term, tf.float64) for term in terms])
