"""Everything that some objects lead to: what user code may read, and may write to while it is traced.

Attributes and slots, members of containers, what functions close over and which
globals they name, partials, methods, attributes of classes of the user's own.
Nothing here is changed; `untouched` makes a note of it all and puts it back.
"""

import collections
import contextvars
import functools
import random
import sys
import types

import numpy as np

# Packages whose classes and modules hold nothing of the user's. Instances of Keras' classes do:
# layers above all.
_LIBRARIES = frozenset(
    (
        "keras",
        "tensorflow",
        "numpy",
        "jax",
        "jaxlib",
        "torch",
        "gradhooks",
        "tensorboard",
        "builtins",
    )
)
# Standard modules whose instances are containers. Threads, locks, queues and files live their own
# lives.
_CONTAINERS = frozenset(
    ("collections", "types", "functools", "weakref", "argparse", "_thread", "_threading_local")
)
# What feeds the training is read by other threads, and no model computes with it.
_FEEDS = (
    "keras.src.trainers.data_adapters",
    "keras.src.trainers.epoch_iterator",
    "keras.src.callbacks",
)
_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    slice,
    type(...),
    types.ModuleType,
    types.CodeType,
    np.generic,
    np.dtype,
)
# What Keras compiles for `fit`, `evaluate` and `predict`: no trace makes them, and other threads
# may at any moment.
COMPILED = frozenset(("train_function", "test_function", "predict_function"))
# These lead back to what was seen already, and are many.
_SKIPPED = COMPILED | {"_inbound_nodes", "_outbound_nodes"}
_CACHED = type(functools.lru_cache(lambda: None))
# A larger array is not copied: user code that computes with it hardly writes to it.
LARGE = 2**28
ABSENT = object()


class Place:
    """Where an object stands: what holds it, by which kind of link, under which key.

    Attributes:
        owner: The holder: an object, a container, a cell, a namespace.
        link: `"attribute"`, `"item"`, `"cell"`, `"name"` (of a module's namespace), `"class"` (an attribute of one),
            `"wrapped"` (by a partial or a static method) or `"other"`.
        key: Name or index there.
        above: The `Place` of the owner; None at the root.
        value: What stands there.
    """

    __slots__ = ("above", "key", "link", "owner", "value")

    def __init__(self, owner, link, key, above, value):
        self.owner, self.link, self.key, self.above, self.value = owner, link, key, above, value

    def __str__(self):
        parts, place = [], self
        while place is not None:
            parts.append(_spelled(place))
            place = place.above
        return "".join(reversed(parts)).lstrip(".")


def _spelled(place):
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


def reachable(roots, is_everywhere=lambda value: False):
    """Returns a `Place` for every object that leads on or can change, each object once.

    Args:
        roots: dict of names to objects.
        is_everywhere: Function that tells of which objects every place is wanted.
    """
    found, seen = [], set()
    queue = collections.deque(
        Place(None, "other", name, None, value) for name, value in roots.items()
    )
    while queue:
        place = queue.popleft()
        value = place.value
        if id(value) in seen:
            if is_everywhere(value):
                found.append(place)
            continue
        seen.add(id(value))
        found.append(place)
        for link, owner, key, child in _children(value):
            if not isinstance(child, _PLAIN) and (id(child) not in seen or is_everywhere(child)):
                queue.append(Place(owner, link, key, place, child))
    return found


def is_library(module):
    """Whether a module, by name, belongs to Python or to a framework."""
    root = (module or "builtins").partition(".")[0]
    return root in _LIBRARIES or root in sys.stdlib_module_names


def module_of(kind):
    """Returns the name of the module that a class says it is from."""
    name = getattr(kind, "__module__", None)
    return name if isinstance(name, str) else "builtins"


def content_of(variable):
    """Returns the value of a `contextvars.ContextVar`; `ABSENT` if it has none."""
    try:
        return variable.get()
    except LookupError:
        return ABSENT


def has_attributes(value):
    """Whether an object's attributes are the user's, or lead to what is."""
    if isinstance(value, (type, types.ModuleType, types.FunctionType, random.Random)) or is_feed(
        value
    ):
        return False
    module = module_of(type(value))
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names:
        return root in _CONTAINERS and hasattr(value, "__dict__")
    return root == "keras" or not is_library(module)


def is_feed(value):
    """Whether an object feeds training with data, or watches it."""
    return any(module_of(c).startswith(_FEEDS) for c in type(value).__mro__)


def is_plain(value):
    """Whether an object cannot change and leads nowhere."""
    return isinstance(value, _PLAIN)


def is_cached(value):
    """Whether a value is a function of `functools.lru_cache` or `functools.cache`."""
    return isinstance(value, _CACHED)


def attributes(value):
    """Returns the `__dict__` in which an object holds its attributes, that of this thread for a `threading.local`."""
    held = getattr(value, "__dict__", None)
    return held if isinstance(held, dict) else None


def slots(value):
    """Returns the names of an object's slots."""
    names = []
    for kind in type(value).__mro__:
        if is_library(module_of(kind)):
            continue
        own = vars(kind).get("__slots__", ())
        for name in (own,) if isinstance(own, str) else tuple(own):
            if name not in ("__dict__", "__weakref__"):
                is_private = name.startswith("__") and not name.endswith("__")
                names.append(f"_{kind.__name__.lstrip('_')}{name}" if is_private else name)
    return names


def named_globals(function):
    """Returns pairs (namespace, name) of the globals that a function of the user's may read or write."""
    namespace = function.__globals__
    if is_library(namespace.get("__name__")):
        return []
    names, queue = [], [function.__code__]
    while queue:
        code = queue.pop()
        names += code.co_names
        queue += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    names = list(dict.fromkeys(names))
    if _is_installed(namespace):
        # Its caches and flags, and not the rest of it, which may have threads of its own.
        return [(namespace, name) for name in names if _is_data(namespace.get(name))]
    found = [(namespace, name) for name in names]
    for module in [namespace.get(name) for name in names]:
        if (
            isinstance(module, types.ModuleType)
            and not is_library(module.__name__)
            and not _is_installed(vars(module))
        ):
            found += [(vars(module), name) for name in names if name in vars(module)]
    return found


def _is_installed(namespace):
    """Whether a module's namespace is that of an installed package."""
    file = namespace.get("__file__") or ""
    return "site-packages" in file or "dist-packages" in file


def _is_data(value):
    return isinstance(
        value, (*_PLAIN, dict, list, set, collections.deque, np.ndarray)
    ) or is_cached(value)


def _children(value):
    """Yields (link, owner, key, child)."""
    kind = type(value)
    if isinstance(value, dict):
        yield from (("item", value, key, child) for key, child in list(value.items()))
        yield from (("other", value, None, key) for key in list(value))
    elif isinstance(value, (list, tuple, collections.deque)):
        yield from (("item", value, k, child) for k, child in enumerate(list(value)))
    elif isinstance(value, (set, frozenset)):
        yield from (("other", value, None, child) for child in list(value))
    elif isinstance(value, types.FunctionType):
        yield from _children_of_function(value)
    elif isinstance(value, (types.MethodType, types.BuiltinMethodType)):
        yield "other", value, None, value.__self__
        yield "other", value, None, getattr(value, "__func__", None)
    elif isinstance(value, (functools.partial, functools.partialmethod)):
        yield "wrapped", value, None, value.func
        yield from (("other", value, None, child) for child in (value.args, value.keywords))
    elif isinstance(value, (staticmethod, classmethod)):
        yield "wrapped", value, None, value.__func__
    elif is_cached(value):
        yield "other", value, None, value.__wrapped__
    elif isinstance(value, property):
        yield from (("other", value, None, f) for f in (value.fget, value.fset, value.fdel))
    elif isinstance(value, functools.cached_property):
        yield "other", value, None, value.func
    elif isinstance(value, type):
        yield from (
            ("class", value, name, child) for name, child in own_class_attributes(value).items()
        )
    elif isinstance(value, np.ndarray) and value.dtype == object:
        yield from (("item", value, k, child) for k, child in enumerate(value.ravel().tolist()))
    elif isinstance(value, contextvars.ContextVar):
        yield "other", value, None, content_of(value)
    elif module_of(kind).startswith("tensorflow") and isinstance(
        vars(kind).get("python_function"), property
    ):
        yield "other", value, None, value.python_function  # a `tf.function`
    if module_of(kind).startswith("tensorflow"):
        # Its wrappers of lists and dicts, in which a `tf.Module` keeps them.
        inner = [getattr(value, name, None) for name in ("__wrapped__", "_storage")]
        yield from (("other", value, None, v) for v in inner if isinstance(v, (list, dict, tuple)))
    if has_attributes(value):
        held = attributes(value) or {}
        yield from (
            ("attribute", value, name, v) for name, v in list(held.items()) if name not in _SKIPPED
        )
        for name in slots(value):
            child = getattr(value, name, ABSENT)
            if child is not ABSENT:
                yield "attribute", value, name, child
        yield from (("other", value, None, c) for c in kind.__mro__ if not is_library(module_of(c)))


def own_class_attributes(kind):
    """Returns what a class of the user's holds, without Python's own entries."""
    if is_library(module_of(kind)):
        return {}
    return {
        n: v
        for n, v in vars(kind).items()
        if not (n.startswith("__") and n.endswith("__")) or callable(v)
    }


def _children_of_function(function):
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield "cell", cell, name, cell.cell_contents
        except ValueError:  # nothing in it yet
            continue
    yield from (
        ("other", function, None, v) for v in (function.__defaults__, function.__kwdefaults__)
    )
    yield from (("attribute", function, n, v) for n, v in vars(function).items())
    for namespace, name in named_globals(function):
        if name in namespace:
            yield "name", namespace, name, namespace[name]
