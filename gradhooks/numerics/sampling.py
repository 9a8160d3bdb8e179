"""Random streams, and the probes along which derivatives are measured.

Every draw is a pure function of its arguments and of a generator that is made
from the seed and the training step, so that a resumed run draws what the
uninterrupted run would have drawn.
"""

import enum
from collections.abc import Collection

import numpy as np
from numpy.random import Generator

from gradhooks._types import Floats, PerVariable, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe

# Length scale of a variable that is zero everywhere (a fresh bias), and so has none of its own: the
# size that common initializers and normalization layers give to the variables beside it.
DEFAULT_SCALE = 0.1
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
    BESIDE = 12
    TRAINED_ELSEWHERE = 13
    POOLING = 14


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
    """Returns a random direction over all parameters in which every variable counts.

    Variable `v` is moved by about `scale_v` per entry and unit of offset, and by less
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
        weights[layout.slice(v)] = size * _draw_weights(rng, int(layout.sizes[v]))
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
    """Returns a direction over one variable, along its gradient or at random.

    With `n` parameters a direction along the gradient moves the loss about `n`
    times as far as one parameter does, which makes derivatives measurable in a
    loss of few digits.

    Args:
        layout: The `Layout`.
        variable: Number of the variable.
        variable_scale: Typical size of its parameters.
        gradient: float64, shape (P,), the analytic gradient.
        rng: The random number generator.
        aligned: Whether to follow the gradient; the direction is random all
            the same where it is zero or not finite.
    """
    part = layout.slice(variable)
    weights = gradient[part].copy()
    norm = np.linalg.norm(weights)
    if not aligned or not np.isfinite(norm) or norm == 0:
        weights = _draw_weights(rng, part.stop - part.start)
    else:
        weights *= np.sqrt(len(weights)) / norm
    return Probe(part.start, weights, float(variable_scale))


def _draw_weights(rng: Generator, count: int) -> Floats:
    """Returns random signs times sizes between 0.5 and 1.5: float64, shape (count,).

    Of equal sizes, as many signs would cancel as agree: errors that add up to zero (the
    bias before a softmax, a column of a kernel before a normalization) would go unseen
    wherever all their signs are equal, with probability `2 ** (1 - n)` for `n` of them.
    """
    drawn = rng.uniform(-1.0, 1.0, count)
    return np.copysign(0.5 + np.abs(drawn), drawn)


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
