"""Stand-ins for what caches results or advances, and cannot be restored.

A stand-in replaces the original wherever that was found, in an attribute, a
closure, a container or a namespace. For the checking thread it has a state of
its own, for every other thread it is the original.
"""

import copy
import functools
import io
import itertools
import types

from gradhooks.isolation import draws, objects, threads

# Iterators that can be copied in the state in which they are.
_COPYABLE = (
    itertools.count,
    itertools.cycle,
    type(iter([])),
    type(iter(())),
    type(iter(range(0))),
)
# Iterators that cannot.
_ADVANCING = (types.GeneratorType, types.AsyncGeneratorType, io.IOBase, map, filter, zip, enumerate)


class CannotRestoreError(RuntimeError):
    """User code would change, or has changed, something that cannot be restored."""


def needs_exchange(value):
    """Returns whether an object is exchanged wherever it is found."""
    is_iterator = isinstance(value, _COPYABLE + _ADVANCING)
    return objects.is_cached(value) or is_iterator or draws.is_global_draw(value)


def exchange(stack, places, copies):
    """Exchanges what cannot be restored for stand-ins, until a stack closes.

    Args:
        stack: A `contextlib.ExitStack`.
        places: All places, see `reachable`.
        copies: Copies of the global random generators, by the ids of the originals.

    Returns:
        List of the stand-ins; `renew()` brings one into the state of its original.
    """
    standins = {}
    for place in places:
        if place.link == "other" or not needs_exchange(place.value):
            continue
        if id(place.value) not in standins:
            standins[id(place.value)] = _make_standin(place, copies)
        _replace(stack, place, standins[id(place.value)])
    return list(standins.values())


def _make_standin(place, copies):
    value = place.value
    if objects.is_cached(value):
        return _OwnCache(value)
    if isinstance(value, _COPYABLE):
        return _OwnIterator(value, lambda: copy.copy(value))
    if isinstance(value, _ADVANCING):
        return _OwnIterator(value, lambda: _Refusal(value, place))
    return _OwnDraw(value, getattr(copies[id(value.__self__)], value.__name__))


def _replace(stack, place, standin):
    """Puts a stand-in where an object was found, until a stack closes."""
    owner, key, value = place.owner, place.key, place.value
    if place.link == "attribute" and isinstance(owner, types.FunctionType):
        owner.__dict__[key] = standin
        stack.callback(owner.__dict__.__setitem__, key, value)
    elif place.link == "attribute":
        threads.Patcher(stack)(owner, key, standin)
    elif place.link == "class":
        type.__setattr__(owner, key, standin)
        stack.callback(type.__setattr__, owner, key, value)
    elif place.link == "cell":
        owner.cell_contents = standin
        stack.callback(setattr, owner, "cell_contents", value)
    elif isinstance(owner, (dict, list)):
        owner[key] = standin
        stack.callback(owner.__setitem__, key, value)
    elif place.above is not None:
        # The owner cannot be written to, so that it is exchanged itself.
        rebuilt = _rebuild(owner, key, standin)
        if rebuilt is not None:
            _replace(stack, place.above, rebuilt)


def _rebuild(owner, key, standin):
    """Returns a static method, partial or tuple with another member; None if it is none of them."""
    if isinstance(owner, (staticmethod, classmethod)):
        return type(owner)(standin)
    if isinstance(owner, functools.partial):
        return functools.partial(standin, *owner.args, **owner.keywords)
    if isinstance(owner, tuple):
        members = [*owner[:key], standin, *owner[key + 1 :]]
        return owner._make(members) if hasattr(owner, "_make") else tuple(members)
    return None


class _OwnCache:
    """A cached function, with an own and empty cache for the checking thread."""

    def __init__(self, original):
        self._original = original
        functools.update_wrapper(self, original)
        self.renew()

    def renew(self):
        """Forgets what the checking thread has cached."""
        make_cache = functools.lru_cache(**self._original.cache_parameters())
        self._own = make_cache(self._original.__wrapped__)

    def __call__(self, *args, **kwargs):
        function = self._own if threads.is_checking() else self._original
        return function(*args, **kwargs)

    def __get__(self, owner, kind=None):
        return self if owner is None else types.MethodType(self, owner)

    def __getattr__(self, name):
        return getattr(self.__dict__["_own" if threads.is_checking() else "_original"], name)


class _OwnDraw:
    """A method of a global generator, and of its copy for the checking thread."""

    def __init__(self, original, own):
        self._draw = threads.choose_by_thread(original, own)

    def renew(self):
        """Does nothing: the copy goes on from where it is, as for draws by way of the module."""

    def __call__(self, *args, **kwargs):
        return self._draw(*args, **kwargs)


class _OwnIterator:
    """An iterator for every other thread, and a copy, or one that refuses, for the checking one."""

    def __init__(self, original, make):
        self._original = original
        self._make = make
        self.renew()

    def renew(self):
        """Begins where the original is."""
        self._own = self._make()

    def _current(self):
        return self._own if threads.is_checking() else self._original

    def __iter__(self):
        return iter(self._current())

    def __next__(self):
        return next(self._current())

    def __getattr__(self, name):
        return getattr(self.__dict__["_own" if threads.is_checking() else "_original"], name)


class _Refusal:
    """Stands for what cannot be restored once it has been advanced: any use raises an error."""

    def __init__(self, original, place):
        self._original = original
        self._place = place

    def _refuse(self):
        raise CannotRestoreError(
            "The model's code advances something that a check could not restore, so it was not "
            f"run. Received: {self._place}, a {type(self._original).__name__}. Expected state in "
            "attributes, containers or variables. Try an index and a list, or a "
            "keras.random.SeedGenerator."
        )

    def __iter__(self):
        return self

    def __next__(self):
        self._refuse()

    def __getattr__(self, name):
        self._refuse()
