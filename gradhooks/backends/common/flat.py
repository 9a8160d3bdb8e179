"""The parameters of a model as one flat vector, and results that are computed from it once."""

import functools
import math
import weakref


def split(flat, shapes):
    """Splits a vector into one view per shape.

    Args:
        flat: Array of shape (P,), whose entries are those of the parts, end to end.
        shapes: The shapes of the parts, P entries in all.

    Returns:
        List of views of `flat`, in the order of `shapes`.
    """
    parts = []
    start = 0
    for shape in shapes:
        stop = start + math.prod(shape)
        parts.append(flat[start:stop].reshape(shape))
        start = stop
    return parts


class Cache:
    """Keeps what was computed from one array for as long as that array lives.

    A check evaluates the loss around one point a dozen times, and what depends
    on the point alone is computed once. Only the results of the array of the
    last call are kept, and none of an array that can be written to.

    Args:
        on_end: Function without arguments, called when the array has been
            collected and its results are dropped.
    """

    def __init__(self, on_end=lambda: None):
        self._owner = None
        self._results = {}
        self._on_end = on_end

    def __len__(self):
        return len(self._results)

    def get(self, flat, name, compute):
        """Returns a result that belongs to an array, and computes it if there is none.

        Args:
            flat: The array.
            name: Key of the result among those of the array.
            compute: Function without arguments that returns the result. The
                result must not refer to `flat`, or the array would never be
                collected.
        """
        if self._owner is None or self._owner() is not flat:
            # Results are as large as the model, so those of the former array go first.
            self._results.clear()
            self._owner = weakref.ref(flat, functools.partial(_end, self._results, self._on_end))
        if flat.flags.writeable:
            return compute()
        if name not in self._results:
            self._results[name] = compute()
        return self._results[name]


def _end(results, on_end, _):
    results.clear()
    on_end()
