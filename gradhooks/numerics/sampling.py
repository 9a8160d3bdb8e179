"""Which parameters to look at: a stratified random subset, and directions over many at once.

Every draw is a pure function of the layout, the seed and the step, so a run
that is resumed draws what the uninterrupted run would have drawn.
"""

import enum

import numpy as np

from gradhooks.numerics.probe import Probe

# A variable that is zero everywhere (a fresh bias) has no size of its own; a tenth is what
# usual initializers and normalization layers give their neighbours.
DEFAULT_SCALE = 0.1
# What has no gradient is looked at too, for it may be the gradient that is wrong, but not first.
# The shares do not matter: variables without any are also moved as a whole (see `blockage`).
_OF_DEAD, _OF_ZEROS = 0.25, 0.25
# So many draws find a parameter with a gradient unless there are few; then they are counted.
_TRIES = 64


class Stream(enum.IntEnum):
    """What random numbers are drawn for: each purpose has a stream of its own, independent of the others."""

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


def generator(seed, step, stream, replicate=0):
    """Returns the `numpy.random.Generator` for one purpose.

    Args:
        seed: Seed of the run.
        step: Count of training batches.
        stream: A `Stream`.
        replicate: Number of the repetition; each draws anew.
    """
    return np.random.default_rng([seed, step, stream, replicate])


def draw_coordinates(layout, samples, seed, step, turn=None, gradient=None):
    """Draws the parameters of one check, stratified over the variables.

    Every variable gets one parameter while they last, the rest is uniform over
    all parameters. With fewer samples than variables the variables take turns,
    in an order shuffled once per seed; where all have a gradient, `ceil(V /
    samples)` successive turns cover all of them.

    Parameters with a gradient come first, for the others have little to show.
    Variables without any (dead, or below a layer of zeros) take turns of their
    own, in a quarter of the samples where samples are few. A single parameter
    without one, such as the row of a table that is not in the batch, stays
    drawn one time in four, and else makes room for one that has.

    Args:
        layout: The `Layout`.
        samples: Number of parameters to draw; all of them if there are fewer.
        seed: Seed of the run.
        step: Count of training batches, makes the draw differ between checks.
        turn: Number of the check among those of the run; `step` if None.
        gradient: float64, shape (P,). The analytic gradient; None if unknown.

    Returns:
        int64, shape (min(samples, P),). Distinct flat indices, ascending.
    """
    if samples >= layout.size:
        return np.arange(layout.size)
    rng = generator(seed, step, Stream.COORDINATES)
    draw = _Draw(layout, gradient, rng)
    turns = draw.whose_turn(samples, seed, step if turn is None else turn)
    chosen = {draw.one_of(v) for v in turns}
    while len(chosen) < samples:
        drawn = rng.integers(layout.size, size=samples - len(chosen))
        # What is taken already makes room for any other, or rows in use may run out.
        preferred = {draw.preferred(position) for position in drawn.tolist()}
        chosen.update(preferred - chosen or set(drawn.tolist()))
    return np.array(sorted(chosen), dtype=np.int64)


class _Draw:
    """Draws parameters, with preference for those that have a gradient."""

    def __init__(self, layout, gradient, rng):
        self._layout, self._gradient, self._rng = layout, gradient, rng

    def whose_turn(self, samples, seed, turn):
        """Returns the numbers of the variables that get a parameter of their own in this turn."""
        filled = np.flatnonzero(self._layout.sizes)
        live = np.array([v for v in filled if self._is_live(v)], dtype=np.int64)
        dead = np.setdiff1d(filled, live)
        room = samples if not len(live) else max(samples - len(live), int(_OF_DEAD * samples))
        left = samples - min(room, len(dead))
        return [*_taking_turns(dead, room, seed, turn), *_taking_turns(live, left, seed, turn)]

    def one_of(self, variable):
        """Draws a parameter of a variable, one with a gradient if there are any."""
        return _one_of(self._layout, variable, self._rng, self._gradient)

    def preferred(self, position):
        """Returns a position, or in most cases, if it has no gradient, another one that has."""
        if (
            self._gradient is None
            or self._gradient[position] != 0
            or self._rng.random() < _OF_ZEROS
        ):
            return position
        return self.one_of(self._layout.variable_of(position))

    def _is_live(self, variable):
        return self._gradient is None or bool(self._gradient[self._layout.slice(variable)].any())


def _taking_turns(variables, count, seed, turn):
    if count >= len(variables):
        return variables
    order = np.random.default_rng([seed]).permutation(variables)
    return order[(turn * count + np.arange(count)) % len(order)]


def _one_of(layout, variable, rng, gradient=None):
    """Draws a parameter of a variable; one with a gradient if that is given and there are any."""
    start, stop = layout.offsets[variable], layout.offsets[variable + 1]
    if gradient is None:
        return int(rng.integers(start, stop))
    drawn = rng.integers(start, stop, size=_TRIES)
    reached = drawn[gradient[drawn] != 0]
    if not len(reached):
        reached = start + np.flatnonzero(gradient[start:stop])
        if len(reached):
            return int(rng.choice(reached))
    return int(reached[0] if len(reached) else drawn[0])


def draw_replacement(layout, variable, taken, rng, gradient=None):
    """Draws a parameter of the variable that is not in `taken`, see `coordinates`; None after a few misses."""
    for _ in range(8):
        position = _one_of(layout, variable, rng, gradient)
        if position not in taken:
            return position
    return None


def draw_neighbours(layout, position, taken, rng, count=4):
    """Draws parameters beside one: of the same unit (last axis), of the same row (first axis), and of neither.

    Args:
        layout: The `Layout`.
        position: Flat index of the parameter.
        taken: Flat indices to leave out.
        rng: `numpy.random.Generator`.
        count: How many of each kind.

    Returns:
        Sorted flat indices.
    """
    variable, index = layout.locate(position)
    shape, origin = layout.shapes[variable], layout.offsets[variable]
    drawn = set()
    for fixed in ((), (0,), (len(shape) - 1,)) if shape else ():
        for _ in range(count):
            beside = [index[k] if k in fixed else int(rng.integers(n)) for k, n in enumerate(shape)]
            drawn.add(int(origin + np.ravel_multi_index(beside, shape)))
    return sorted(drawn - set(taken))


def variable_scales(layout, point):
    """Returns the typical size of each variable's parameters: float64, shape (V,), positive.

    Root mean square of the values, `DEFAULT_SCALE` where they are all zero.
    """
    rms = layout.norms(point) / np.sqrt(np.maximum(layout.sizes, 1))
    return np.where(rms > 0, rms, DEFAULT_SCALE)


def coordinate_probe(position, variable_scale):
    """Returns the probe that varies one parameter.

    One parameter among many moves the loss little, so its scale does not
    shrink below `DEFAULT_SCALE` in variables of small values.
    """
    return Probe(int(position), np.ones(1), max(float(variable_scale), DEFAULT_SCALE))


def screening_probe(layout, variable_scales, gradient, rng, left_out=()):
    """Returns a random-sign direction over all parameters in which every variable counts.

    Variable `v` is moved by `scale_v` per entry and unit of offset, less where
    its share of the slope, `scale_v * ||a_v||`, would drown the others: shares
    above the lower quartile are damped to it.

    Args:
        layout: The `Layout`.
        variable_scales: float64, shape (V,), from `scales`.
        gradient: float64, shape (P,), the analytic gradient.
        rng: `numpy.random.Generator`.
        left_out: Numbers of variables that do not take part.

    Returns:
        A `Probe` over all parameters.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = layout.norms(gradient)
    shares = np.where(
        np.isfinite(norms) & np.isfinite(variable_scales), norms, 0.0
    ) * np.nan_to_num(variable_scales)
    felt = shares[shares > 1e-9 * shares.max(initial=0.0)]
    target = np.quantile(felt, 0.25) if len(felt) else 0.0
    damping = np.divide(
        target, shares, out=np.ones(len(layout)), where=(shares > target) & (target > 0)
    )
    weights = np.empty(layout.size)
    for v in range(len(layout)):
        size = 0.0 if v in left_out else variable_scales[v] * damping[v]
        weights[layout.slice(v)] = size * rng.choice(np.array([-1.0, 1.0]), size=layout.sizes[v])
    weights.flags.writeable = False  # so that what is made of it may be kept
    return Probe(0, weights)


def variable_probe(layout, variable, variable_scale, gradient, rng, aligned):
    """Returns a direction over one variable, along its gradient or with random signs.

    With `n` parameters a direction along the gradient moves the loss about `n`
    times as far as one parameter does, which is what makes derivatives
    measurable in a loss of few digits.
    """
    part = layout.slice(variable)
    weights = gradient[part].copy()
    norm = np.linalg.norm(weights)
    if not aligned or not np.isfinite(norm) or norm == 0:
        weights = rng.choice(np.array([-1.0, 1.0]), size=part.stop - part.start)
    else:
        weights *= np.sqrt(len(weights)) / norm
    return Probe(part.start, weights, float(variable_scale))


def nudge(layout, point, variable_scales, rng, size):
    """Returns the point moved by Gaussian noise of `size` times each variable's scale: float64, shape (P,)."""
    moved = rng.standard_normal(layout.size)
    moved *= size
    for v in range(len(layout)):
        moved[layout.slice(v)] *= variable_scales[v]
    moved += point
    return moved
