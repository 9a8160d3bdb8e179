"""The loss along lines, compiled from parts of the trace that also gave the gradient."""

import functools
import itertools

import numpy as np
import tensorflow as tf

from gradhooks.backends.common.partition import partition
from gradhooks.backends.tensorflow.gradients import inner
from gradhooks.backends.tensorflow.graphs import run, specs
from gradhooks.backends.tensorflow.parameters import (
    Cache,
    bundle,
    specifications,
    split,
    unbundle,
    with_one_moved,
)
from gradhooks.backends.tensorflow.replicas import count_devices, distribute

# So many evaluations at once. One alone leaves processors idle between its operations; two passes
# forth, which let go of an activation as soon as it is used, hold less than the gradient's pass
# forth and back, which keeps them all.
_AT_ONCE = 2
# Of more parameters, 80 MB, no two copies at once. Operations on so many keep processors busy by
# themselves.
_HEAVY = 1e7
# Up to so many parameters, an undivided graph is called for each point on a line by itself, and no
# loop traced for it.
_FEW = 1e5


class LossProgram:
    """The loss terms at many points along probes, in one compiled call.

    Single parameters are moved in loops of their own, each over that part of
    the graph which depends on a group of parameters.

    Args:
        gradients: The `Gradients` whose trace holds the loss.
        state: Tensors; only their specifications matter here.
        batch: Nested tensors, likewise.
        is_sharing: Whether single parameters share what does not depend on them.
        strategy: The `tf.distribute.Strategy` whose replicas share the evaluations, if any.
    """

    def __init__(self, gradients, state, batch, is_sharing=True, strategy=None):
        self._gradients, self._shapes, self._strategy = gradients, gradients.shapes, strategy
        self._directions = Cache()
        self._sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self._shapes]
        self._offsets = np.cumsum([0, *self._sizes])
        self._arguments = (specifications(self._shapes), specs(state), specs(batch))
        self._bounds = partition(gradients.forward) if is_sharing else (0, len(self._shapes))
        self._is_heavy = self._offsets[-1] > _HEAVY
        self._is_light = len(self._bounds) == 2 and self._offsets[-1] <= _FEW

    def __call__(self, point, state, batch, probes, pairs):
        """Returns float64, shape (K, 3): total, data and penalty for K pairs `(number of the probe, offset)`."""
        try:
            return self._evaluated(point, state, batch, probes, pairs)
        except tf.errors.ResourceExhaustedError:
            if len(pairs) == 1:
                raise
            # By itself, an evaluation shares the memory with no other, and with no other probe.
            each = [
                self._evaluated(point, state, batch, [probes[k]], [(0, offset)])
                for k, offset in pairs
            ]
            return np.concatenate(each)

    def _evaluated(self, point, state, batch, probes, pairs):
        if all(len(probe.weights) == 1 for probe in probes):
            moved = np.array([probes[which].start for which, _ in pairs], np.int64)
            offsets = np.array([offset * probes[which].weights[0] for which, offset in pairs])
            arguments = (
                self._gradients.parts(point),
                state,
                batch,
                self._fixed_at(point, state, batch),
            )
            return self._spread(self._of_each, arguments, self._each, moved, offsets)
        if self._is_light:
            # Undivided, nothing that moves with a parameter is among what stays fixed.
            arguments = state, batch, self._fixed_at(point, state, batch)
            return np.concatenate(
                [self._moved(point, arguments, probes[k], offset) for k, offset in pairs]
            )
        # One line after the other, so that no more than one direction of the size of the model is
        # held.
        result = np.empty((len(pairs), 3))
        for number, probe in enumerate(probes):
            places = [k for k, (which, _) in enumerate(pairs) if which == number]
            offsets = np.array([pairs[k][1] for k in places])
            # Asked for again after other probes, and as long as the model.
            direction = self._directions.parts(self._direction(probe), self._shapes)
            arguments = self._gradients.parts(point), state, batch, direction
            result[places] = self._spread(self._along, arguments, self._line, offsets)
        return result

    def _direction(self, probe):
        """The weights of all parameters, shape (P,)."""
        if len(probe.weights) == self._offsets[-1]:
            return probe.weights
        direction = np.zeros(self._offsets[-1])
        direction[probe.start : probe.stop] = probe.weights
        return direction

    def _fixed_at(self, point, state, batch):
        """What moving single parameters leaves alone; kept, since a check asks for many losses around one point."""
        arguments = self._gradients.parts(point), state, batch
        return self._gradients.kept.get(point, "fixed", lambda: self._fixed_for_each(*arguments))

    def _moved(self, point, arguments, probe, offset):
        """The loss terms at a point that is moved here, shape (1, 3)."""
        moved = np.array(point, np.float64)
        moved[probe.start : probe.stop] += offset * probe.weights
        nowhere = np.zeros(1, np.int64), np.zeros(1)
        return self._spread(
            self._of_each, (split(moved, self._shapes), *arguments), self._each, *nowhere
        )

    def _spread(self, evaluate, arguments, share_of, *columns):
        """Evaluates rows of columns on all devices, in turn, since neighbours among them cost alike."""
        count = count_devices(self._strategy)
        places = [np.arange(first, len(columns[0]), count) for first in range(count)]
        orders, shares = zip(
            *(share_of(*(column[rows] for column in columns)) for rows in places), strict=True
        )
        result = np.empty((len(columns[0]), 3))
        for rows, order, found in zip(
            places, orders, evaluate(arguments, list(shares)), strict=True
        ):
            result[rows[order]] = found.numpy()
        return result

    def _line(self, offsets):
        """The order of evaluation, and the arguments of `_along`."""
        return slice(None), (tf.constant(offsets, tf.float64),)

    def _each(self, moved, offsets):
        """The order of evaluation, and the arguments of `_of_each`."""
        order = np.argsort(moved, kind="stable")
        splits = np.searchsorted(moved[order], self._offsets[list(self._bounds)])
        return order, (
            tf.constant(moved[order], tf.int64),
            tf.constant(offsets[order], tf.float64),
            tf.constant(splits, tf.int64),
        )

    @functools.cached_property
    def _along(self):
        """Evaluates along a line through many parameters; compiled when first asked for."""
        forward = self._gradients.forward
        whole = forward.above(0, len(self._shapes))
        below = forward.below([whole])

        @tf.function(autograph=False)
        def along(values, state, batch, direction, offsets):
            given, taken = self._gradients.given((values, state, batch)), forward.taken_by(whole)
            fixed = dict(zip(taken, forward.put(below, given, taken), strict=True))

            def moved(k):
                offset = tf.gather(offsets, k)
                return [v + offset * d for v, d in zip(values, direction, strict=True)]

            count = tf.shape(offsets)[0]
            found = tf.TensorArray(tf.float64, size=count, element_shape=(3,))
            return self._loop(whole, 0, len(self._shapes), moved, fixed, 0, count, found).stack()

        vector = tf.TensorSpec([None], tf.float64)
        return self._compiled(along, (*self._arguments, self._arguments[0]), vector)

    @functools.cached_property
    def _parts(self):
        """What changes when single parameters move, group by group."""
        return [
            self._gradients.forward.above(first, last)
            for first, last in itertools.pairwise(self._bounds)
        ]

    @functools.cached_property
    def _taken(self):
        """Names of what single parameters leave alone and some part needs to be told, short of what is handed in."""
        forward, inputs = (
            self._gradients.forward,
            {tensor.name for tensor in self._gradients.graph.inputs},
        )
        return list(
            dict.fromkeys(
                n for part in self._parts for n in forward.taken_by(part) if n not in inputs
            )
        )

    @functools.cached_property
    def _fixed_for_each(self):
        """Evaluates, with nothing moved, what moving single parameters leaves alone; compiled when first asked for."""
        if not self._taken:
            return lambda *arguments: []
        forward, below = self._gradients.forward, self._gradients.forward.below(self._parts)

        @tf.function(autograph=False)
        def fixed(values, state, batch):
            return forward.put(below, self._gradients.given((values, state, batch)), self._taken)

        compiled = fixed.get_concrete_function(*self._arguments)
        return lambda values, state, batch: run(compiled, values, state, batch)

    @functools.cached_property
    def _of_each(self):
        """Evaluates single parameters; compiled when first asked for."""
        bounds = self._bounds

        @tf.function(autograph=False)
        def of_each(values, state, batch, fixed, positions, offsets, splits):
            fixed = self._gradients.given((values, state, batch)) | dict(
                zip(self._taken, fixed, strict=True)
            )
            found = tf.TensorArray(tf.float64, size=tf.shape(offsets)[0], element_shape=(3,))
            for number, part in enumerate(self._parts):
                first, last = bounds[number], bounds[number + 1]
                bundles = [(a, b, bundle(values[a:b])) for a, b in self._bundles(first, last)]

                def moved(k, bundles=bundles):
                    place, offset = tf.gather(positions, k), tf.reshape(tf.gather(offsets, k), [1])
                    return [
                        value
                        for a, b, flat in bundles
                        for value in unbundle(
                            with_one_moved(flat, place - int(self._offsets[a]), offset),
                            self._shapes[a:b],
                        )
                    ]

                ends = tf.cast(splits[number], tf.int32), tf.cast(splits[number + 1], tf.int32)
                found = self._loop(part, first, last, moved, fixed, *ends, found)
            return found.stack()

        taken = [self._gradients.graph.get_tensor_by_name(name) for name in self._taken]
        vector, integers = tf.TensorSpec([None], tf.float64), tf.TensorSpec([None], tf.int64)
        return self._compiled(of_each, (*self._arguments, specs(taken)), integers, vector, integers)

    def _bundles(self, first, last):
        """Ranges of parameters that are held end to end: together is faster, and one by one holds no second copy."""
        return [(v, v + 1) for v in range(first, last)] if self._is_heavy else [(first, last)]

    def _compiled(self, function, common, *share):
        return distribute(
            function.get_concrete_function(*common, *share), self._strategy, common, share
        )

    def _loop(self, part, first, last, moved, fixed, begin, end, found):
        """Evaluates a part for the pairs `begin <= k < end`, with the parameters `first <= v < last` moved."""
        forward = self._gradients.forward

        def evaluate(k, found):
            values = moved(k)
            roots = dict(zip(forward.roots[first:last], values, strict=True))
            given = {
                name: inner(fixed[name]) for name in forward.taken_by(part) if name not in roots
            }
            return k + 1, found.write(
                k, tf.stack(forward.put(part, given | roots, forward.outputs))
            )

        is_heavy = sum(self._sizes[first:last]) > _HEAVY
        at_once = 1 if is_heavy else _AT_ONCE
        return tf.while_loop(
            lambda k, _: k < end, evaluate, (begin, found), parallel_iterations=at_once
        )[1]
