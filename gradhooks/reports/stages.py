"""What a check is doing, for those who wait for it."""

import enum
from collections.abc import Callable
from typing import TypeAlias


class Stage(enum.Enum):
    """A part of a check, in their order; the value says in words what is done.

    Example:

    >>> print(Stage.NOISE)
    measuring the noise of the loss (3 of 5)
    """

    TRACING = "tracing the model in float64"
    GRADIENT = "computing its gradient"
    NOISE = "measuring the noise of the loss"
    PARAMETERS = "measuring derivatives"
    OPTIMIZER = "recording what the optimizer receives"
    # Only after a failure.
    CULPRIT = "searching for the place of the error"

    @property
    def number(self) -> int:
        """Its place in the order, from 1."""
        return list(Stage).index(self) + 1

    @property
    def count(self) -> int:
        """How many stages the check has, as far as is known by now."""
        return max(self.number, Stage.OPTIMIZER.number)

    def __str__(self) -> str:
        return f"{self.value} ({self.number} of {self.count})"


# Is told of every stage when it begins.
StageObserver: TypeAlias = Callable[[Stage], object]


def tell_nobody(stage: Stage) -> None:
    """Observes nothing."""
