"""Derivatives along directions at one tensor, measured by a part of the model alone.

Each takes two steps on both sides, of which an error bar follows; see
`gradhooks.numerics.differences.select_estimate`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradhooks._types import Floats
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.numerics import differences
from gradhooks.numerics.probe import Probe
from gradhooks.verdicts.characterizing import Slope

# Evaluations for one derivative: two steps, on both sides.
PER_SLOPE = 4
# The larger step, in units of the smaller one. A free choice above 2, so that truncation shows.
_RATIO = 3.0
# Offsets in units of the smaller step at which noise is estimated, and the factor by which that of
# two differences is enlarged. Free choices: where noise is all there is, the larger one of two is
# below a thirtieth of it once in a thousand times.
_TINY, _MARGIN = (0.03, 0.01), 3.0
# Seed of the directions: a free choice.
_SEED = 20
# Evaluates the derivative along a direction, one array for each tensor; None where nothing moves.
Measure = Callable[[Sequence[Floats | None]], Slope]


def measure_weight(
    oracle: Any, at: EvaluationPoint, number: int, term: str, scale: float
) -> Measure:
    """Returns a function that measures the derivative along a direction of a variable.

    Args:
        oracle: The `Oracle`.
        at: The `EvaluationPoint`.
        number: Number of the variable.
        term: Name of the term of the loss.
        scale: Typical size of a parameter of the variable.
    """
    part = oracle.layout.slice(number)
    column = list(oracle.term_names).index(term)
    gradient = np.asarray(at.gradients[term][part])
    step = _step(np.float64)
    offsets = [step, -step, _RATIO * step, -_RATIO * step]

    def measure(directions: Sequence[Floats | None]) -> Slope:
        direction = np.concatenate([np.ravel(d) for d in directions if d is not None])
        probe = Probe(part.start, direction, scale)
        pairs = [(0, offset) for offset in offsets]
        losses = oracle.losses(at.point, [probe], pairs)[:, column] - at.base[column]
        noise = float(at.noise[column])
        return _slope(step, losses[::2], losses[1::2], noise, gradient * direction)

    return measure


def measure_part(part: Any) -> Measure:
    """Returns a function that measures the derivative along a direction by a part alone."""
    dtype = np.float64 if part.is_wide else np.float32
    step = _step(dtype)
    wide = [np.asarray(gradient, np.float64) for gradient in part.gradients]
    ends = [np.asarray(gradient, np.float64) for gradient in part.output_gradients]

    def change(directions: Sequence[Floats | None], offset: float) -> float:
        moved: list[Any] = []
        for value, direction in zip(part.values, directions, strict=True):
            moved.append(value if direction is None else value + offset * direction)
        change = 0.0
        for new, old, slope in zip(part.compute(moved), part.outputs, ends, strict=True):
            change += float(np.sum(slope * (np.asarray(new, np.float64) - old)))
        return change

    # What is rounded in the outputs is at least a unit in their last place.
    rounded = [slope * output for output, slope in zip(part.outputs, ends, strict=True)]
    noise = max(
        float(np.finfo(dtype).eps) * float(np.linalg.norm([np.linalg.norm(r) for r in rounded])),
        _estimate_noise(change, [draw(value, k) for k, value in enumerate(part.values)], step),
    )

    def measure(directions: Sequence[Floats | None]) -> Slope:
        plus = [change(directions, factor * step) for factor in (1.0, _RATIO)]
        minus = [change(directions, -factor * step) for factor in (1.0, _RATIO)]
        parts: list[Floats] = []
        for gradient, direction in zip(wide, directions, strict=True):
            if direction is not None:
                parts.append((gradient * direction).ravel())
        return _slope(step, plus, minus, noise, np.concatenate(parts))

    return measure


def _estimate_noise(
    change: Callable[[Sequence[Floats | None], float], float],
    directions: Sequence[Floats | None],
    step: float,
) -> float:
    """Returns the noise level of a change, from what is not proportional to tiny offsets."""
    slope = (change(directions, step) - change(directions, -step)) / (2 * step)
    largest = 0.0
    for factor in _TINY:
        offset = factor * step
        odd = (change(directions, offset) - change(directions, -offset)) / 2
        largest = max(largest, abs(odd - offset * slope))
    return _MARGIN * largest


def _slope(
    step: float, plus: Sequence[float], minus: Sequence[float], noise: float, parts: Floats
) -> Slope:
    """Returns the `Slope` from changes of the loss at two steps on both sides.

    Args:
        step: The smaller step.
        plus: The changes at the two steps.
        minus: The changes at the two steps backwards.
        noise: Noise level of a change.
        parts: The parts of the analytic derivative.
    """
    estimate = differences.select_estimate(0.0, [step, _RATIO * step], plus, minus, noise)
    low, high = estimate.interval
    error = max(high - estimate.slope, estimate.slope - low)
    return Slope(float(np.sum(parts)), estimate.slope, error, float(np.linalg.norm(parts)))


def _step(dtype: Any) -> float:
    """Returns the smaller step, in units of what is moved: rounding and truncation balance."""
    return float(np.finfo(dtype).eps) ** (1 / 3)


def draw(value: Floats, number: int) -> Floats:
    """Returns a random direction as large as a tensor, with the same numbers each time."""
    size = float(np.sqrt(np.mean(np.square(value, dtype=np.float64)))) or 1.0
    rng = np.random.default_rng([_SEED, number])
    return size * rng.standard_normal(value.shape)


def is_usable(part: Any) -> bool:
    """Whether there is a part, and all in it is finite."""
    if part is None:
        return False
    arrays = [*part.values, *part.gradients, *part.outputs, *part.output_gradients]
    return all(bool(np.isfinite(array).all()) for array in arrays)
