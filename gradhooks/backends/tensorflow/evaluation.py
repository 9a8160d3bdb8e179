"""The loss along lines and its gradient, compiled from one trace.

Nothing here knows about Keras models; `differentiate` is a function from
parameter values to scalars and their gradients, and everything that varies is
an argument of the graph, so that one trace serves every later check.
"""

import functools
import itertools

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.division import division
from gradhooks.backends.tensorflow.graphs import inlined_functions, run, specs
from gradhooks.backends.tensorflow.parameters import (
    Parts,
    bundled,
    flattened,
    parted,
    specifications,
    trim_memory,
    unbundled,
    with_one_moved,
    without_gaps,
)
from gradhooks.backends.tensorflow.replicas import local_devices, shared_out
from gradhooks.backends.tensorflow.surgery import Forward

# So many evaluations at once. One alone leaves processors idle between its operations; two passes forth, which let go
# of an activation as soon as it is used, hold less than the gradient's pass forth and back, which keeps them all.
_AT_ONCE = 2
# Of more parameters, 80 MB, no two copies at once. Operations on so many keep processors busy by themselves.
_HEAVY = 1e7
# Up to so many parameters, an undivided graph is called for each point on a line by itself, and no loop traced for it.
_FEW = 1e5


class Gradients:
    """The gradient of the loss terms, flat, by automatic differentiation.

    Args:
        differentiate: Function `(values, state, batch) -> (terms, gradients)`:
            three scalars, and per term to differentiate one tensor (or None)
            for each of `values`.
        shapes: Shape of each parameter.
        state: The tensors that `differentiate` gets as `state`; only their
            specifications matter here.
        batch: The nested tensors that it gets as `batch`, likewise.
    """

    def __init__(self, differentiate, shapes, state, batch):
        self.connected = None
        self.shapes = shapes
        self.parts = Parts(shapes)
        marked = []

        # Parameters come and gradients leave one by one: laid end to end, they would be held twice.
        @tf.function(autograph=False)
        def gradients(values, state, batch):
            terms, per_term = differentiate(values, state, batch)
            self.connected = np.array([g is not None for g in per_term[0]])
            terms = [_scalar(term) for term in terms]
            marked[:] = terms, values
            # The terms are returned, too, so that an operation that cannot run shows at the first call.
            return [without_gaps(gradient, shapes) for gradient in per_term], terms

        with inlined_functions():
            self._function = gradients.get_concrete_function(specifications(shapes), specs(state), specs(batch))
        self.graph = self._function.graph
        self.forward = Forward(self.graph, *marked)

    def __call__(self, point, state, batch):
        """Returns one float64 array of shape (P,) per term."""
        per_term, _ = run(self._function, self.parts(point), state, batch)
        trim_memory(len(point))
        return tuple(flattened(gradient) for gradient in per_term)

    def given(self, arguments):
        """Returns tensors of the default graph by the names of the inputs that stand for them."""
        inputs = [tensor.name for tensor in self.graph.inputs]
        captured = [_inner(external) for external, _ in self.graph.captures]
        return dict(zip(inputs, [*tf.nest.flatten(arguments), *captured], strict=True))


class Losses:
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
        self._sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self._shapes]
        self._offsets = np.cumsum([0, *self._sizes])
        self._arguments = (specifications(self._shapes), specs(state), specs(batch))
        self._bounds = division(gradients.forward) if is_sharing else (0, len(self._shapes))
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
            each = [self._evaluated(point, state, batch, [probes[k]], [(0, offset)]) for k, offset in pairs]
            return np.concatenate(each)

    def _evaluated(self, point, state, batch, probes, pairs):
        if all(len(probe.weights) == 1 for probe in probes):
            moved = np.array([probes[which].start for which, _ in pairs], np.int64)
            offsets = np.array([offset * probes[which].weights[0] for which, offset in pairs])
            arguments = self._gradients.parts(point), state, batch
            return self._spread(self._of_each, arguments, self._each, moved, offsets)
        if self._is_light:
            return np.concatenate([self._moved(point, state, batch, probes[k], offset) for k, offset in pairs])
        # One line after the other, so that no more than one direction of the size of the model is held.
        result = np.empty((len(pairs), 3))
        for number, probe in enumerate(probes):
            places = [k for k, (which, _) in enumerate(pairs) if which == number]
            offsets = np.array([pairs[k][1] for k in places])
            values, direction = self._gradients.parts(point), parted(self._direction(probe), self._shapes)
            arguments = values, state, batch, direction
            result[places] = self._spread(self._along, arguments, self._line, offsets)
        return result

    def _direction(self, probe):
        """The weights of all parameters, shape (P,)."""
        if len(probe.weights) == self._offsets[-1]:
            return probe.weights
        direction = np.zeros(self._offsets[-1])
        direction[probe.start : probe.stop] = probe.weights
        return direction

    def _moved(self, point, state, batch, probe, offset):
        """The loss terms at a point that is moved here, shape (1, 3)."""
        moved = np.array(point, np.float64)
        moved[probe.start : probe.stop] += offset * probe.weights
        nowhere = np.zeros(1, np.int64), np.zeros(1)
        return self._spread(self._of_each, (parted(moved, self._shapes), state, batch), self._each, *nowhere)

    def _spread(self, evaluate, arguments, share_of, *columns):
        """Evaluates rows of columns on all devices, in turn, since neighbours among them cost alike."""
        count = local_devices(self._strategy)
        places = [np.arange(first, len(columns[0]), count) for first in range(count)]
        orders, shares = zip(*(share_of(*(column[rows] for column in columns)) for rows in places), strict=True)
        result = np.empty((len(columns[0]), 3))
        for rows, order, found in zip(places, orders, evaluate(arguments, list(shares)), strict=True):
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
            fixed = self._fixed(below, [whole], (values, state, batch))

            def moved(k):
                offset = tf.gather(offsets, k)
                return [v + offset * d for v, d in zip(values, direction, strict=True)]

            count = tf.shape(offsets)[0]
            found = tf.TensorArray(tf.float64, size=count, element_shape=(3,))
            return self._loop(whole, 0, moved, fixed, 0, count, found).stack()

        vector = tf.TensorSpec([None], tf.float64)
        return self._compiled(along, (*self._arguments, self._arguments[0]), vector)

    @functools.cached_property
    def _of_each(self):
        """Evaluates single parameters; compiled when first asked for."""
        forward, bounds = self._gradients.forward, self._bounds
        parts = [forward.above(first, last) for first, last in itertools.pairwise(bounds)]
        below = forward.below(parts)

        @tf.function(autograph=False)
        def of_each(values, state, batch, positions, offsets, splits):
            fixed = self._fixed(below, parts, (values, state, batch))
            found = tf.TensorArray(tf.float64, size=tf.shape(offsets)[0], element_shape=(3,))
            for number, part in enumerate(parts):
                first, last = bounds[number], bounds[number + 1]
                bundles = [(a, b, bundled(values[a:b])) for a, b in self._bundles(first, last)]

                def moved(k, bundles=bundles):
                    place, offset = tf.gather(positions, k), tf.reshape(tf.gather(offsets, k), [1])
                    return [
                        value
                        for a, b, flat in bundles
                        for value in unbundled(
                            with_one_moved(flat, place - int(self._offsets[a]), offset), self._shapes[a:b]
                        )
                    ]

                ends = tf.cast(splits[number], tf.int32), tf.cast(splits[number + 1], tf.int32)
                found = self._loop(part, first, moved, fixed, *ends, found)
            return found.stack()

        vector, integers = tf.TensorSpec([None], tf.float64), tf.TensorSpec([None], tf.int64)
        return self._compiled(of_each, self._arguments, integers, vector, integers)

    def _bundles(self, first, last):
        """Ranges of parameters that are held end to end: together is faster, and one by one holds no second copy."""
        return [(v, v + 1) for v in range(first, last)] if self._is_heavy else [(first, last)]

    def _compiled(self, function, common, *share):
        return shared_out(function.get_concrete_function(*common, *share), self._strategy, common, share)

    def _fixed(self, below, parts, arguments):
        """Tensors by name: everything that some parts need to be told, with nothing moved."""
        forward, given = self._gradients.forward, self._gradients.given(arguments)
        wanted = list(dict.fromkeys(name for part in parts for name in forward.taken_by(part)))
        return dict(zip(wanted, forward.put(below, given, wanted), strict=True))

    def _loop(self, part, first, moved, fixed, begin, end, found):
        """Evaluates a part for the pairs `begin <= k < end`, with the parameters from `first` on moved."""
        forward = self._gradients.forward

        def evaluate(k, found):
            values = moved(k)
            roots = dict(zip(forward.roots[first : first + len(values)], values, strict=True))
            given = {name: _inner(fixed[name]) for name in forward.taken_by(part) if name not in roots}
            return k + 1, found.write(k, tf.stack(forward.put(part, given | roots, forward.outputs)))

        at_once = 1 if self._is_heavy else _AT_ONCE
        return tf.while_loop(lambda k, _: k < end, evaluate, (begin, found), parallel_iterations=at_once)[1]


def _inner(tensor):
    """The tensor as the default graph sees it."""
    return tf.compat.v1.get_default_graph().capture(tensor)


def gradient(target, values):
    """Differentiates a scalar of the graph that is being traced; returns one tensor or None per value.

    By the graph and not by a tape: several terms would take a persistent tape, and where there is one TensorFlow
    compiles every loop for derivatives of higher order, which takes several times as long to trace.
    """
    return tf.gradients(target, values)


def _scalar(term):
    return tf.cast(tf.identity(term), tf.float64)
