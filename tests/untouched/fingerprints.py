"""A fingerprint of all that can be reached from an object: a check must not change it."""

import collections
import contextvars
import functools
import hashlib
import io
import itertools
import re
import sys
import threading
import types
import weakref

import keras
import numpy as np
import tensorflow as tf

PRIMITIVE = (type(None), bool, int, float, complex, str, bytes, range, tf.DType, np.dtype)
WEAK = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
# Followed into their attributes though they are no code of ours: what they are for is to hold
# things of others.
HOLDERS = ("keras", "collections", "types")
ADDRESSES = range(
    2**40, 2**48
)  # Keras keeps addresses in sets and as keys, which no two runs have in common
OURS = ("tests", "untouched")  # pytest's name of the module of a test here is `untouched.test_...`
SYMBOLIC = "symbolic, out of a trace"


def belongings(*roots):
    """Returns {path: (type, fingerprint)} of all that can be reached from the roots.

    The shortest path to an object counts. Code of the tests is followed into its classes,
    closures, defaults and the globals that it names, Keras' objects into their attributes,
    containers into their items; TensorFlow, NumPy and the standard library are not.
    """
    found, seen = {}, {}
    queue = collections.deque((f"{type(root).__name__}", root) for root in roots)
    while queue:
        path, value = queue.popleft()
        while path in found:
            path += "'"
        if not isinstance(value, (*PRIMITIVE, tuple)):
            if id(value) in seen:
                found[path] = ("the same", seen[id(value)][0])
                continue
            seen[id(value)] = path, value  # the value too, lest its address be given to another
        found[path] = type(value).__name__, _fingerprint(value)
        queue.extend((path + step, part) for step, part in _parts(value))
    return found


def symbolic(found):
    """Returns the paths of what `belongings` found to be a tensor of a trace."""
    return [path for path, (_, fingerprint) in found.items() if SYMBOLIC in str(fingerprint)]


def changes(before, after):
    """Returns what differs between two findings, as lines for people."""
    paths = [p for p in {**before, **after} if before.get(p) != after.get(p)]
    return [f"{p}: {before.get(p, 'absent')} -> {after.get(p, 'absent')}" for p in paths]


def _is_ours(module):
    return (module or "").split(".")[0] in OURS


def _bytes(array):
    content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
    return array.dtype.str, array.shape, hashlib.sha256(content).hexdigest()[:12]


def _position(file):
    try:
        return file.tell()
    except (OSError, ValueError) as error:  # a text file that is being iterated, or closed
        return str(error)


def _fingerprint(value):
    """Returns a description of a value without its parts, the same in two equal runs."""
    if isinstance(value, int) and value in ADDRESSES:
        return "an address"
    if isinstance(value, PRIMITIVE):
        return re.sub(r"\d{12,}", "#", value) if isinstance(value, str) else repr(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _bytes(np.asarray(value))
    if isinstance(value, tf.Tensor) and not isinstance(value, (keras.Variable, tf.Variable)):
        if hasattr(value, "graph"):
            return f"{SYMBOLIC}: {value.name} {value.dtype.name} {value.shape}"
        return "a handle" if value.dtype in (tf.resource, tf.variant) else _bytes(value.numpy())
    if isinstance(value, tf.Variable):
        return _bytes(value.numpy())
    if isinstance(value, keras.KerasTensor):
        return value.dtype, value.shape
    if isinstance(value, (type, types.ModuleType)):
        return value.__name__
    if hasattr(value, "cache_info"):
        return str(value.cache_info())
    if hasattr(value, "experimental_get_tracing_count"):
        return f"{value.experimental_get_tracing_count()} traces"
    for state in ("getstate", "get_state"):
        if callable(getattr(value, state, None)):
            return hashlib.sha256(repr(getattr(value, state)()).encode()).hexdigest()[:12]
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, tf.random.Generator):
        return _bytes(value.state.numpy())
    if isinstance(value, types.GeneratorType):
        return "ended" if value.gi_frame is None else f"at instruction {value.gi_frame.f_lasti}"
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, io.IOBase):
        return _position(value)
    if isinstance(value, collections.OrderedDict):
        return [_key(key) if isinstance(key, PRIMITIVE) else type(key).__name__ for key in value]
    if isinstance(value, collections.deque):
        return f"at most {value.maxlen}"
    return getattr(value, "__qualname__", "")


def _parts(value):
    """Pairs of how a part is reached and the part."""
    if isinstance(value, tf.__internal__.CompositeTensor) and not isinstance(value, tf.Variable):
        return [
            (f"<{i}>", part)
            for i, part in enumerate(tf.nest.flatten(value, expand_composites=True))
        ]
    return [*_items(value), *_inside(value), *_attributes(value)]


def _key(key):
    """Returns a key for people, without TensorFlow's numbers: `dense/kernel_27`."""
    return re.sub(r"(/\w+)_\d+$", r"\1", str(_fingerprint(key)))


def _items(value):
    if isinstance(value, (dict, types.MappingProxyType, *WEAK)):
        for number, (key, item) in enumerate(list(value.items())):
            is_plain = isinstance(key, PRIMITIVE)
            yield f"[{_key(key) if is_plain else f'{type(key).__name__} {number}'}]", item
            if not is_plain:
                yield f"[{number}].key", key
    elif isinstance(value, (list, tuple, collections.deque)):
        yield from ((f"[{number}]", item) for number, item in enumerate(value))
    elif isinstance(value, (set, frozenset, weakref.WeakSet)):
        ordered = sorted(
            value,
            key=lambda v: (type(v).__name__, str(getattr(v, "name", "")), str(_fingerprint(v))),
        )
        yield from ((f"{{{number}}}", item) for number, item in enumerate(ordered))
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        yield ".items", value.tolist()


def _inside(value):
    """What is held by the standard library's ways of holding, and by functions."""
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield from ((".__self__", value.__self__), (".__func__", value.__func__))
    elif isinstance(value, (functools.partial, functools.partialmethod)):
        yield from ((f".{name}", getattr(value, name)) for name in ("func", "args", "keywords"))
    elif isinstance(value, property):
        yield from ((f".{name}", getattr(value, name)) for name in ("fget", "fset", "fdel"))
    elif isinstance(value, functools.cached_property):
        yield ".func", value.func
    elif isinstance(value, contextvars.ContextVar):
        yield ".get()", value.get("no value")
    elif isinstance(value, weakref.ref):
        yield "()", value()
    elif isinstance(value, types.GeneratorType) and value.gi_frame is not None:
        yield ".locals", dict(value.gi_frame.f_locals)
    elif isinstance(value, (map, filter, zip, enumerate, type(iter([])), type(iter(())))):
        yield ".reduced", value.__reduce__()
    elif isinstance(value, threading.local):
        yield ".here", vars(value)
    elif isinstance(value, (staticmethod, classmethod)):
        yield ".__func__", value.__func__
    elif isinstance(value, (type, types.ModuleType)):
        return
    elif hasattr(value, "cache_info"):
        yield ".__wrapped__", value.__wrapped__
    elif hasattr(value, "experimental_get_tracing_count"):
        yield ".python_function", value.python_function


def _of_function(function):
    empty = types.CellType()  # as of a variable that is not assigned yet
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield f"<{name}>", None if cell == empty else cell.cell_contents
    yield ".__defaults__", function.__defaults__
    yield ".__kwdefaults__", function.__kwdefaults__
    yield from ((f".{name}", part) for name, part in vars(function).items())
    if not _is_ours(function.__module__):
        return
    named = _names(function.__code__)
    for name in sorted(named & function.__globals__.keys()):
        part = function.__globals__[name]
        if not isinstance(part, types.ModuleType):
            yield f"<global {name}>", part
        elif _is_ours(part.__name__):
            yield from (
                (f"<{part.__name__}.{n}>", vars(part)[n]) for n in sorted(named & vars(part).keys())
            )


def _names(code):
    """The names that code and the code within it use."""
    return set(code.co_names).union(
        *(_names(c) for c in code.co_consts if isinstance(c, types.CodeType))
    )


def _attributes(value):
    if isinstance(value, type):
        if _is_ours(value.__module__):
            own = {
                n: p
                for n, p in vars(value).items()
                if n not in ("__dict__", "__weakref__", "__doc__", "__module__")
            }
            yield from ((f".{name}", part) for name, part in own.items())
            yield ".__bases__", value.__bases__
        return
    kind = type(value)
    is_ours = _is_ours(kind.__module__)
    if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
        return
    if is_ours or kind.__module__.split(".")[0] in HOLDERS:
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())
        for base in kind.__mro__:
            slots = (
                vars(base).get("__slots__", ())
                if base.__module__.split(".")[0] not in sys.stdlib_module_names
                else ()
            )
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    yield f".{name}", getattr(value, name)
    if is_ours:
        yield ".__class__", kind
