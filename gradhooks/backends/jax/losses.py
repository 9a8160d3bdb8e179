"""The loss at many points around one, compiled from the trace that also gave the gradient."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from gradhooks.backends.common.flat import split
from gradhooks.backends.common.memory import Needs
from gradhooks.backends.common.moves import direction_of, list_moves, moves_few
from gradhooks.backends.common.partition import TracingCost, partition
from gradhooks.backends.jax.equations import evaluate, is_variable, select_moving, select_needed
from gradhooks.backends.jax.precision import wide

# Rows of one call; how many of them are evaluated is an argument, so that nothing is compiled
# twice. A free choice: it changes how much is copied, and nothing else.
_ROOM = 128
# Parameters of one row; fewer are filled up with none, so that single parameters and pools share
# one loop. As many as a check samples by default; more take a loop of their own.
_WIDTH = 32
# What several loops cost to compile. A free choice that changes cost only: 0.1 s for each variable,
# as a trial once found that no command repeats. At 3e9 multiplications a second, within 1000
# evaluations, this is 0.1 s / 1000 * 3e9.
_TRACING_COST = TracingCost(fixed=3e5, per_variable=3e5)
# Up to this many parameters, a direction is evaluated by the loop for single parameters at moved
# points. A free choice that changes cost only: each point copies 8 MB, where another loop takes
# seconds to compile.
_LIGHT_UP_TO = 1e6


class LossProgram:
    """The loss terms at many points along probes, in one compiled call.

    Probes of one parameter, or a few of one group of variables, are evaluated by a
    loop for each group, over the equations that depend on it. Probes of many
    parameters are evaluated by a loop over all equations, or one by one where the
    model is light.

    Args:
        gradients: The `GradientProgram` whose trace holds the loss.
        state: Not used: the trace knows what it takes.
        batch: Likewise.
        is_sharing: Whether parameters share the part of the loss that does not
            depend on their variables.
        strategy: Not used: evaluations run on one device.
        max_memory: Bytes that evaluations may take, see `memory.Needs`; None for no
            limit. Evaluations run one at a time in any case.
        tracing_cost: What groups of variables must save, see `partition`.
        light_up_to: Number of parameters up to which a model that is not
            partitioned is evaluated along directions without a loop.

    Attributes:
        needs: The `memory.Needs`.
        bounds: The bounds of the groups of variables, see `partition`.
        is_heavy: Whether `max_memory` is less than what two evaluations at once would take.
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
        tracing_cost=_TRACING_COST,
        light_up_to=_LIGHT_UP_TO,
    ):
        del state, batch, strategy
        self._gradients, self._shapes = gradients, gradients.shapes
        self._forward = gradients.forward
        self._counts = [math.prod(shape) for shape in self._shapes]
        self._starts = np.cumsum([0, *self._counts])
        sizes = [8 * count for count in self._counts]
        largest = max(sizes, default=0)
        self.needs = Needs(sum(sizes), largest, gradients.forward.bytes, gradients.terms)
        one_group = (0, len(self._shapes))
        self.bounds = partition(self._forward, tracing_cost) if is_sharing else one_group
        self.is_heavy = max_memory is not None and self.needs.usual > max_memory
        self.is_light = len(self.bounds) == 2 and self._starts[-1] <= light_up_to
        self._group_starts = self._starts[list(self.bounds)]
        self._compiled = {}

    def __call__(self, point, state, batch, probes, pairs):
        """Evaluates the loss terms.

        Args:
            point: float64, shape (P,).
            state: Arrays.
            batch: Nested arrays.
            probes: The `Probe`s.
            pairs: K pairs (number of the probe, offset along it).

        Returns:
            float64, shape (K, 3): total, data and penalty.
        """
        with wide():
            arguments = self._gradients.bind_inputs(self._gradients.split(point), state, batch)
            if all(moves_few(probe, self._group_starts) for probe in probes):
                return self._evaluate_few_parameters(point, arguments, probes, pairs)
            if self.is_light:
                return self._evaluate_moved_points(point, (state, batch), probes, pairs)
            return self._evaluate_along_lines(arguments, probes, pairs)

    def _evaluate_few_parameters(self, point, arguments, probes, pairs):
        """Evaluates with one parameter moved in each row, or a few of one group."""
        unmoved = self._gradients.cache.get(
            point, "unmoved", lambda: self._evaluate_unmoved(arguments)
        )
        indices, offsets = list_moves(probes, pairs, _WIDTH)
        return self._evaluate_rows(arguments, unmoved, indices, offsets)

    def _evaluate_moved_points(self, point, inputs, probes, pairs):
        """Evaluates pairs by the loop for few parameters, at a moved point and with offset 0."""
        rows, unmoved = [], None
        no_move = np.full((1, _WIDTH), -1), np.zeros((1, _WIDTH))
        no_move[0][0, 0] = 0
        for number, offset in pairs:
            moved = split(probes[number].move(point, offset), self._shapes)
            values = [jnp.asarray(part) for part in moved]
            arguments = self._gradients.bind_inputs(values, *inputs)
            if unmoved is None:  # nothing in it depends on a variable
                unmoved = self._evaluate_unmoved(arguments)
            rows.append(self._evaluate_rows(arguments, unmoved, *no_move))
        return np.concatenate(rows)

    def _evaluate_rows(self, arguments, unmoved, indices, offsets):
        """Evaluates rows of moves, in the order of the groups: shape (rows, 3)."""
        order = np.argsort(indices[:, 0], kind="stable")
        found = np.empty((len(order), 3))
        for first in range(0, len(order), _ROOM):
            rows = order[first : first + _ROOM]
            padding = ((0, _ROOM - len(rows)), (0, 0))
            padded = np.pad(indices[rows], padding, constant_values=-1)
            moved = np.pad(offsets[rows], padding)
            ends = np.searchsorted(indices[rows, 0], self._group_starts).astype(np.int64)
            parts = self._loop(padded.shape[1], arguments, unmoved)(
                list(arguments.values()), unmoved, padded, moved, ends
            )
            found[rows] = np.asarray(parts)[: len(rows)]
        return found

    def _evaluate_unmoved(self, arguments):
        """Evaluates what moving parameters of a group leaves alone, for all groups."""
        wanted = list(dict.fromkeys(v for group in self._groups for v in group.taken))
        if "unmoved" not in self._compiled:
            equations = select_needed(self._forward.equations, wanted)
            self._compiled["unmoved"] = self._gradients.compile(equations, arguments, wanted)
        return self._compiled["unmoved"](arguments)

    @functools.cached_property
    def _groups(self):
        """A `_Group` for each group of variables."""
        groups = []
        for first, last in itertools.pairwise(self.bounds):
            groups.append(_Group(self._forward, first, last))
        return groups

    def _loop(self, width, arguments, unmoved):
        """Returns the compiled loop over rows in which `width` parameters move."""
        if width in self._compiled:
            return self._compiled[width]
        names = list(arguments)
        taken = list(dict.fromkeys(v for group in self._groups for v in group.taken))

        def compute(values, unmoved, indices, offsets, ends):
            known = dict(zip(names, values, strict=True))
            fixed = known | dict(zip(taken, unmoved, strict=True))
            found = jnp.zeros((_ROOM, 3))
            for number, group in enumerate(self._groups):

                def evaluate_row(row, found, group=group):
                    moved = self._move(known, group, indices[row], offsets[row])
                    terms = evaluate(group.equations, fixed | moved, self._forward.outputs)
                    return found.at[row].set(jnp.stack([jnp.asarray(term) for term in terms]))

                found = jax.lax.fori_loop(ends[number], ends[number + 1], evaluate_row, found)
            return found

        shapes = [
            jax.ShapeDtypeStruct((_ROOM, width), np.int64),
            jax.ShapeDtypeStruct((_ROOM, width), np.float64),
            jax.ShapeDtypeStruct((len(self._groups) + 1,), np.int64),
        ]
        traced = jax.jit(compute).lower(list(arguments.values()), unmoved, *shapes)
        self._compiled[width] = traced.compile()
        return self._compiled[width]

    def _move(self, known, group, indices, offsets):
        """Returns the variables of a group with some of their parameters moved."""
        moved = {}
        for number in range(group.first, group.last):
            root, count = self._forward.roots[number], self._counts[number]
            places = indices - self._starts[number]
            is_inside = (places >= 0) & (places < count)
            # What lies outside is dropped; a negative place would count from the end.
            flat = known[root].reshape(-1)
            flat = flat.at[jnp.where(is_inside, places, count)].add(offsets, mode="drop")
            moved[root] = flat.reshape(self._shapes[number])
        return moved

    def _evaluate_along_lines(self, arguments, probes, pairs):
        """Evaluates one probe after the other, so that only one direction at a time is held."""
        numbers = np.array([number for number, _ in pairs])
        offsets = np.array([offset for _, offset in pairs])
        found = np.empty((len(pairs), 3))
        for number, probe in enumerate(probes):
            chosen = np.flatnonzero(numbers == number)
            direction = [
                jnp.asarray(d) for d in split(direction_of(probe, self._starts[-1]), self._shapes)
            ]
            for first in range(0, len(chosen), _ROOM):
                rows = chosen[first : first + _ROOM]
                padded = np.pad(offsets[rows], (0, _ROOM - len(rows)))
                line = self._line(arguments, direction)
                parts = line(list(arguments.values()), direction, padded, np.int64(len(rows)))
                found[rows] = np.asarray(parts)[: len(rows)]
        return found

    def _line(self, arguments, direction):
        """Returns the compiled loop over points along a direction."""
        if "line" in self._compiled:
            return self._compiled["line"]
        names, forward = list(arguments), self._forward

        def compute(values, direction, offsets, count):
            known = dict(zip(names, values, strict=True))

            def evaluate_row(row, found):
                moved = {
                    r: known[r] + offsets[row] * d
                    for r, d in zip(forward.roots, direction, strict=True)
                }
                terms = evaluate(forward.equations, known | moved, forward.outputs)
                return found.at[row].set(jnp.stack([jnp.asarray(term) for term in terms]))

            return jax.lax.fori_loop(0, count, evaluate_row, jnp.zeros((_ROOM, 3)))

        shapes = jax.ShapeDtypeStruct((_ROOM,), np.float64), jax.ShapeDtypeStruct((), np.int64)
        traced = jax.jit(compute).lower(list(arguments.values()), direction, *shapes)
        self._compiled["line"] = traced.compile()
        return self._compiled["line"]


class _Group:
    """A group of neighbouring variables whose parameters share a loop.

    Args:
        forward: The `ForwardEquations`.
        first: Number of the first variable.
        last: Number of the variable behind the last.

    Attributes:
        equations: The equations that depend on the group.
        taken: The variables that they, and the loss terms, take from the others.
    """

    def __init__(self, forward, first, last):
        self.first, self.last = first, last
        roots = forward.roots[first:last]
        self.equations, moving = select_moving(forward.equations, roots)
        computed = {v for e in forward.equations for v in e.outvars}
        wanted = [atom for equation in self.equations for atom in equation.invars]
        taken = [a for a in [*wanted, *forward.outputs] if is_variable(a) and a not in moving]
        self.taken = [variable for variable in dict.fromkeys(taken) if variable in computed]
