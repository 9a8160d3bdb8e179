"""A context in which user code may run: whatever it changes is restored when the context ends."""

import contextlib
import contextvars
import gc
import types

import numpy as np

from gradhooks.isolation import draws, exchanges, objects, private, reachable, snapshots, threads

_TRANSPARENT = (
    list,
    tuple,
    dict,
    set,
    frozenset,
    np.ndarray,
    types.FunctionType,
    types.MethodType,
    type,
)


class Untouched:
    """Context in which user code may run: what it changes is restored when the context ends.

    That is: attributes and slots of all objects that the roots lead to,
    contents of containers and arrays, variables that functions close over,
    globals that they name, attributes of classes, random generators. Functions
    that cache their results, and iterators, are exchanged for stand-ins
    meanwhile, in the calling thread alone.

    Args:
        roots: dict of names to objects; the names appear in messages.

    Attributes:
        places: Everything that the roots lead to, see `reachable`.
        global_draws: Set of the names of those functions of Python's and NumPy's
            global generators that the user's code has called.
    """

    def __init__(self, roots):
        self.places = reachable.find_places(roots, _needs_every_place)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(threads.take_turn())
            self.global_draws = set()
            generators = stack.enter_context(draws.copy_generators(self.global_draws))
            self._standins = exchanges.exchange(stack, self.places, generators)
            self._data = private.PrivateData(stack, self.places)
            # After the exchanges, so that restoring does not remove the stand-ins.
            self._snapshots = self._take_snapshots()
            self._caches = self._find_hidden_caches()
            self._stack = stack.pop_all()
        return self

    def _take_snapshots(self):
        """Returns snapshots of all objects of which there are no copies, each object once."""
        values = {}
        for place in self.places:
            if id(place.value) not in self._data.containers:
                values[id(place.value)] = place.value
        taken = []
        for value in values.values():
            names = self._data.names.get(id(value), set())
            taken += snapshots.take_snapshots(value, names | objects.COMPILED)
        return taken

    def _find_hidden_caches(self):
        """Returns pairs (place, statistics) of the cached functions that cannot be exchanged."""
        caches = []
        for place in self.places:
            if place.link == "other" and objects.is_cached(place.value):
                caches.append((place, place.value.cache_info()))
        return caches

    def __exit__(self, *exception):
        try:
            self.restore()
        finally:
            self._stack.close()

    def run(self, function):
        """Returns what a function returns; context variables that it sets are set for it alone."""
        return contextvars.copy_context().run(function)

    def restore(self):
        """Makes everything as it was when the context began; the context stays open."""
        for standin in self._standins:
            standin.renew()
        self._data.renew()
        for snapshot in self._snapshots:
            if snapshot.is_changed():
                snapshot.restore()

    def leftovers(self, is_foreign):
        """Returns the places, as text, of what could not be restored.

        Caches that could not be exchanged are emptied. Of the content of
        objects that cannot be looked into, only what is foreign is recognized.

        Args:
            is_foreign: Function (object) -> whether it must not be left, as a tensor of a trace.
        """
        filled = [place for place, before in self._caches if place.value.cache_info() != before]
        for place in filled:
            place.value.cache_clear()
        holding = []
        for place in self.places:
            if _is_opaque(place.value) and any(map(is_foreign, _referents(place.value))):
                holding.append(place)
        return [str(place) for place in filled + holding]


def _needs_every_place(value):
    return exchanges.needs_exchange(value) or private.is_container(value)


def _is_opaque(value):
    """Returns whether an object may hold others, but not in attributes or as a known container."""
    if isinstance(value, _TRANSPARENT) or not gc.is_tracked(value):
        return False
    return not objects.attributes(value)


def _referents(value, depth=3):
    """Returns what an object refers to, and what containers among that hold.

    Args:
        value: The object.
        depth: How many levels of containers to open; a free choice, since
            extension types hold objects directly or in a container of their own.
    """
    referents = gc.get_referents(value)
    for _ in range(depth - 1):
        opened, rest = [], []
        for referent in referents:
            if isinstance(referent, (list, tuple, dict)):
                opened += gc.get_referents(referent)
            else:
                rest.append(referent)
        referents = opened + rest
    return referents
