"""The loss at many points around one, compiled from the trace that also gave the gradient."""

import math

import numpy as np
import tensorflow as tf

from gradhooks.backends.common.flat import Cache, split
from gradhooks.backends.common.memory import Needs
from gradhooks.backends.common.moves import direction_of, list_moves, moves_few
from gradhooks.backends.common.partition import DEFAULT_TRACING_COST, partition
from gradhooks.backends.tensorflow.line_loop import LineLoop
from gradhooks.backends.tensorflow.parameter_loop import ParameterLoop
from gradhooks.backends.tensorflow.parameters import split_cached
from gradhooks.backends.tensorflow.replicas import evaluate_rows
from gradhooks.backends.tensorflow.row_loops import HEAVY_ABOVE

# Up to this many parameters, a direction is evaluated by calls at moved points instead of a loop of
# its own. A free choice that changes cost only: every call copies all parameters, 0.8 MB for 1e5 of
# them, where the loop must be traced once.
LIGHT_UP_TO = 1e5


class LossProgram:
    """The loss terms at many points along probes, in one compiled call.

    Probes of one parameter, or a few of one group of variables, are evaluated by a
    loop for each group, over that part of the graph which depends on it. Probes of
    many parameters are evaluated by a loop over the whole graph, or one by one
    where the model is light.

    Args:
        gradients: The `GradientProgram` whose trace holds the loss.
        state: Tensors; only their specifications matter here.
        batch: Nested tensors, likewise.
        is_sharing: Whether parameters share the part of the loss that does not
            depend on their variables.
        strategy: The `tf.distribute.Strategy` whose replicas share the
            evaluations, if any.
        max_memory: Bytes that evaluations may take, see `memory.Needs`; None for no
            limit. Beyond it a model is held like one above `heavy_above`.
        tracing_cost: What groups of variables must save, see `partition`.
        heavy_above: Number of parameters above which no two copies of the
            model are held at once.
        light_up_to: Number of parameters up to which a model that is not
            partitioned is evaluated along directions without a loop.

    Attributes:
        needs: The `memory.Needs`.
        bounds: The bounds of the groups of variables, see `partition`.
        is_heavy: Whether variables are copied one by one.
        is_light: Whether directions are evaluated without a loop.
    """

    def __init__(
        self,
        gradients,
        state,
        batch,
        is_sharing=True,
        strategy=None,
        max_memory=None,
        *,
        tracing_cost=DEFAULT_TRACING_COST,
        heavy_above=HEAVY_ABOVE,
        light_up_to=LIGHT_UP_TO,
    ):
        self._gradients = gradients
        self._shapes = gradients.shapes
        self._strategy = strategy
        self._directions = Cache()
        sizes = [8 * math.prod(shape) for shape in self._shapes]
        largest = max(sizes, default=0)
        self.needs = Needs(sum(sizes), largest, gradients.forward.bytes, gradients.terms)
        if max_memory is not None and self.needs.usual > max_memory:
            heavy_above = -1
        one_group = (0, len(self._shapes))
        self.bounds = partition(gradients.forward, tracing_cost) if is_sharing else one_group
        traced = gradients, state, batch
        self._few = ParameterLoop(
            *traced,
            self.bounds,
            strategy,
            heavy_above,
        )
        self._line = LineLoop(*traced, strategy, heavy_above)
        self._size = self._few.size
        self.is_heavy = self._few.is_heavy
        self.is_light = len(self.bounds) == 2 and self._size <= light_up_to

    def __call__(
        self,
        point,
        state,
        batch,
        probes,
        pairs,
    ):
        """Evaluates the loss terms.

        Args:
            point: float64, shape (P,).
            state: Tensors.
            batch: Nested tensors.
            probes: The `Probe`s.
            pairs: K pairs (number of the probe, offset along it).

        Returns:
            float64, shape (K, 3): total, data and penalty.

        Raises:
            tf.errors.ResourceExhaustedError: If memory does not suffice for one
                evaluation by itself.
        """
        try:
            return self.evaluate_together(
                point,
                state,
                batch,
                probes,
                pairs,
            )
        except tf.errors.ResourceExhaustedError:
            if len(pairs) == 1:
                raise
        # One by one, an evaluation shares the memory with no other and with no other direction.
        rows = []
        for number, offset in pairs:
            probe_alone, pair_alone = [probes[number]], [(0, offset)]
            rows.append(
                self.evaluate_together(
                    point,
                    state,
                    batch,
                    probe_alone,
                    pair_alone,
                )
            )
        return np.concatenate(rows)

    def evaluate_together(
        self,
        point,
        state,
        batch,
        probes,
        pairs,
    ):
        """Evaluates the loss terms at once, with the memory that this takes; see `__call__`."""
        inputs = state, batch
        if all(moves_few(probe, self._few.group_starts) for probe in probes):
            return self._evaluate_few_parameters(point, inputs, list_moves(probes, pairs))
        if self.is_light:
            return self._evaluate_moved_points(
                point,
                inputs,
                probes,
                pairs,
            )
        return self._evaluate_along_lines(
            point,
            inputs,
            probes,
            pairs,
        )

    def _evaluate_few_parameters(self, point, inputs, moves):
        """Evaluates with one parameter moved in each row, or a few of one group.

        Args:
            point: float64, shape (P,).
            inputs: State and batch.
            moves: Two arrays of shape (K, M): the parameters, and how far they move.
        """
        common = self._gradients.split(point), *inputs, self._evaluate_unmoved(point, inputs)
        return evaluate_rows(
            self._few,
            common,
            moves,
            self._strategy,
        )

    def _evaluate_moved_points(self, point, inputs, probes, pairs):
        """Evaluates pairs by the loop for few parameters, at a moved point and with offset 0.

        The graph is not partitioned here, so nothing that depends on a variable
        is among what is computed unmoved.
        """
        unmoved = self._evaluate_unmoved(point, inputs)
        no_move = np.zeros((1, 1), np.int64), np.zeros((1, 1))
        rows = []
        for number, offset in pairs:
            moved = probes[number].move(point, offset)
            common = split(moved, self._shapes), *inputs, unmoved
            rows.append(
                evaluate_rows(
                    self._few,
                    common,
                    no_move,
                    self._strategy,
                )
            )
        return np.concatenate(rows)

    def _evaluate_along_lines(self, point, inputs, probes, pairs):
        """Evaluates one probe after the other, so that only one direction at a time is copied."""
        numbers = np.array([number for number, _ in pairs])
        offsets = np.array([offset for _, offset in pairs])
        result = np.empty((len(pairs), 3))
        for number, probe in enumerate(probes):
            rows = np.flatnonzero(numbers == number)
            # A direction is as long as the model, and the same one comes again after other probes.
            direction = split_cached(
                self._directions, direction_of(probe, self._size), self._shapes
            )
            common = self._gradients.split(point), *inputs, direction
            result[rows] = evaluate_rows(
                self._line,
                common,
                (offsets[rows],),
                self._strategy,
            )
        return result

    def _evaluate_unmoved(self, point, inputs):
        """Evaluates what moving single parameters leaves alone, once for each point."""

        def evaluate():
            return self._few.evaluate_unmoved(self._gradients.split(point), *inputs)

        return self._gradients.cache.get(point, "unmoved", evaluate)
