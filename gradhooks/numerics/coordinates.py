"""Which parameters are compared: a stratified random sample.

Every draw is a pure function of the layout, the gradient, the seed and the
training step, so that a resumed run draws what the uninterrupted run would have
drawn.
"""

from collections.abc import Collection, Iterable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gradhooks._types import Vector
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.sampling import Stream, generator

# Fraction of the samples that goes to variables without a gradient where samples are scarce, and
# probability that a single parameter without one is kept. Both only need to be small and positive:
# a zero may be what is wrong, but variables without a gradient are also moved as a whole, see
# `checking/zero_gradients`.
_DEAD_FRACTION = 0.25
_KEPT_ZEROS = 0.25
# Draws made in search of a parameter with a gradient before all of them are listed. It affects
# speed alone: listing reads the whole variable.
_TRIES = 64
# Draws made in search of a replacement. In a variable with few parameters left it may miss them,
# which costs one comparison of many.
_REPLACEMENT_TRIES = 8
# Neighbours drawn of each kind: enough to see a pattern, a free choice.
_NEIGHBOURS = 3


def draw_coordinates(
    layout: Layout,
    samples: int,
    seed: int,
    step: int,
    check_index: int | None = None,
    gradient: Vector | None = None,
) -> NDArray[np.int64]:
    """Draws the parameters of one check, stratified over the variables.

    Each variable gets one parameter; the remaining samples are uniform over all
    parameters. With fewer samples than variables the variables alternate from
    check to check, in an order shuffled once per seed: if all of them have a
    gradient, `ceil(V / samples)` successive checks cover all of them.

    Parameters with a gradient are preferred, because the others show little.
    Variables without any gradient (dead, or below a layer of zeros) alternate
    among themselves, in a quarter of the samples where samples are scarce. A
    single parameter without one, such as the row of an embedding that is not in
    the batch, is kept one time in four and otherwise replaced by one with a
    gradient.

    Args:
        layout: The `Layout`.
        samples: Number of parameters to draw; all of them if there are fewer.
        seed: Seed of the run.
        step: Count of training batches, makes the draw differ between checks.
        check_index: Number of the check in its run; `step` if None.
        gradient: float64, shape (P,). The analytic gradient; None if unknown.

    Returns:
        int64, shape (min(samples, P),). Distinct flat indices, ascending.
    """
    if samples >= layout.size:
        return np.arange(layout.size)
    if check_index is None:
        check_index = step
    rng = generator(seed, step, Stream.COORDINATES)
    variables = _select_variables(layout, samples, seed, check_index, gradient)
    chosen = {_draw_from(layout, v, rng, gradient) for v in variables}
    while len(chosen) < samples:
        missing = samples - len(chosen)
        uniform: list[int] = rng.integers(layout.size, size=missing).tolist()
        drawn: set[int] = set()
        for position in uniform:
            drawn.add(_prefer_gradient(layout, position, rng, gradient))
        # If all of them are taken already, the parameters with a gradient may be used up.
        chosen.update(drawn - chosen or uniform)
    return np.array(sorted(chosen), dtype=np.int64)


def _select_variables(
    layout: Layout,
    samples: int,
    seed: int,
    check_index: int,
    gradient: Vector | None,
) -> list[int]:
    """Returns the numbers of the variables that get a parameter of their own in this check."""
    live: list[int] = []
    dead: list[int] = []
    for variable in np.flatnonzero(layout.sizes).tolist():
        is_live = gradient is None or gradient[layout.slice(variable)].any()
        (live if is_live else dead).append(variable)
    room = samples
    if live:
        room = max(samples - len(live), int(_DEAD_FRACTION * samples))
    left = samples - min(room, len(dead))
    return [
        *_alternate(dead, room, seed, check_index),
        *_alternate(live, left, seed, check_index),
    ]


def _alternate(
    variables: list[int],
    count: int,
    seed: int,
    check_index: int,
) -> list[int]:
    """Returns `count` of the variables, successive checks getting successive ones."""
    if count >= len(variables):
        return variables
    order = np.random.default_rng([seed]).permutation(variables)
    first = check_index * count
    chosen = (first + np.arange(count)) % len(order)
    return order[chosen].tolist()


def _prefer_gradient(
    layout: Layout,
    position: int,
    rng: Generator,
    gradient: Vector | None,
) -> int:
    """Returns a position; in place of one without a gradient mostly another of its variable."""
    if gradient is None or gradient[position] != 0 or rng.random() < _KEPT_ZEROS:
        return position
    return _draw_from(layout, layout.variable_of(position), rng, gradient)


def _draw_from(
    layout: Layout,
    variable: int,
    rng: Generator,
    gradient: Vector | None,
) -> int:
    """Draws a parameter of a variable, one with a gradient if there are any."""
    start = int(layout.offsets[variable])
    stop = int(layout.offsets[variable + 1])
    if gradient is None:
        return int(rng.integers(start, stop))
    drawn = rng.integers(start, stop, size=_TRIES)
    nonzero = drawn[gradient[drawn] != 0]
    if len(nonzero):
        return int(nonzero[0])
    nonzero = start + np.flatnonzero(gradient[start:stop])
    if len(nonzero):
        return int(rng.choice(nonzero))
    return int(drawn[0])


def draw_replacement(
    layout: Layout,
    variable: int,
    taken: Collection[int],
    rng: Generator,
    gradient: Vector | None = None,
) -> int | None:
    """Draws a parameter of a variable that is not in `taken`; None if eight draws find none.

    Args:
        layout: The `Layout`.
        variable: Number of the variable.
        taken: Flat indices to leave out.
        rng: The random number generator.
        gradient: float64, shape (P,). Parameters with a gradient are preferred;
            None if unknown.
    """
    for _ in range(_REPLACEMENT_TRIES):
        position = _draw_from(layout, variable, rng, gradient)
        if position not in taken:
            return position
    return None


def draw_neighbours(
    layout: Layout,
    position: int,
    taken: Iterable[int],
    rng: Generator,
    count: int = _NEIGHBOURS,
) -> list[int]:
    """Draws parameters of the same unit (last axis), of the same row (first axis), and of neither.

    Args:
        layout: The `Layout`.
        position: Flat index of the parameter whose neighbours are drawn.
        taken: Flat indices to leave out.
        rng: The random number generator.
        count: How many of each kind.

    Returns:
        Sorted flat indices.
    """
    variable, index = layout.locate(position)
    shape = layout.shapes[variable]
    if not shape:
        return []
    origin = int(layout.offsets[variable])
    shared_axes: tuple[int | None, ...] = (None, 0, len(shape) - 1)
    drawn: set[int] = set()
    for shared in shared_axes:
        for _ in range(count):
            neighbour: list[int] = []
            for axis, length in enumerate(shape):
                if axis == shared:
                    neighbour.append(index[axis])
                else:
                    neighbour.append(int(rng.integers(length)))
            drawn.add(int(origin + np.ravel_multi_index(neighbour, shape)))
    return sorted(drawn - set(taken))
