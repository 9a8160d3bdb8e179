"""What a train step may add up: terms of the loss, weights, or what it keeps from earlier steps.

Each function predicts what the optimizer receives; multiples that it does not know it
takes from what is received.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from gradhooks._types import Floats, Vector
from gradhooks.verdicts import causes
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient
from gradhooks.verdicts.step_causes import Prediction
from gradhooks.verdicts.step_changes import list_parts

# Relative accuracy to which factors are recognized. A free choice, as in `optimizer_diagnosis`.
_ACCURACY = 1e-2
# What is said of a step without regularization, whatever else it does.
DROPPED = "train_step drops the regularization"


def mix_terms(
    total: Vector,
    data: Vector,
    recorded: OptimizerGradient,
    batch_size: int | None,
    replicas: int = 1,
) -> Iterator[Prediction]:
    """Predicts multiples of the data term and of the regularization, which are not the same.

    Args:
        total: float64, shape (P,). Gradient of the loss.
        data: float64, shape (P,). Gradient without the regularization.
        recorded: The `OptimizerGradient`.
        batch_size: Number of examples; None if there is no one number.
        replicas: Number of replicas whose gradients the optimizer adds up.
    """
    penalty, values = total - data, recorded.values
    squares = float(data @ data), float(penalty @ penalty)
    if not all(squares):
        return
    words = f"{DROPPED}: the optimizer receives the gradient of the data term alone"
    yield Prediction(data, words, multiples=(1.0, 0.0))
    words = (
        "train_step adds the regularization twice: the loss that compute_loss returns has it "
        "already"
    )
    yield Prediction(data + 2 * penalty, words, multiples=(1.0, 2.0))
    known = causes.find_replica_causes(replicas)
    factor = float(data @ (values - penalty)) / squares[0]
    words = (
        f"train_step passes on {factor:.6g} times the gradient of the data term, and that of the "
        f"regularization once{causes.explain_factor(factor, known, batch_size, _ACCURACY)}"
    )
    yield Prediction(factor * data + penalty, words, 1, multiples=(factor, 1.0))
    factor = float(penalty @ (values - data)) / squares[1]
    has_words = not known and np.isclose(factor, (0, 2), rtol=_ACCURACY, atol=_ACCURACY).any()
    if not has_words:
        words = (
            f"train_step passes on {factor:.6g} times the gradient of the regularization, and "
            f"once that of the data term{_explain_multiple(factor, replicas)}"
        )
        yield Prediction(data + factor * penalty, words, 1, multiples=(1.0, factor))


def _explain_multiple(factor: float, replicas: int) -> str:
    """Returns why the regularization may be a multiple of itself; empty if that is not known."""
    if replicas > 1 and np.isclose(factor, replicas, rtol=_ACCURACY):
        return f": each of the {replicas} replicas adds all of it?"
    return ""


def add_decay(
    base: Vector,
    recorded: OptimizerGradient,
    point: Vector,
    failed: Collection[int],
) -> Prediction | None:
    """Predicts a gradient to which a positive multiple of the weights is added.

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
    rate = float(weights @ (recorded.values - base)) / square if square else 0.0
    if rate <= 0:
        return None
    sentence = (
        f"train_step adds {rate:.4g} times the weights to the gradient: a weight decay that the "
        "loss does not have"
    )
    return Prediction(base + rate * weights, sentence, 1)


def add_states(
    base: Vector,
    recorded: OptimizerGradient,
    states: Sequence[tuple[str, Floats]],
) -> Iterator[Prediction]:
    """Predicts a gradient to which something is added that the train step keeps.

    First what it keeps as it is, then any multiples of the gradient and of that.

    Args:
        base: float64, shape (P,). Gradient of the loss.
        recorded: The `OptimizerGradient`.
        states: Pairs (name, array) of what may be kept.
    """
    values = recorded.values.astype(np.float64, copy=False)
    kept, names = np.zeros_like(base), list[str]()
    for part, shape in list_parts(recorded.layout):
        alike: list[tuple[float, str, Vector]] = []
        for name, array in states:
            if array.shape == shape and array.dtype.kind == "f" and np.any(array):
                flat = array.astype(np.float64).ravel()
                distance = _fit(values[part], base[part], flat)[1]
                alike.append((distance, name, flat))
        if alike:
            _, name, kept[part] = min(alike, key=lambda one: one[0])
            names.append(name)
    if not names:
        return
    rest = f" and {len(names) - 1} more variables" if len(names) > 1 else ""
    label = f"what it keeps in {names[0]}{rest}"
    accumulated = "gradients of earlier steps, accumulated and not reset?"
    yield Prediction(base + kept, f"train_step adds {label} to the gradient: {accumulated}")
    (own, earlier), _ = _fit(values, base, kept)
    if np.allclose((own, earlier), 1, rtol=_ACCURACY):
        return
    words = f"train_step adds {earlier:.4g} times {label} to the gradient: momentum?"
    if np.isclose(own, earlier, rtol=_ACCURACY):
        words = (
            f"train_step passes on {own:.4g} times the sum of the gradient and of {label}: "
            f"{accumulated}"
        )
    elif not np.isclose(own, 1, rtol=_ACCURACY):
        words = (
            f"train_step passes on {own:.4g} times the gradient and {earlier:.4g} times {label}: "
            "an average over steps?"
        )
    yield Prediction(own * base + earlier * kept, words, 2)


def _fit(values: Vector, base: Vector, kept: Vector) -> tuple[Vector, float]:
    """Returns the multiples of two vectors that come nearest to a third, and what is left."""
    columns = np.stack([base, kept], axis=1)
    multiples = np.linalg.lstsq(columns, values, rcond=None)[0].astype(np.float64, copy=False)
    return multiples, float(np.linalg.norm(values - columns @ multiples))
