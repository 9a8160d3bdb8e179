"""What one `train_step` handed to the optimizer, read from the notes taken meanwhile."""

import dataclasses
from typing import Any

import numpy as np

from gradhooks.model import compiled_step
from gradhooks.reports.errors import RecordingError


@dataclasses.dataclass(frozen=True)
class Recording:
    """What one `train_step` handed to the optimizer.

    Args:
        gradient: float32, or float64 if any part is, shape (P,). Unscaled;
            summed where a variable was applied more than once; zero where no
            gradient came.
        received: bool, shape (V,). Whether a gradient came for the variable.
        applications: How often gradients were applied.
        optimizers: How many optimizers were used.
        loss: What the step returned as `"loss"`, for this batch alone; None if
            it returned no such number.
        scale: The factor by which the optimizer scales losses.
        is_scale_found: Whether the optimizer adapts that scale itself, and
            skips steps whose gradient is not finite.
        outdated: How the step that `fit` compiled before differs.
        shares: int, shape (V,). How many optimizers a gradient for the variable came to.
    """

    gradient: np.ndarray
    received: np.ndarray
    applications: int
    optimizers: int
    loss: float | None = None
    scale: float = 1.0
    is_scale_found: bool = False
    outdated: compiled_step.Outdated = compiled_step.UP_TO_DATE
    shares: np.ndarray | None = None

    @property
    def norm(self):
        """Euclidean norm of the gradient."""
        return float(np.linalg.norm(self.gradient.astype(np.float64, copy=False)))


@dataclasses.dataclass(frozen=True)
class Handover:
    """What optimizers were handed in one run of a step, apart from the numbers.

    Args:
        shares: For each trainable variable, how many optimizers a gradient came to.
        applications: How often gradients were applied.
        optimizers: The optimizers, each once.
        variables: The variables, known or not, for which a gradient came.
    """

    shares: list[int]
    applications: int
    optimizers: list[Any]
    variables: list[Any]

    def check(self):
        """Raises an error if there was nothing.

        Raises:
            RecordingError: In that case.
        """
        if not self.applications:
            raise RecordingError(
                "`train_step` handed nothing to `model.optimizer`; pass train_step=False if "
                "another optimizer is meant"
            )


def sort_by_variable(notes, variables):
    """Sorts the gradients that optimizers were handed by the variables that they belong to.

    Args:
        notes: Pairs (optimizer, pairs of gradient and variable), one for each
            application, see `optimizers.note_gradients`.
        variables: The trainable variables.

    Returns:
        A list with the list of gradients of each variable, and a `Handover`.
    """
    numbers = {id(variable): k for k, variable in enumerate(variables)}
    gradients = [[] for _ in variables]
    receivers = [set() for _ in variables]
    optimizers, handed = {}, []
    for optimizer, pairs in notes:
        optimizers[id(optimizer)] = optimizer
        for gradient, variable in pairs:
            if gradient is None:
                continue
            handed.append(variable)
            if id(variable) in numbers:
                gradients[numbers[id(variable)]].append(gradient)
                receivers[numbers[id(variable)]].add(id(optimizer))
    shares = [len(owners) for owners in receivers]
    handover = Handover(shares, len(notes), list(optimizers.values()), handed)
    return gradients, handover
