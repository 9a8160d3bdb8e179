"""What is known about one object: whose class it is of, and what it holds.

Nothing here is changed, and no code of the user's is run to find out, except
what an attribute's own `__get__` does.
"""

import collections
import functools
import random
import sys
import types

import numpy as np

# Packages whose classes and modules hold nothing of the user's. Instances of Keras' classes do,
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
# Standard modules whose instances are containers. Instances of the others (threads, locks, queues,
# files) are left alone.
_CONTAINER_MODULES = frozenset(
    ("collections", "types", "functools", "weakref", "argparse", "_thread", "_threading_local")
)
# Objects that feed the training are read by other threads, and no model computes with them.
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
_DATA = (*_PLAIN, dict, list, set, collections.deque, np.ndarray)
# What Keras compiles for `fit`, `evaluate` and `predict`. No trace makes these attributes, and
# other threads may at any moment.
COMPILED = frozenset(("train_function", "test_function", "predict_function"))
_CACHED_FUNCTION = type(functools.lru_cache(lambda: None))
# Bytes. Larger arrays are not copied: a free choice, far above the counters and tables that user
# code writes to, and an array of that size is hardly one of them.
LARGE = 2**28
#: Stands for a value that is not there.
ABSENT = object()


def is_library(module):
    """Returns whether a module, given by its name, belongs to Python or to a framework."""
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


def content_of_cell(cell):
    """Returns what a closure's cell holds; `ABSENT` if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def has_attributes(value):
    """Returns whether an object's attributes are the user's, or lead to something that is."""
    if isinstance(value, (type, types.ModuleType, types.FunctionType, random.Random)):
        return False
    if is_feed(value):
        return False
    module = module_of(type(value))
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names:
        return root in _CONTAINER_MODULES and hasattr(value, "__dict__")
    return root == "keras" or not is_library(module)


def is_feed(value):
    """Returns whether an object feeds the training with data, or is a callback."""
    return any(module_of(kind).startswith(_FEEDS) for kind in type(value).__mro__)


def is_plain(value):
    """Returns whether an object cannot change and refers to nothing that can."""
    return isinstance(value, _PLAIN)


def is_cached(value):
    """Returns whether a value is a function of `functools.lru_cache` or `functools.cache`."""
    return isinstance(value, _CACHED_FUNCTION)


def attributes(value):
    """Returns the `__dict__` in which an object holds its attributes; None if it has none.

    A `threading.local` has one for each thread; this is that of the calling thread.
    """
    held = getattr(value, "__dict__", None)
    return held if isinstance(held, dict) else None


def slots(value):
    """Returns a list of the names of an object's slots, as `getattr` takes them."""
    names = []
    for kind in type(value).__mro__:
        if is_library(module_of(kind)):
            continue
        own = vars(kind).get("__slots__", ())
        if isinstance(own, str):
            own = (own,)
        for name in tuple(own):
            if name in ("__dict__", "__weakref__"):
                continue
            is_mangled = name.startswith("__") and not name.endswith("__")
            names.append(f"_{kind.__name__.lstrip('_')}{name}" if is_mangled else name)
    return names


def own_class_attributes(kind):
    """Returns a dict of what a class of the user's holds, without Python's own entries."""
    if is_library(module_of(kind)):
        return {}
    own = {}
    for name, value in vars(kind).items():
        is_special = name.startswith("__") and name.endswith("__")
        if not is_special or callable(value):
            own[name] = value
    return own


def named_globals(function):
    """Returns pairs (namespace, name) of the globals that a user's function may read or write."""
    namespace = function.__globals__
    if is_library(namespace.get("__name__")):
        return []
    names = _names_in(function.__code__)
    if _is_installed(namespace):
        # Its caches and flags, and not the rest of it, which may have threads of its own.
        return [(namespace, name) for name in names if _is_data(namespace.get(name))]
    pairs = [(namespace, name) for name in names]
    for module in [namespace.get(name) for name in names]:
        if not isinstance(module, types.ModuleType):
            continue
        if is_library(module.__name__) or _is_installed(vars(module)):
            continue
        pairs += [(vars(module), name) for name in names if name in vars(module)]
    return pairs


def _names_in(code):
    """Returns the names that some code, and the code inside of it, uses; each once."""
    names, queue = [], [code]
    while queue:
        code = queue.pop()
        names += code.co_names
        queue += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    return list(dict.fromkeys(names))


def _is_installed(namespace):
    """Returns whether a module's namespace is that of an installed package."""
    file = namespace.get("__file__") or ""
    return "site-packages" in file or "dist-packages" in file


def _is_data(value):
    return isinstance(value, _DATA) or is_cached(value)
