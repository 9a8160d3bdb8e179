"""Flat index <-> variable path and multi-index."""

import bisect
import collections
import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """How variables lie one behind the other in the flat parameter vector.

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
    def sizes(self):
        """int64, shape (V,): number of parameters of each variable."""
        return np.array(
            [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes], dtype=np.int64
        )

    @functools.cached_property
    def offsets(self):
        """int64, shape (V + 1,): where each variable starts; the last entry is the number of parameters."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def size(self):
        """Number of parameters."""
        return int(self.offsets[-1])

    def __len__(self):
        return len(self.paths)

    def slice(self, variable):
        """Returns the slice of the flat vector that holds the variable with this number."""
        return slice(int(self.offsets[variable]), int(self.offsets[variable + 1]))

    def variable_of(self, position):
        """Returns the number of the variable that holds the flat index."""
        if not 0 <= position < self.size:
            raise IndexError(
                "A flat index must lie inside the parameter vector. "
                f"Received: position={position}. Expected 0 <= position < {self.size}."
            )
        # Empty variables share their offset with the next one, hence "right".
        return bisect.bisect_right(self.offsets, position) - 1

    def locate(self, position):
        """Returns (number of the variable, multi-index in it) of a flat index."""
        variable = self.variable_of(position)
        index = np.unravel_index(position - self.offsets[variable], self.shapes[variable] or (1,))
        return variable, tuple(int(i) for i in index) if self.shapes[variable] else ()

    def label(self, position):
        """Returns `path[i, j]` for a flat index."""
        variable, index = self.locate(position)
        return f"{self.paths[variable]}[{', '.join(map(str, index))}]"

    def norms(self, flat):
        """Returns the Euclidean norm of each variable's part of a flat vector: float64, shape (V,)."""
        parts = (flat[self.slice(v)] for v in range(len(self)))
        return np.array([np.linalg.norm(part.astype(np.float64, copy=False)) for part in parts])


def unique_paths(paths):
    """Returns the paths with `#2`, `#3`... behind repeated ones: Keras does not promise that they differ.

    Example:

    >>> unique_paths(["a/w", "a/w", "b/w"])
    ('a/w', 'a/w#2', 'b/w')
    """
    seen = collections.Counter()
    unique = []
    for path in paths:
        seen[path] += 1
        unique.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return tuple(unique)
