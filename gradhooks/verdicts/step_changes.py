"""What a train step may do to a gradient before the optimizer receives it.

Each function predicts the result from the gradient of a loss; numbers that it does not
know, such as the limit of a clipping, it takes from what the optimizer receives.
"""

from collections.abc import Callable, Collection, Iterator

import numpy as np

from gradhooks._types import Floats, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.reports.text import list_names
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient
from gradhooks.verdicts.step_causes import Prediction, is_round

# Relative accuracy to which factors and norms are recognized. A free choice, as in
# `optimizer_diagnosis`.
_ACCURACY = 1e-2
# Smallest size of a unit's weights in adaptive clipping. Derived: A. Brock et al.,
# "High-performance large-scale image recognition without normalization", 2021, section 4.1.
_SMALLEST_UNIT = 1e-3
# So few clipped entries, variables or units show no limit that they have in common, unless it is a
# round number. A free choice: a second one that is clipped to the same is no chance.
_FEW = 2

# Function (gradient of a loss, what the optimizer receives) -> what a step makes of it.
Change = Callable[[Vector, OptimizerGradient], Prediction | None]


def scale(base: Vector, recorded: OptimizerGradient) -> Prediction | None:
    """Predicts a multiple of the gradient; its words depend on what the factor is elsewhere."""
    square = float(base @ base)
    if not square:
        return None
    factor = float(base @ recorded.values) / square
    return Prediction(factor * base, "", 1, factor=factor)


def scale_some(failed: Collection[int]) -> Change:
    """Returns what predicts one factor for some of the variables, and the others as they are.

    Args:
        failed: Numbers of the variables whose gradient is wrong.
    """

    def scale_failed(base: Vector, recorded: OptimizerGradient) -> Prediction | None:
        layout, scaled = recorded.layout, np.zeros_like(base)
        for variable in failed:
            part = layout.slice(variable)
            scaled[part] = base[part]
        square, rest = float(scaled @ scaled), base - scaled
        if len(failed) < 2 or not square or not rest.any():
            return None
        factor = float(scaled @ recorded.values) / square
        paths = [layout.paths[variable] for variable in failed]
        sentence = (
            f"train_step passes on {factor:.6g} times the gradient of {list_names(paths)}, and "
            "that of the others as it is"
        )
        return Prediction(factor * scaled + rest, sentence, 1)

    return scale_failed


def centralize(base: Vector, recorded: OptimizerGradient) -> Prediction:
    """Predicts a gradient whose mean over the inputs of each unit is subtracted."""
    gradient = base.copy()
    for part, shape in list_parts(recorded.layout):
        if len(shape) > 1:
            values = base[part].reshape(shape)
            means = values.mean(axis=tuple(range(len(shape) - 1)), keepdims=True)
            gradient[part] = (values - means).ravel()
    return Prediction(
        gradient, "the gradient is centralized: the mean over the inputs of each unit is subtracted"
    )


def clip_by_value(base: Vector, recorded: OptimizerGradient) -> Prediction | None:
    """Predicts a gradient whose entries are clipped to the largest one that is received."""
    limit = float(np.max(np.abs(recorded.values), initial=0.0))
    clipped = np.count_nonzero(np.abs(base) > limit * (1 + _ACCURACY))
    if not clipped or (clipped < _FEW and not is_round(limit)):
        return None
    sentence = f"the gradient is clipped by value to +-{limit:.4g}"
    if clipped == np.count_nonzero(base):
        sentence += ", or only its sign is taken: every entry is larger"
    return Prediction(np.clip(base, -limit, limit), sentence, 1, limit=limit)


def clip_each_norm(base: Vector, recorded: OptimizerGradient) -> Prediction | None:
    """Predicts a gradient of which each variable's is clipped to the largest norm received."""
    norms, limit = recorded.layout.norms(base), float(max(recorded.norms[1], default=0.0))
    clipped = np.count_nonzero(norms > limit * (1 + _ACCURACY))
    if not clipped or (clipped < _FEW and not is_round(limit)):
        return None
    gradient = base.copy()
    for variable, norm in enumerate(norms):
        if norm > limit:
            gradient[recorded.layout.slice(variable)] *= limit / norm
    sentence = f"every variable's gradient is clipped to the norm {limit:.4g}"
    if clipped == np.count_nonzero(norms) > 1:
        sentence += ", or scaled to it: every one is larger"
    return Prediction(gradient, sentence, 1, limit=limit)


def normalize_each(base: Vector, recorded: OptimizerGradient) -> Prediction | None:
    """Predicts a gradient of which each variable's has the same norm."""
    norms, common = recorded.layout.norms(base), float(np.median(recorded.norms[1]))
    # Where all are larger, clipping gives the same, and speaks of both.
    if len(norms) < 2 or not norms.all() or norms.min() > common * (1 + _ACCURACY):
        return None
    gradient = base.copy()
    for variable, norm in enumerate(norms):
        gradient[recorded.layout.slice(variable)] *= common / norm
    sentence = f"every variable's gradient is scaled to the norm {common:.4g}"
    return Prediction(gradient, sentence, 1)


def clip_units(point: Vector) -> Change:
    """Returns what predicts adaptive clipping: by the norms of the weights of each unit.

    Args:
        point: float64, shape (P,). The weights.
    """

    def clip(base: Vector, recorded: OptimizerGradient) -> Prediction | None:
        values = recorded.values.astype(np.float64, copy=False)
        limits: list[float] = []
        for weights, slopes, received in _units(recorded.layout, point, base, values):
            size = float(np.linalg.norm(received))
            if size < (1 - _ACCURACY) * float(np.linalg.norm(slopes)):
                limits.append(size / max(float(np.linalg.norm(weights)), _SMALLEST_UNIT))
        if len(limits) < _FEW:
            return None
        limit, gradient = float(np.median(limits)), base.copy()
        for weights, slopes in _units(recorded.layout, point, gradient):
            most = limit * max(float(np.linalg.norm(weights)), _SMALLEST_UNIT)
            slopes *= min(1.0, most / max(float(np.linalg.norm(slopes)), most))
        sentence = (
            f"the gradient of each unit is clipped to {limit:.4g} times the norm of its weights "
            "(adaptive gradient clipping)"
        )
        return Prediction(gradient, sentence, 1, limit=limit)

    return clip


def list_parts(layout: Layout) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """Yields the slice and the shape of every variable."""
    for variable, shape in enumerate(layout.shapes):
        yield layout.slice(variable), shape


def _units(layout: Layout, *vectors: Vector) -> Iterator[tuple[Floats, ...]]:
    """Views of the parts of vectors that belong to one unit; a bias is one for all units."""
    for part, shape in list_parts(layout):
        parts = [vector[part].reshape(-1, shape[-1] if len(shape) > 1 else 1) for vector in vectors]
        for unit in range(parts[0].shape[1]):
            yield tuple(values[:, unit] for values in parts)
