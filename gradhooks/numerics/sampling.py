"""Which parameters are compared: a stratified random sample, and directions over many at once.

Every draw is a pure function of the layout, the gradient, the seed and the
training step, so that a resumed run draws what the uninterrupted run would have
drawn.
"""

import enum
from collections.abc import Collection, Iterable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gradhooks._types import Floats, PerVariable, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe

# Length scale of a variable that is zero everywhere (a fresh bias), and so has none of its own: the
# size that common initializers and normalization layers give to the variables beside it.
DEFAULT_SCALE = 0.1
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
_NEIGHBOURS = 4
# A variable contributes to a slope if its part is more than this fraction of the largest. Far above
# rounding, and far below what any quotient resolves; the value does not matter in between.
_CONTRIBUTES = 1e-9
# Variables that contribute more than this quantile are damped to it. A free choice: most variables
# end up with equal shares, and a few tiny ones do not shrink all others to theirs.
_DAMPING_QUANTILE = 0.25


class Stream(enum.IntEnum):
    """What random numbers are drawn for: one independent stream for each purpose."""

    COORDINATES = 0
    SCREENING = 1
    REPLICATE = 2
    REPLACEMENT = 3
    VARIABLE_DIRECTION = 4
    BLOCKED = 5
    NEIGHBOURS = 6
    UNDECIDED_VARIABLE = 7
    ZERO_GRADIENT = 8
    TRAINED_ROUNDING = 9
    TRAINED_REPLICATE = 10
    NATIVE_LOSS = 11


def generator(
    seed: int,
    step: int,
    stream: Stream,
    replicate: int = 0,
) -> Generator:
    """Returns the random number generator for one purpose.

    Args:
        seed: Seed of the run.
        step: Count of training batches.
        stream: A `Stream`.
        replicate: Number of the replicate; each has a generator of its own.
    """
    return np.random.default_rng([seed, step, stream, replicate])


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


def variable_scales(layout: Layout, point: Vector) -> PerVariable:
    """Returns the typical size of each variable's parameters: float64, shape (V,), positive.

    The root mean square of the values, `DEFAULT_SCALE` where they are all zero.

    Args:
        layout: The `Layout`.
        point: float64, shape (P,).
    """
    counts = np.maximum(layout.sizes, 1)
    rms = layout.norms(point) / np.sqrt(counts)
    return np.where(rms > 0, rms, DEFAULT_SCALE)


def coordinate_probe(position: int, variable_scale: float) -> Probe:
    """Returns the probe that varies one parameter.

    One parameter among many moves the loss little, so its length scale is at
    least `DEFAULT_SCALE`, also in variables of small values.
    """
    length_scale = max(float(variable_scale), DEFAULT_SCALE)
    return Probe(int(position), np.ones(1), length_scale)


def screening_probe(
    layout: Layout,
    scales: PerVariable,
    gradient: Vector,
    rng: Generator,
    left_out: Collection[int] = (),
) -> Probe:
    """Returns a random-sign direction over all parameters in which every variable counts.

    Variable `v` is moved by `scale_v` per entry and unit of offset, and by less
    where its share of the slope, `scale_v * ||a_v||`, would hide the others:
    shares above their lower quartile are damped to it.

    Args:
        layout: The `Layout`.
        scales: float64, shape (V,), from `variable_scales`.
        gradient: float64, shape (P,), the analytic gradient.
        rng: The random number generator.
        left_out: Numbers of variables that are not moved.

    Returns:
        A `Probe` over all parameters.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = layout.norms(gradient)
    is_finite = np.isfinite(norms) & np.isfinite(scales)
    finite_norms = np.where(is_finite, norms, 0.0)
    shares = finite_norms * np.nan_to_num(scales)
    largest = shares.max(initial=0.0)
    contributing = shares[shares > _CONTRIBUTES * largest]
    target = 0.0
    if len(contributing):
        target = float(np.quantile(contributing, _DAMPING_QUANTILE))
    damping = np.ones(len(layout))
    if target > 0:
        is_damped = shares > target
        damping[is_damped] = target / shares[is_damped]

    weights = np.empty(layout.size)
    for v in range(len(layout)):
        size = 0.0 if v in left_out else scales[v] * damping[v]
        signs = _draw_signs(rng, int(layout.sizes[v]))
        weights[layout.slice(v)] = size * signs
    weights.flags.writeable = False  # what is computed from it may be cached
    return Probe(0, weights)


def variable_probe(
    layout: Layout,
    variable: int,
    variable_scale: float,
    gradient: Vector,
    rng: Generator,
    aligned: bool,
) -> Probe:
    """Returns a direction over one variable, along its gradient or with random signs.

    With `n` parameters a direction along the gradient moves the loss about `n`
    times as far as one parameter does, which makes derivatives measurable in a
    loss of few digits.

    Args:
        layout: The `Layout`.
        variable: Number of the variable.
        variable_scale: Typical size of its parameters.
        gradient: float64, shape (P,), the analytic gradient.
        rng: The random number generator.
        aligned: Whether to follow the gradient; random signs are used all the
            same where it is zero or not finite.
    """
    part = layout.slice(variable)
    weights = gradient[part].copy()
    norm = np.linalg.norm(weights)
    if not aligned or not np.isfinite(norm) or norm == 0:
        weights = _draw_signs(rng, part.stop - part.start)
    else:
        weights *= np.sqrt(len(weights)) / norm
    return Probe(part.start, weights, float(variable_scale))


def _draw_signs(rng: Generator, count: int) -> Floats:
    signs = np.array([-1.0, 1.0])
    return rng.choice(signs, size=count)


def nudge(
    layout: Layout,
    point: Vector,
    scales: PerVariable,
    rng: Generator,
    size: float,
) -> Vector:
    """Returns the point moved by Gaussian noise: float64, shape (P,).

    Args:
        layout: The `Layout`.
        point: float64, shape (P,).
        scales: float64, shape (V,), from `variable_scales`.
        rng: The random number generator.
        size: Standard deviation of the noise, in units of each variable's scale.
    """
    moved = rng.standard_normal(layout.size)
    moved *= size
    for v in range(len(layout)):
        moved[layout.slice(v)] *= scales[v]
    moved += point
    return moved
