"""A function whose gradient is right or wrong by construction, and defects to plant in it."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.checkers import losses

Loss = Callable[[NDArray[np.float64]], float]
Gradient = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss with a gradient, and where to check it.

    Args:
        kind: What it tries, such as `"steep"`.
        name: What it is, in a few words.
        loss: `loss(point) -> scalar`.
        gradient: `gradient(point) -> float64, shape (P,)`, right or wrong.
        point: float64, shape (P,).
        is_right: Whether the gradient is the derivative of the loss; on a kink,
            whether every entry lies between the one-sided slopes.
        is_kinked: Whether the loss has no derivative at the point.
        plain_loss: The loss without noise and rounding, which decides whether
            the gradient is right. Defaults to None: the loss itself.
    """

    kind: str
    name: str
    loss: Loss
    gradient: Gradient
    point: NDArray[np.float64]
    is_right: bool = True
    is_kinked: bool = False
    plain_loss: Loss | None = None


def add_jitter(loss: Loss, size: float) -> Loss:
    """Returns the loss with noise of this relative size.

    The noise is drawn from the bits of the point: the same point gives the same loss.
    """

    def jittered(point):
        digest = hashlib.blake2b(point.tobytes(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "big"))
        return loss(point) * (1 + size * rng.normal())

    return jittered


def with_float32_core(point):
    """Returns the logistic loss, computed in float32 and returned in float64."""
    scores = losses.INPUTS.astype(np.float32) @ point.astype(np.float32)
    labels = losses.LABELS.astype(np.float32)
    return float(np.mean(np.logaddexp(np.float32(0), scores) - labels * scores))


def scale(gradient: Gradient, factor: float, entries: Any = slice(None)) -> Gradient:
    """Returns the gradient with some entries, by default all, times a factor."""

    def scaled(point):
        changed = np.array(gradient(point))
        changed[entries] *= factor
        return changed

    return scaled


def spoil(case: Case, name: str, gradient: Gradient, kind: str | None = None) -> Case:
    """Returns the case with a wrong gradient."""
    return dataclasses.replace(
        case, name=name, gradient=gradient, kind=kind or case.kind, is_right=False
    )
