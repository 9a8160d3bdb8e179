"""A context in which user code may run: whatever it changes is as before when the context ends."""

import contextlib
import contextvars
import gc
import types

import numpy as np

from gradhooks.isolation import draws, exchanges, notes, private, reachable, threads


class Untouched:
    """Context in which user code may run: what it changed is as before when the context ends.

    Attributes and slots of all objects that the roots lead to, contents of
    containers and arrays, variables that functions close over, globals that
    they name, attributes of classes, random generators. Functions that cache
    their results, and iterators, are exchanged for others meanwhile, in the
    calling thread alone.

    Args:
        roots: dict of names to objects; the names appear in messages.

    Attributes:
        places: What the roots lead to, see `reachable`.
        drawn: Set of the functions of Python's and NumPy's global generators that the user's code has called, by name.
    """

    def __init__(self, roots):
        self.places = reachable.reachable(
            roots, lambda v: exchanges.is_exchanged(v) or private.is_container(v)
        )

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(threads.own_turn())
            self.drawn = set()
            own = stack.enter_context(draws.own_draws(self.drawn))
            self._exchanges = exchanges.exchange(stack, self.places, own)
            self._data = private.PrivateData(stack, self.places)
            # Of what stands there now, so that putting back does not remove it.
            noted = {
                id(place.value): place.value
                for place in self.places
                if id(place.value) not in self._data.containers
            }
            self._notes = [
                note
                for value in noted.values()
                for note in notes.notes_of(
                    value, self._data.names.get(id(value), set()) | reachable.COMPILED
                )
            ]
            hidden = [p for p in self.places if p.link == "other" and reachable.is_cached(p.value)]
            self._caches = [(place, place.value.cache_info()) for place in hidden]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        try:
            self.restore()
        finally:
            self._stack.close()

    def run(self, function):
        """Returns what a function returns; context variables that it sets are set for it alone."""
        return contextvars.copy_context().run(function)

    def restore(self):
        """Puts everything back as it was when the context began, which stays open."""
        for exchanged in [*self._exchanges, self._data]:
            exchanged.renew()
        for is_changed, put_back in self._notes:
            if is_changed():
                put_back()

    def leftovers(self, is_foreign):
        """Returns the places of what could not be put back.

        Caches that could not be exchanged are emptied. In objects that cannot
        be looked into, only what is foreign can be told.

        Args:
            is_foreign: Function that tells what must not be left, such as a tensor of a trace.
        """
        filled = [place for place, before in self._caches if place.value.cache_info() != before]
        for place in filled:
            place.value.cache_clear()
        opaque = [place for place in self.places if _is_opaque(place.value)]
        return [
            str(place)
            for place in filled + [p for p in opaque if any(map(is_foreign, _within(p.value)))]
        ]


def _is_opaque(value):
    is_known = isinstance(
        value, (list, tuple, dict, set, frozenset, np.ndarray, types.FunctionType, types.MethodType)
    )
    return (
        not is_known
        and gc.is_tracked(value)
        and not reachable.attributes(value)
        and not isinstance(value, type)
    )


def _within(value, depth=3):
    found = gc.get_referents(value)
    for _ in range(depth - 1):
        containers = [v for v in found if isinstance(v, (list, tuple, dict))]
        found = [inner for v in containers for inner in gc.get_referents(v)] + [
            v for v in found if not isinstance(v, (list, tuple, dict))
        ]
    return found
