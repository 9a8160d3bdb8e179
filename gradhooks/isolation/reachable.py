"""All objects that can be reached from some roots: what user code may read or write to.

The walk follows attributes and slots, members of containers, the variables that
functions close over and the globals that they name, partials, methods, and
attributes of the user's own classes. It changes nothing; `untouched` takes
snapshots of what it finds and restores them.
"""

import collections
import contextvars
import functools
import types

import numpy as np

from gradhooks.isolation import objects

# Keras' links between layers are many, and lead back to layers that were found already.
_SKIPPED = objects.COMPILED | {"_inbound_nodes", "_outbound_nodes"}
# In which attributes TensorFlow's wrappers of lists and dicts, which a `tf.Module` uses, hold them.
_WRAPPED_CONTAINERS = ("__wrapped__", "_storage")


class Place:
    """Where an object was found: what holds it, by which kind of link, under which key.

    Attributes:
        owner: The holder: an object, a container, a cell, a namespace.
        link: `"attribute"`, `"item"`, `"cell"`, `"name"` (of a module's
            namespace), `"class"` (an attribute of one), `"wrapped"` (by a
            partial or a static method) or `"other"`.
        key: Name or index there.
        above: The `Place` of the owner; None at the root.
        value: The object.
    """

    __slots__ = ("above", "key", "link", "owner", "value")

    def __init__(self, owner, link, key, above, value):
        self.owner = owner
        self.link = link
        self.key = key
        self.above = above
        self.value = value

    def __str__(self):
        parts, place = [], self
        while place is not None:
            parts.append(_spell(place))
            place = place.above
        return "".join(reversed(parts)).lstrip(".")


def _spell(place):
    """Returns the last part of a place's name, for example `".attribute"` or `"[0]"`."""
    if place.above is None:
        return str(place.key)
    if place.link in ("attribute", "class"):
        return f".{place.key}"
    if place.link == "item":
        return f"[{place.key!r}]"
    if place.link == "cell":
        return f".<{place.key} of a closure>"
    if place.link == "name":
        return f".<global {place.key}>"
    return ""


def find_places(roots, needs_every_place=lambda value: False):
    """Returns a `Place` for every object that can change or refers to others, each object once.

    Args:
        roots: dict of names to objects.
        needs_every_place: Function (object) -> whether all of its places are wanted, and not the
            first one alone.
    """
    places, seen = [], set()
    queue = collections.deque()
    for name, value in roots.items():
        queue.append(Place(None, "other", name, None, value))
    while queue:
        place = queue.popleft()
        value = place.value
        if id(value) in seen:
            if needs_every_place(value):
                places.append(place)
            continue
        seen.add(id(value))
        places.append(place)
        for link, owner, key, child in _children(value):
            if objects.is_plain(child):
                continue
            if id(child) not in seen or needs_every_place(child):
                queue.append(Place(owner, link, key, place, child))
    return places


def find_numbers(places):
    """Finds the Python numbers that objects hold, but for those that a library keeps to itself.

    Args:
        places: `Place`s of objects.

    Returns:
        dict to pairs (`Place` of the number, `Place` of its holder). The keys tell the numbers
        of one holder from those of another, as their places in words may not: the keys of a
        dict are all at one place.
    """
    numbers = {}
    for place in places:
        if isinstance(place.value, _CONTAINERS) and len(place.value) > _MOST_ENTRIES:
            continue
        for link, owner, key, child in _children(place.value):
            if not isinstance(child, (bool, int, float)) or link not in _NAMED_LINKS:
                continue
            is_state = link == "attribute" and (key.startswith("_") or isinstance(child, bool))
            if is_state and objects.is_library(objects.module_of(type(owner))):
                continue
            numbers[id(place.value), link, key] = Place(owner, link, key, place, child), place
    return numbers


# Containers with more entries hold data. A free choice: what tunes a loss fits into fewer.
_MOST_ENTRIES = 256
_CONTAINERS = (dict, list, tuple, collections.deque, set, frozenset)
# Links that lead to what has a name of its own.
_NAMED_LINKS = ("attribute", "item", "cell", "name", "class")


def _children(value):
    """Yields (link, owner, key, child)."""
    kind = type(value)
    is_of_tensorflow = objects.module_of(kind).startswith("tensorflow")
    if isinstance(value, (dict, list, tuple, collections.deque, set, frozenset)):
        yield from _children_of_container(value)
    elif isinstance(value, types.FunctionType):
        yield from _children_of_function(value)
    elif _is_callable_wrapper(value):
        yield from _children_of_wrapper(value)
    elif isinstance(value, type):
        for name, child in objects.own_class_attributes(value).items():
            yield "class", value, name, child
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for k, child in enumerate(value.ravel().tolist()):
            yield "item", value, k, child
    elif isinstance(value, contextvars.ContextVar):
        yield "other", value, None, objects.content_of(value)
    elif is_of_tensorflow and isinstance(vars(kind).get("python_function"), property):
        yield "other", value, None, value.python_function  # a `tf.function`
    if is_of_tensorflow:
        for name in _WRAPPED_CONTAINERS:
            child = getattr(value, name, None)
            if isinstance(child, (list, dict, tuple)):
                yield "other", value, None, child
    if objects.has_attributes(value):
        yield from _children_in_attributes(value)


def _children_of_container(value):
    if isinstance(value, dict):
        for key, child in list(value.items()):
            yield "item", value, key, child
        for key in list(value):
            yield "other", value, None, key
    elif isinstance(value, (list, tuple, collections.deque)):
        for k, child in enumerate(list(value)):
            yield "item", value, k, child
    else:
        for child in list(value):
            yield "other", value, None, child


def _children_of_function(function):
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        child = objects.content_of_cell(cell)
        if child is not objects.ABSENT:
            yield "cell", cell, name, child
    for child in (function.__defaults__, function.__kwdefaults__):
        yield "other", function, None, child
    for name, child in vars(function).items():
        yield "attribute", function, name, child
    for namespace, name in objects.named_globals(function):
        if name in namespace:
            yield "name", namespace, name, namespace[name]


_METHODS = (types.MethodType, types.BuiltinMethodType)
_PARTIALS = (functools.partial, functools.partialmethod)
_OTHER_WRAPPERS = (staticmethod, classmethod, property, functools.cached_property)


def _is_callable_wrapper(value):
    kinds = (*_METHODS, *_PARTIALS, *_OTHER_WRAPPERS)
    return isinstance(value, kinds) or objects.is_cached(value)


def _children_of_wrapper(value):
    """Yields what methods, partials, properties and the like are made of."""
    if isinstance(value, _METHODS):
        yield "other", value, None, value.__self__
        yield "other", value, None, getattr(value, "__func__", None)
    elif isinstance(value, _PARTIALS):
        yield "wrapped", value, None, value.func
        yield "other", value, None, value.args
        yield "other", value, None, value.keywords
    elif isinstance(value, (staticmethod, classmethod)):
        yield "wrapped", value, None, value.__func__
    elif objects.is_cached(value):
        yield "other", value, None, value.__wrapped__
    elif isinstance(value, property):
        for function in (value.fget, value.fset, value.fdel):
            yield "other", value, None, function
    else:
        yield "other", value, None, value.func


def _children_in_attributes(value):
    """Yields what an object's attributes and slots hold, and the user's classes that it is of."""
    held = objects.attributes(value) or {}
    for name, child in list(held.items()):
        if name not in _SKIPPED:
            yield "attribute", value, name, child
    for name in objects.slots(value):
        child = getattr(value, name, objects.ABSENT)
        if child is not objects.ABSENT:
            yield "attribute", value, name, child
    for kind in type(value).__mro__:
        if not objects.is_library(objects.module_of(kind)):
            yield "other", value, None, kind
