"""What an oracle remembers of earlier checks, as a record that can be stored."""

import dataclasses
import math

import numpy as np

from gradhooks.checking.known_noise import KnownNoise
from gradhooks.checking.oracle import Oracle


@dataclasses.dataclass(frozen=True)
class StoredNoise:
    """A `KnownNoise` in Python numbers; its fields mean the same."""

    level: tuple[float, ...]
    base: tuple[float, ...]
    has_dense_kinks: bool
    kink_precision: float = math.inf
    checks: int = 1


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
    known_noise: StoredNoise | None = None
    gradient_noise: tuple[tuple[float, ...], ...] | None = None


def recall(oracle: Oracle) -> Memory:
    """Returns what an oracle remembers before its next check."""
    known, noise = oracle.known_noise, oracle.gradient_noise
    stored = rows = None
    if known is not None:
        stored = StoredNoise(
            tuple(map(float, known.level)),
            tuple(map(float, known.base)),
            bool(known.has_dense_kinks),
            float(known.kink_precision),
            int(known.checks),
        )
    if noise is not None:
        rows = tuple(tuple(map(float, row)) for row in noise)
    return Memory(oracle.gradient_evaluations == 0, stored, rows)


def remind(oracle: Oracle, memory: Memory) -> None:
    """Makes an oracle that has not been asked yet remember what another one did."""
    stored, rows = memory.known_noise, memory.gradient_noise
    if not memory.is_first:
        oracle.gradient_evaluations += 1
    if stored is not None:
        oracle.known_noise = KnownNoise(
            np.asarray(stored.level),
            np.asarray(stored.base),
            stored.has_dense_kinks,
            stored.kink_precision,
            stored.checks,
        )
    if rows is not None:
        oracle.gradient_noise = np.asarray(rows)
