"""Flat index <-> variable path and multi-index."""

import bisect
import collections
import dataclasses
import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import PerVariable, Vector
from gradhooks.numerics import vectors


@dataclasses.dataclass(frozen=True)
class Layout:
    """How variables are concatenated in the flat parameter vector.

    Args:
        paths: Path of each variable, in model order, unique.
        shapes: Shape of each variable, same order.

    Example:

    >>> layout = Layout(("dense/kernel", "dense/bias"), ((2, 3), (3,)))
    >>> layout.size, layout.locate(4), layout.label(7)
    (9, (0, (1, 1)), 'dense/bias[1]')
    """

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @functools.cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Number of parameters of each variable: int64, shape (V,)."""
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]
        return np.array(sizes, dtype=np.int64)

    @functools.cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each variable starts, and the number of parameters: int64, shape (V + 1,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return int(self.offsets[-1])

    def __len__(self) -> int:
        return len(self.paths)

    def slice(self, variable: int) -> slice:
        """Returns the slice of the flat vector that holds the variable with this number."""
        return slice(int(self.offsets[variable]), int(self.offsets[variable + 1]))

    def variable_of(self, position: int) -> int:
        """Returns the number of the variable that holds the flat index.

        Raises:
            IndexError: If the index lies outside the parameter vector.
        """
        if not 0 <= position < self.size:
            raise IndexError(
                "A flat index must lie inside the parameter vector. "
                f"Received: position={position}. Expected 0 <= position < {self.size}."
            )
        # An empty variable starts where the next one does, hence "right".
        return bisect.bisect_right(self.offsets, position) - 1

    def locate(self, position: int) -> tuple[int, tuple[int, ...]]:
        """Returns (number of the variable, multi-index in it) of a flat index.

        Raises:
            IndexError: If the index lies outside the parameter vector.
        """
        variable = self.variable_of(position)
        shape = self.shapes[variable]
        if not shape:
            return variable, ()
        index = np.unravel_index(position - int(self.offsets[variable]), shape)
        return variable, tuple(int(i) for i in index)

    def label(self, position: int) -> str:
        """Returns `path[i, j]` for a flat index, `path[()]` for a scalar."""
        variable, index = self.locate(position)
        return f"{self.paths[variable]}[{', '.join(map(str, index)) or '()'}]"

    def norms(self, flat: Vector) -> PerVariable:
        """Returns the Euclidean norm of each variable's part: float64, shape (V,)."""
        norms: list[float] = []
        for variable in range(len(self)):
            part = flat[self.slice(variable)].astype(np.float64, copy=False)
            norms.append(vectors.norm(part))
        return np.array(norms)


def unique_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Returns the paths, the repeated ones with `#2`, `#3`...: Keras does not promise unique ones.

    Example:

    >>> unique_paths(["a/w", "a/w", "b/w"])
    ('a/w', 'a/w#2', 'b/w')
    """
    counts: collections.Counter[str] = collections.Counter()
    unique: list[str] = []
    for path in paths:
        counts[path] += 1
        unique.append(path if counts[path] == 1 else f"{path}#{counts[path]}")
    return tuple(unique)
