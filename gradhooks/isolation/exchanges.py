"""What keeps results, or moves on, where nobody can put it back: exchanged for something else meanwhile.

Each stands where the original stands, in an attribute, a closure, a container or
a namespace, and is the original for every thread but the checking one.
"""

import copy
import functools
import io
import itertools
import types

from gradhooks.isolation import draws, reachable, threads

# What can be copied where it stands, so that the original is not advanced.
_COPIED = (itertools.count, itertools.cycle, type(iter([])), type(iter(())), type(iter(range(0))))
_ADVANCING = (types.GeneratorType, types.AsyncGeneratorType, io.IOBase, map, filter, zip, enumerate)


class CannotRestoreError(RuntimeError):
    """User code would change, or has changed, something that cannot be put back."""


def is_exchanged(value):
    """Whether an object is exchanged wherever it stands."""
    return (
        reachable.is_cached(value)
        or isinstance(value, _COPIED + _ADVANCING)
        or draws.is_global_draw(value)
    )


def exchange(stack, places, own):
    """Exchanges what cannot be put back until a stack closes.

    Args:
        stack: A `contextlib.ExitStack`.
        places: All places, see `reachable`.
        own: Random generators of the check's own, by the ids of those that they are copies of.

    Returns:
        What stands there now; `renew()` puts it into the state of the originals.
    """
    made = {}
    for place in places:
        if place.link != "other" and is_exchanged(place.value):
            if id(place.value) not in made:
                made[id(place.value)] = _made(place, own)
            _put(stack, place, made[id(place.value)])
    return list(made.values())


def _made(place, own):
    value = place.value
    if reachable.is_cached(value):
        return _Cached(value)
    if isinstance(value, _COPIED):
        return _Advanced(value, lambda: copy.copy(value))
    if isinstance(value, _ADVANCING):
        return _Advanced(value, lambda: _Refusing(value, place))
    return _Drawing(value, getattr(own[id(value.__self__)], value.__name__))


def _put(stack, place, exchanged):
    """Puts something in the place of an object; where other threads look, too, it answers by thread itself."""
    owner, key, value = place.owner, place.key, place.value
    if place.link == "attribute" and isinstance(owner, types.FunctionType):
        owner.__dict__[key] = exchanged
        stack.callback(owner.__dict__.__setitem__, key, value)
    elif place.link == "attribute":
        threads.Patcher(stack)(owner, key, exchanged)
    elif place.link == "class":
        type.__setattr__(owner, key, exchanged)
        stack.callback(type.__setattr__, owner, key, value)
    elif place.link == "cell":
        owner.cell_contents = exchanged
        stack.callback(setattr, owner, "cell_contents", value)
    elif isinstance(owner, (dict, list)):
        owner[key] = exchanged
        stack.callback(owner.__setitem__, key, value)
    elif place.above is not None:
        # What cannot be written to is exchanged itself.
        rebuilt = _rebuilt(owner, key, exchanged)
        if rebuilt is not None:
            _put(stack, place.above, rebuilt)


def _rebuilt(owner, key, exchanged):
    """Something like a partial, a static method or a tuple with something else in it; None if it is none of them."""
    if isinstance(owner, (staticmethod, classmethod)):
        return type(owner)(exchanged)
    if isinstance(owner, functools.partial):
        return functools.partial(exchanged, *owner.args, **owner.keywords)
    if isinstance(owner, tuple):
        members = [*owner[:key], exchanged, *owner[key + 1 :]]
        return owner._make(members) if hasattr(owner, "_make") else tuple(members)
    return None


class _Cached:
    """A function with a cache for every other thread, and one with an empty cache for the checking one."""

    def __init__(self, original):
        self._original = original
        functools.update_wrapper(self, original)
        self.renew()

    def renew(self):
        """Forgets what the checking thread has cached."""
        self._own = functools.lru_cache(**self._original.cache_parameters())(
            self._original.__wrapped__
        )

    def __call__(self, *args, **kwargs):
        return (self._own if threads.is_checking() else self._original)(*args, **kwargs)

    def __get__(self, owner, kind=None):
        return self if owner is None else types.MethodType(self, owner)

    def __getattr__(self, name):
        return getattr(self.__dict__["_own" if threads.is_checking() else "_original"], name)


class _Drawing:
    """A method of a global generator for every other thread, and of a copy of it for the checking one."""

    def __init__(self, original, own):
        self._asked = threads.by_thread(original, own)

    def renew(self):
        """Goes on where it is, as draws by way of the module do."""

    def __call__(self, *args, **kwargs):
        return self._asked(*args, **kwargs)


class _Advanced:
    """An iterator for every other thread, and a copy of it, or one that refuses, for the checking one."""

    def __init__(self, original, make):
        self._original, self._make = original, make
        self.renew()

    def renew(self):
        """Begins where the original stands."""
        self._own = self._make()

    def _chosen(self):
        return self._own if threads.is_checking() else self._original

    def __iter__(self):
        return iter(self._chosen())

    def __next__(self):
        return next(self._chosen())

    def __getattr__(self, name):
        return getattr(self.__dict__["_own" if threads.is_checking() else "_original"], name)


class _Refusing:
    """Stands for what cannot be put back once it has been advanced."""

    def __init__(self, original, place):
        self._original, self._place = original, place

    def _refuse(self):
        raise CannotRestoreError(
            "The model's code advances something that a check could not put back, so it was not run. "
            f"Received: {self._place}, a {type(self._original).__name__}. Expected state in attributes, containers "
            "or variables. Try an index and a list, or a keras.random.SeedGenerator."
        )

    def __iter__(self):
        return self

    def __next__(self):
        self._refuse()

    def __getattr__(self, name):
        self._refuse()
