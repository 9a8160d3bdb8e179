"""What an oracle remembers of earlier checks, as a record that can be stored."""

import dataclasses

import numpy as np

from gradhooks.checking.known_noise import KnownNoise
from gradhooks.checking.oracle import Oracle


@dataclasses.dataclass(frozen=True)
class Memory:
    """What an oracle remembers of the checks before one, and measures by.

    Not whether the code gives the same gradient in every trace: that is found anew.

    Args:
        is_first: Whether there were none.
        known_noise: The noise of the loss, if a check has found that it is rounding.
        gradient_noise: Standard deviation of a gradient entry between evaluations, a row per
            term with a number per variable; None if the gradient does not jitter.
    """

    is_first: bool = True
    known_noise: KnownNoise | None = None
    gradient_noise: tuple[tuple[float, ...], ...] | None = None


def capture(oracle: Oracle) -> Memory:
    """Returns what an oracle remembers before its next check."""
    rows = None
    if oracle.gradient_noise is not None:
        rows = tuple(tuple(map(float, row)) for row in oracle.gradient_noise)
    return Memory(oracle.gradient_evaluations == 0, oracle.known_noise, rows)


def restore(oracle: Oracle, memory: Memory) -> None:
    """Makes an oracle that has not been asked yet remember what another one did."""
    if not memory.is_first:
        oracle.gradient_evaluations += 1  # by which a check knows that it is not the first
    oracle.known_noise = memory.known_noise
    if memory.gradient_noise is not None:
        oracle.gradient_noise = np.asarray(memory.gradient_noise)
