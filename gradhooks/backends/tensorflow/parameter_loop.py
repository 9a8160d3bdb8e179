"""Compiled loops that evaluate the loss terms with one or a few parameters moved."""

import functools
import itertools
import math

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.execution import run, specify
from gradhooks.backends.tensorflow.parameters import (
    bundle,
    move_entries,
    specify_float64,
    unbundle,
)
from gradhooks.backends.tensorflow.replicas import distribute
from gradhooks.backends.tensorflow.row_loops import count_at_once, insert_loop

_INTEGERS = tf.TensorSpec([None], tf.int64)
_INDICES = tf.TensorSpec([None, None], tf.int64)
_OFFSETS = tf.TensorSpec([None, None], tf.float64)


class ParameterLoop:
    """Evaluates the loss terms with one parameter moved, or a few of one group of variables.

    There is a loop for each group of variables, over the part of the graph that
    depends on the group. What no loop computes is computed once, by
    `evaluate_unmoved`.

    Args:
        gradients: The `GradientProgram` whose trace holds the loss.
        state: Tensors; only their specifications matter here.
        batch: Nested tensors, likewise.
        bounds: The bounds of the groups of variables, see `partition`.
        strategy: A `tf.distribute.Strategy`, or None.
        heavy_above: See `LossProgram`.

    Attributes:
        size: Number of parameters.
        group_starts: int64, shape (G + 1,). The first parameter of each group, then their number.
        is_heavy: Whether variables are copied one by one.
    """

    def __init__(
        self,
        gradients,
        state,
        batch,
        bounds,
        strategy,
        heavy_above,
    ):
        self._gradients = gradients
        self._shapes = gradients.shapes
        self._bounds = bounds
        self._strategy = strategy
        self._heavy_above = heavy_above
        sizes = [math.prod(shape) for shape in self._shapes]
        self._starts = np.cumsum([0, *sizes])  # of each variable among the parameters
        self.size = int(self._starts[-1])
        self.group_starts = self._starts[list(bounds)]
        self.is_heavy = self.size > heavy_above
        self._arguments = specify_float64(self._shapes), specify(state), specify(batch)

    def order_rows(self, indices, offsets):
        """Returns the order of evaluation, and the rows in this order as tensors.

        Args:
            indices: int64, shape (K, M): the parameters that move in each row, the
                first of all in front; negative where there are fewer than M.
            offsets: float64, shape (K, M): how far they move.

        Returns:
            The rows in their order, sorted by parameter; and three tensors: the
            indices, the offsets, and where the rows of each group begin.
        """
        first = indices[:, 0]
        order = np.argsort(first, kind="stable")
        splits = np.searchsorted(first[order], self.group_starts)
        return order, (
            tf.constant(indices[order], tf.int64),
            tf.constant(offsets[order], tf.float64),
            tf.constant(splits, tf.int64),
        )

    def evaluate_unmoved(self, values, state, batch):
        """Returns the tensors that the loops require and do not compute."""
        if not self._required:
            return []
        return run(self._traced_unmoved, values, state, batch)

    @functools.cached_property
    def _subgraphs(self):
        """What changes when a parameter moves, group by group."""
        forward = self._gradients.forward
        return [forward.downstream(a, b) for a, b in itertools.pairwise(self._bounds)]

    @functools.cached_property
    def _required(self):
        """Names of the tensors that the loops require, without the inputs of the graph."""
        forward = self._gradients.forward
        inputs = {tensor.name for tensor in self._gradients.graph.inputs}
        required = {}  # in order, each once
        for subgraph in self._subgraphs:
            for name in forward.required_by(subgraph):
                if name not in inputs:
                    required[name] = None
        return list(required)

    @functools.cached_property
    def _traced_unmoved(self):
        """The concrete function behind `evaluate_unmoved`; traced when first used."""
        forward = self._gradients.forward
        unmoving = forward.upstream(self._subgraphs)

        @tf.function(autograph=False)
        def compute_unmoved(values, state, batch):
            inputs = self._gradients.bind_inputs((values, state, batch))
            return forward.insert(unmoving, inputs, self._required)

        return compute_unmoved.get_concrete_function(*self._arguments)

    @functools.cached_property
    def evaluate(self):
        """The compiled loops, see `distribute`; traced when first used.

        Their common arguments are values, state, batch and what
        `evaluate_unmoved` returns, their rows the tensors of `order_rows`.
        """
        gradients, forward = self._gradients, self._gradients.forward

        @tf.function(autograph=False)
        def evaluate_each(
            values,
            state,
            batch,
            unmoved,
            indices,
            offsets,
            splits,
        ):
            required = dict(zip(self._required, unmoved, strict=True))
            unmoved = gradients.bind_inputs((values, state, batch)) | required
            count = tf.shape(offsets)[0]
            results = tf.TensorArray(tf.float64, size=count, element_shape=(3,))
            for number, subgraph in enumerate(self._subgraphs):
                group = self._bounds[number], self._bounds[number + 1]
                move = self._make_move(
                    values,
                    group,
                    indices,
                    offsets,
                )
                begin = tf.cast(splits[number], tf.int32)
                end = tf.cast(splits[number + 1], tf.int32)
                at_once = count_at_once(self._shapes[slice(*group)], self._heavy_above)
                results = insert_loop(
                    forward,
                    subgraph,
                    group,
                    move,
                    unmoved,
                    (begin, end),
                    results,
                    at_once,
                )
            return results.stack()

        tensors = [gradients.graph.get_tensor_by_name(name) for name in self._required]
        common = (*self._arguments, specify(tensors))
        rows = _INDICES, _OFFSETS, _INTEGERS
        traced = evaluate_each.get_concrete_function(*common, *rows)
        return distribute(traced, self._strategy, common, rows)

    def _make_move(self, values, group, indices, offsets):
        """Returns a function from the number of a row to the values of a group, entries moved."""
        bundles = []
        for first, last in self._bundles(*group):
            bundles.append((first, last, bundle(values[first:last])))

        def move(k):
            index, offset = tf.gather(indices, k), tf.gather(offsets, k)
            moved = []
            for first, last, flat in bundles:
                flat = move_entries(flat, index - int(self._starts[first]), offset)
                moved += unbundle(flat, self._shapes[first:last])
            return moved

        return move

    def _bundles(self, first, last):
        """Ranges of variables held end to end: together for speed, one by one for memory."""
        if self.is_heavy:
            return [(v, v + 1) for v in range(first, last)]
        return [(first, last)]
