"""Which hypothesis about a train step explains what the optimizer receives, and its words.

Every hypothesis predicts a whole gradient. It is named only if the optimizer receives
that one, to within the precision of training.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import Vector
from gradhooks.reports.text import list_names
from gradhooks.verdicts import optimizer_gradient
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient

# A prediction must leave at most this fraction of a variable's difference. A free choice: rounding
# leaves less, unless the difference is hardly more than rounding itself.
_MOST_LEFT = 0.2
# A prediction with fitted numbers must be right for this many more entries. A free choice: each one
# agrees to four digits.
_SPARE = 3
_PAIRED = (
    "train_step compares every target with every output: shapes such as (N,) and (N, 1) are "
    "broadcast to (N, N)"
)
# What a step does with another loss, by the names of the variant, see `checking.oracle.Oracle`.
_VARIANTS = {
    "mode": (
        "train_step calls the model with {}, or without that argument, and so differentiates "
        "another loss than the one that is checked"
    ),
    "unweighted": "train_step leaves out the {}: pass sample_weight to compute_loss",
    "averaged": (
        "train_step multiplies the loss of every example by all of the {}: shapes such as (N,) "
        "and (N, 1) are broadcast to (N, N)"
    ),
    "paired": _PAIRED,
    "squeezed": _PAIRED,
    "unadded": "train_step leaves out what layers add to the loss (add_loss): add sum(self.losses)",
    "assigned": (
        "the forward pass assigns to {}: training differentiates at the assigned value, and not "
        "through the assignment"
    ),
    "redrawn": (
        "a recomputation in the backward pass (keras.remat, tf.recompute_grad) draws another mask "
        "than the forward pass"
    ),
}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the optimizer would receive if a hypothesis were true.

    Args:
        gradient: float64, shape (P,).
        sentence: The hypothesis in words.
        fitted: How many numbers were fitted to what the optimizer receives.
        factor: The factor by which the whole gradient is scaled; NaN if it is not.
        limit: The number to which something is clipped; NaN if nothing is.
        multiples: How often the data term and the regularization are in it; None if it is no
            such sum.
    """

    gradient: Vector
    sentence: str = ""
    fitted: int = 0
    factor: float = math.nan
    limit: float = math.nan
    multiples: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A hypothesis that holds.

    Args:
        sentence: The hypothesis in words.
        loss: The loss that the step computes if it is true; NaN if that is not known.
    """

    sentence: str
    loss: float = math.nan


def choose(
    explanations: Sequence[Explanation],
    is_returned: Callable[[float], bool],
) -> str:
    """Returns the words for the hypotheses that hold; all of them where nothing tells them apart.

    Args:
        explanations: Each an `Explanation`.
        is_returned: Whether a loss is the one that the step returns, where that tells something.
    """
    told = [e for e in explanations if is_returned(e.loss)] or explanations
    sentences = list(dict.fromkeys(e.sentence for e in told))
    if len(sentences) < 2:
        return "".join(sentences)
    number = "both" if len(sentences) == 2 else "all of them"
    return (
        f"either {'; or '.join(sentences)}: {number} give the gradient that the optimizer receives"
    )


def predict_sharing(
    recorded: OptimizerGradient,
    shares: NDArray[np.integer[Any]],
) -> Prediction | None:
    """Predicts that each of several optimizers receives the whole gradient of its variables.

    Args:
        recorded: The `OptimizerGradient`, summed over the optimizers.
        shares: int, shape (V,). How many optimizers a gradient for the variable came to.

    Returns:
        The `Prediction`; None if no variable is shared, or one is left out.
    """
    shared: list[int] = np.flatnonzero(shares > 1).tolist()
    if not shared or not shares.all():
        return None
    gradient = recorded.analytic.copy()
    for variable in shared:
        gradient[recorded.layout.slice(variable)] *= shares[variable]
    paths = [recorded.layout.paths[variable] for variable in shared]
    sentence = (
        f"train_step hands the whole gradient of {list_names(paths)} to {shares.max()} optimizers, "
        "each of which applies it: a second optimizer moves the same variables again"
    )
    return Prediction(gradient, sentence)


def explains(
    prediction: Prediction | None,
    recorded: OptimizerGradient,
    failed: Collection[int],
    dtype: str,
) -> bool:
    """Whether the optimizer receives what a hypothesis predicts.

    Args:
        prediction: The `Prediction`; None explains nothing.
        recorded: The `OptimizerGradient`.
        failed: Numbers of the variables whose gradient is wrong.
        dtype: Name of the dtype that training computes in.
    """
    if prediction is None or not np.isfinite(prediction.gradient).all():
        return False
    values = recorded.values.astype(np.float64, copy=False)
    layout = recorded.layout
    entries = sum(np.count_nonzero(values[layout.slice(v)]) for v in failed)
    if prediction.fitted and entries < prediction.fitted + _SPARE:
        return False
    predicted = OptimizerGradient(layout, prediction.gradient, values, recorded.is_connected)
    if any(predicted.distances[v] > _MOST_LEFT * recorded.distances[v] for v in failed):
        return False
    return not optimizer_gradient.find_disagreeing(predicted, dtype)


def describe_variant(subjects: Mapping[str, str]) -> str:
    """Returns a sentence about another loss that a step differentiates.

    Args:
        subjects: What is left out, assigned to or called with, by the names of the variant.
    """
    return "; ".join(_VARIANTS[name].format(subject) for name, subject in subjects.items())


def describe_radius(radius: float) -> str:
    """Returns a sentence about the gradient at a point that lies so far along the gradient."""
    words = "the optimizer receives the gradient at another point, which lies"
    if radius < 0:
        return f"{words} {-radius:.2g} against the gradient: a look-ahead"
    return f"{words} {radius:.2g} along the gradient: sharpness-aware minimization (SAM)"


def describe_varying_factor(factor: float, factor_there: float) -> str:
    """Returns a sentence about a factor that is another one at another point."""
    return (
        f"train_step passes on {factor:.4g} times the gradient, for every variable, and "
        f"{factor_there:.4g} times at another point"
    )


def describe_loss_scale(limit: float, scale: float) -> str:
    """Returns a clause about a gradient that is clipped to a limit while a loss scale is in it."""
    return (
        f"; that happens before the loss scale {scale:g} is divided out: {limit:.4g} is "
        f"{limit * scale:.4g} divided by it"
    )


def is_round(number: float) -> bool:
    """Whether a number has at most two digits that are not zero."""
    return number > 0 and math.isclose(number, float(f"{number:.1e}"), rel_tol=1e-3)
