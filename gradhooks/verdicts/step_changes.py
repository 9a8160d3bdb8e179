"""What a train step may do to a gradient before the optimizer receives it.

Each function predicts the result from the gradient of a loss; numbers that it does not
know, such as the limit of a clipping, it takes from what the optimizer receives.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from gradhooks._types import Floats, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.verdicts import causes
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


def centralize(base: Vector, recorded: OptimizerGradient) -> Prediction:
    """Predicts a gradient whose mean over the inputs of each unit is subtracted."""
    gradient = base.copy()
    for part, shape in _parts(recorded.layout):
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
    return Prediction(gradient, sentence, 1, limit=limit)


def normalize_each(base: Vector, recorded: OptimizerGradient) -> Prediction | None:
    """Predicts a gradient of which each variable's has the same norm."""
    norms, common = recorded.layout.norms(base), float(np.median(recorded.norms[1]))
    if len(norms) < 2 or not norms.all():
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


def add_decay(
    base: Vector,
    recorded: OptimizerGradient,
    point: Vector,
    failed: Collection[int],
) -> Prediction | None:
    """Predicts a gradient to which a multiple of the weights is added.

    Args:
        base: float64, shape (P,). Gradient of the loss.
        recorded: The `OptimizerGradient`.
        point: float64, shape (P,). The weights.
        failed: Numbers of the variables to whose gradient it is added.
    """
    weights = np.zeros_like(point)
    for variable in failed:
        part = recorded.layout.slice(variable)
        weights[part] = point[part]
    square = float(weights @ weights)
    if not square:
        return None
    rate = float(weights @ (recorded.values - base)) / square
    sentence = (
        f"train_step adds {rate:.4g} times the weights to the gradient: a weight decay that the "
        "loss does not have"
    )
    return Prediction(base + rate * weights, sentence, 1)


def mix_terms(
    total: Vector,
    data: Vector,
    recorded: OptimizerGradient,
    batch_size: int | None,
) -> Iterator[Prediction]:
    """Predicts multiples of the data term and of the regularization, which are not the same.

    Args:
        total: float64, shape (P,). Gradient of the loss.
        data: float64, shape (P,). Gradient without the regularization.
        recorded: The `OptimizerGradient`.
        batch_size: Number of examples; None if there is no one number.
    """
    penalty, values = total - data, recorded.values
    squares = float(data @ data), float(penalty @ penalty)
    if not all(squares):
        return
    yield Prediction(
        data,
        "train_step drops the regularization: the optimizer receives the gradient of the data "
        "term alone",
    )
    yield Prediction(
        data + 2 * penalty,
        "train_step adds the regularization twice: the loss that compute_loss returns has it "
        "already",
    )
    for count, words in ((1.0, "once"), (0.0, "not at all")):
        factor = float(data @ (values - count * penalty)) / squares[0]
        cause = causes.explain_factor(factor, {}, batch_size, _ACCURACY)
        yield Prediction(
            factor * data + count * penalty,
            f"train_step passes on {factor:.6g} times the gradient of the data term, and that of "
            f"the regularization {words}{cause}",
            1,
        )
    factor = float(penalty @ (values - data)) / squares[1]
    yield Prediction(
        data + factor * penalty,
        f"train_step passes on {factor:.6g} times the gradient of the regularization, and once "
        "that of the data term",
        1,
    )


def add_states(
    base: Vector,
    recorded: OptimizerGradient,
    states: Sequence[tuple[str, Floats]],
) -> Iterator[Prediction]:
    """Predicts a gradient to which something is added that the train step keeps.

    Args:
        base: float64, shape (P,). Gradient of the loss.
        recorded: The `OptimizerGradient`.
        states: Pairs (name, array) of what may be kept.
    """
    difference = recorded.values - base
    kept, names = np.zeros_like(base), list[str]()
    for part, shape in _parts(recorded.layout):
        alike: list[tuple[float, str, Vector]] = []
        for name, array in states:
            if array.shape == shape and array.dtype.kind == "f" and np.any(array):
                values = array.astype(np.float64).ravel()
                alike.append((float(np.linalg.norm(difference[part] - values)), name, values))
        if alike:
            _, name, kept[part] = min(alike, key=lambda one: one[0])
            names.append(name)
    if not names:
        return
    rest = f" and {len(names) - 1} more variables" if len(names) > 1 else ""
    yield Prediction(
        base + kept,
        f"train_step adds what it keeps in {names[0]}{rest} to the gradient: gradients of earlier "
        "steps, accumulated and not reset?",
    )


def _parts(layout: Layout) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """The slice and the shape of every variable."""
    for variable, shape in enumerate(layout.shapes):
        yield layout.slice(variable), shape


def _units(layout: Layout, *vectors: Vector) -> Iterator[tuple[Floats, ...]]:
    """Views of the parts of vectors that belong to one unit; a bias is one for all units."""
    for part, shape in _parts(layout):
        parts = [vector[part].reshape(-1, shape[-1] if len(shape) > 1 else 1) for vector in vectors]
        for unit in range(parts[0].shape[1]):
            yield tuple(values[:, unit] for values in parts)
