"""How a loss depends on variables through a part of its trace."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Passage:
    """How a loss depends on variables through a part of its trace.

    Args:
        through: bool, shape (V,). Whether it depends on the variable through the part.
        around: bool, shape (V,). Whether it depends on it on another way, too; None if
            that was not asked for.
        is_open: Whether it depends on the part at all.
    """

    through: np.ndarray
    around: np.ndarray | None
    is_open: bool
