"""The terms of a normalization that a gradient lacks: of the mean, of the variance, or of the norm.

Of `y = (x - m) / sqrt(v + e)` with mean `m` and variance `v` over some axes, a backward
pass that takes both for constants gives `g`. The right one is

    g - mean(g) - (x - m) mean(g (x - m)) / (v + e)

The second term is that of the mean, the third that of the variance. Without a mean it is
that of a norm. The constant `e` is fitted to one direction; the others must agree. A term
that is there with another factor is told like one that is missing: taking out what the
gradient has in its direction gives the right one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from gradhooks._types import Floats

# Where the constant is searched, relative to the largest variance. Derived: beyond, it is as if
# there were none, or as if there were no variance.
_LOWEST, _HIGHEST = 1e-14, 1e3
# At how many points. A free choice, ten a decade: two solutions between two points are not found.
_POINTS = 171
# How often an interval is halved, on a logarithmic scale. Derived: what is left of a tenth of a
# decade is below the unit roundoff.
_HALVINGS = 50


def find(
    value: Floats,
    gradient: Floats,
    directions: Sequence[Floats],
    numeric: Sequence[float],
    is_explained: Callable[[Sequence[float]], bool],
) -> str:
    """Returns which term is missing, a clause; empty if none explains what was measured.

    Args:
        value: The tensor that enters.
        gradient: Its gradient by backpropagation.
        directions: Along which it was measured.
        numeric: The derivatives that were measured.
        is_explained: Whether predicted derivatives are those.
    """
    for axes in _sets_of_axes(value.shape):
        name = _name_axes(axes, value.ndim)
        # One alone first: where its mean is zero already, subtracting it changes nothing.
        for words, has_mean, has_variance, is_centered in (
            (f"the term of the mean over {name} is missing or wrong", True, False, True),
            (f"the term of the variance over {name} is missing or wrong", False, True, True),
            (f"the term of the norm over {name} is missing or wrong", False, True, False),
            (f"the terms of mean and variance over {name} are missing or wrong", True, True, True),
        ):
            center = np.mean(value, axis=axes, keepdims=True) if is_centered else 0.0
            offsets = value - center
            rest = gradient
            if has_mean:
                rest = gradient - np.mean(gradient, axis=axes, keepdims=True)
            fixed = [float(np.sum(rest * direction)) for direction in directions]
            candidates: Iterable[list[float]] = [fixed]
            if has_variance:
                candidates = _subtract_variance(fixed, offsets, gradient, axes, directions, numeric)
            if any(map(is_explained, candidates)):
                return words
    return ""


def _subtract_variance(
    fixed: Sequence[float],
    offsets: Floats,
    gradient: Floats,
    axes: tuple[int, ...],
    directions: Sequence[Floats],
    numeric: Sequence[float],
) -> Iterator[list[float]]:
    """Yields derivatives with the term of the variance, for constants that fit the first one."""
    variance = np.mean(offsets**2, axis=axes)
    along = np.mean(gradient * offsets, axis=axes)
    parts = [np.sum(offsets * direction, axis=axes) * along for direction in directions]

    def predict(k: int, constant: float) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            return fixed[k] - float(np.sum(parts[k] / (variance + constant)))

    scale = float(np.max(variance, initial=0.0)) or 1.0
    for constant in (0.0, *_solve(lambda e: predict(0, e) - numeric[0], scale)):
        yield [predict(k, constant) for k in range(len(directions))]


def _solve(function: Callable[[float], float], scale: float) -> Iterator[float]:
    """Yields where a function changes its sign, between numbers relative to a scale."""
    grid = scale * np.geomspace(_LOWEST, _HIGHEST, _POINTS)
    is_positive = [function(float(point)) > 0 for point in grid]
    for k in range(len(grid) - 1):
        low, high = float(grid[k]), float(grid[k + 1])
        if is_positive[k] == is_positive[k + 1]:
            continue
        for _ in range(_HALVINGS):
            middle = float(np.sqrt(low * high))
            if (function(middle) > 0) == is_positive[k]:
                low = middle
            else:
                high = middle
        yield float(np.sqrt(low * high))


def _sets_of_axes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yields what normalizations are taken over: layers, batches, instances, single axes."""
    rank = len(shape)
    candidates = [(rank - 1,), tuple(range(rank - 1)), tuple(range(1, rank))]
    candidates += [tuple(range(1, rank - 1)), (0,), (1,)]
    seen: set[tuple[int, ...]] = set()
    for axes in candidates:
        if axes and max(axes) < rank and axes not in seen:
            seen.add(axes)
            if int(np.prod([shape[axis] for axis in axes])) > 1:
                yield axes


def _name_axes(axes: tuple[int, ...], rank: int) -> str:
    if axes == (rank - 1,):
        return "the last axis"
    if len(axes) == 1:
        return f"axis {axes[0]}"
    return f"axes {axes}"
