"""Which parameters to look at: a stratified random subset, and directions over many at once.

Every draw is a pure function of the layout, the seed and the step, so a run
that is resumed draws what the uninterrupted run would have drawn.
"""

import numpy as np

from gradhooks.numerics.records import Probe

# A variable that is zero everywhere (a fresh bias) has no size of its own; a tenth is what
# usual initializers and normalization layers give their neighbours.
DEFAULT_SCALE = 0.1
_COORDINATES, _DIRECTION, _NUDGE = range(3)


def generator(seed, step, stream=_COORDINATES):
    """Returns the `numpy.random.Generator` of a check; streams of one check are independent."""
    return np.random.default_rng([seed, step, stream])


def coordinates(layout, samples, seed, step, turn=None):
    """Draws the parameters of one check, stratified over the variables.

    Every variable gets one parameter while they last, the rest is uniform over
    all parameters. With fewer samples than variables the variables take turns,
    in an order shuffled once per seed, so that `ceil(V / samples)` successive
    turns cover all of them.

    Args:
        layout: The `Layout`.
        samples: Number of parameters to draw; all of them if there are fewer.
        seed: Seed of the run.
        step: Count of training batches, makes the draw differ between checks.
        turn: Number of the check among those of the run; `step` if None.

    Returns:
        int64, shape (min(samples, P),). Distinct flat indices, ascending.
    """
    if samples >= layout.size:
        return np.arange(layout.size)
    rng = generator(seed, step)
    chosen = {_one_of(layout, v, rng) for v in _whose_turn(layout, samples, seed, step if turn is None else turn)}
    while len(chosen) < samples:
        chosen.update(rng.integers(layout.size, size=samples - len(chosen)).tolist())
    return np.array(sorted(chosen), dtype=np.int64)


def _whose_turn(layout, samples, seed, turn):
    filled = np.flatnonzero(layout.sizes)
    if samples >= len(filled):
        return filled
    order = np.random.default_rng([seed]).permutation(filled)
    return order[(turn * samples + np.arange(samples)) % len(order)]


def _one_of(layout, variable, rng):
    return int(rng.integers(layout.offsets[variable], layout.offsets[variable + 1]))


def another(layout, variable, taken, rng):
    """Draws a parameter of the variable that is not in `taken`; None after a few misses."""
    for _ in range(8):
        position = _one_of(layout, variable, rng)
        if position not in taken:
            return position
    return None


def neighbours(layout, position, taken, rng, count=4):
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


def scales(layout, point):
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
    shares = np.where(np.isfinite(norms) & np.isfinite(variable_scales), norms, 0.0) * np.nan_to_num(variable_scales)
    felt = shares[shares > 1e-9 * shares.max(initial=0.0)]
    target = np.quantile(felt, 0.25) if len(felt) else 0.0
    damping = np.divide(target, shares, out=np.ones(len(layout)), where=(shares > target) & (target > 0))
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


def nudge(layout, point, variable_scales, seed, step, size):
    """Returns the point moved by Gaussian noise of `size` times each variable's scale: float64, shape (P,)."""
    moved = generator(seed, step, _NUDGE).standard_normal(layout.size)
    moved *= size
    for v in range(len(layout)):
        moved[layout.slice(v)] *= variable_scales[v]
    moved += point
    return moved
