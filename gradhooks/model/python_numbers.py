"""Python numbers that the user's code may read: compiled code keeps those of its trace."""

import math

import keras

from gradhooks.isolation import reachable
from gradhooks.model.compiled_loss import path_of

# How many changed numbers are named: a free choice, so that it stays one sentence.
_MOST_NAMED = 2
# Losses that differ by less are the same. A free choice that changes the cost alone.
_SAME = 1e-6


class PythonNumbers:
    """Notices that Python numbers have changed since a trace.

    Args:
        places: Everything that the model and the loss lead to, see `isolation.reachable`.
    """

    def __init__(self, places):
        found = reachable.find_numbers(places)
        # Of all that was found only what holds numbers, each holder once.
        self._holders = list({id(holder): holder for _, holder in found.values()}.values())
        self._traced = {key: place.value for key, (place, _) in found.items()}
        self._latest, self._loss = self._traced, None
        self._count, self._is_other = 0, False

    def recompute(self, compute, traced_loss):
        """Computes a loss anew if numbers have changed, but not each time that they do.

        Counters change at every step, and no loss reads them. The loss is
        computed at the first change, the second, the fourth and so on; once it
        was another one, at every change.

        Args:
            compute: Function that traces the loss anew and returns it, or None.
            traced_loss: The loss as it was traced.

        Returns:
            None, or the loss and a list of what has changed, in words.
        """
        found = reachable.find_numbers(self._holders)
        present = {key: place.value for key, (place, _) in found.items()}
        if not _differing(present, self._traced):
            return None
        if _differing(present, self._latest):
            self._latest, self._loss = present, None
            self._count += 1
            if self._is_other or self._count & (self._count - 1) == 0:
                self._loss = compute()
                self._is_other = self._loss is not None and not math.isclose(
                    self._loss, traced_loss, rel_tol=_SAME
                )
        if self._loss is None:
            return None
        words = []
        for key in _differing(present, self._traced)[:_MOST_NAMED]:
            label = _label(*found[key])
            words.append(f"{label} was {self._traced[key]:.6g} and is {present[key]:.6g}")
        return self._loss, words


def _label(place, holder):
    """Returns how to name a number for people: of a layer by the layer's path."""
    if not isinstance(holder.value, keras.layers.Layer):
        return str(place)
    return path_of(holder.value) + str(place).removeprefix(str(holder))


def _differing(one, other):
    """Returns the keys under which two dicts have different numbers."""
    return [key for key in one if key in other and one[key] != other[key]]
