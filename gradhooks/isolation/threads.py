"""Patches for one thread: only the checking thread sees other attributes and functions.

A check needs layers whose dtype policy is float64, a `floatx` of its own, casts
that are left out. Data workers, other trainings and servers share all of these
objects, so nothing is replaced outright: for a while a descriptor on the object's
class, or a function in the place of a function, asks which thread is calling.

One thread checks at a time. The others wait for their turn with what needs
patches, which is tracing, and not with evaluating what has been traced.
"""

import contextlib
import functools
import threading
import types

_turn = threading.RLock()
_checking = None  # ident of the thread whose turn it is
_patches = {}  # (id of the object, name of the attribute) -> what the checking thread sees
_ABSENT = object()


@contextlib.contextmanager
def take_turn():
    """While open, patches apply to the calling thread; others wait for their turn. Reentrant."""
    global _checking
    with _turn:
        before, _checking = _checking, threading.get_ident()
        try:
            yield
        finally:
            _checking = before


def is_checking():
    """Returns whether the calling thread has its turn."""
    return _checking == threading.get_ident()


def update_patch(owner, name, value):
    """Changes what the checking thread sees in the place of a patched attribute."""
    _patches[id(owner), name] = value


class Patcher:
    """Replaces attributes for the checking thread, until a stack closes.

    Args:
        stack: A `contextlib.ExitStack`. The turn of the calling thread begins
            here and ends when the stack closes.
    """

    def __init__(self, stack):
        self._stack = stack
        stack.enter_context(take_turn())

    def __call__(self, owner, name, value):
        """Sets an attribute of an object, or a function of a module or class."""
        if isinstance(owner, (type, types.ModuleType)):
            self._stack.enter_context(_patch_namespace(owner, name, value))
        else:
            self._stack.enter_context(_patch_attribute(owner, name, value))


@contextlib.contextmanager
def open_patcher():
    """Yields a `Patcher` whose patches end with the context."""
    with contextlib.ExitStack() as stack:
        yield Patcher(stack)


@contextlib.contextmanager
def patch_function(function, replacement):
    """While open, a function without arguments returns `replacement()` to the checking thread.

    It does so however it was imported: replacing the attribute of its module
    would not reach code that holds the function itself, so its code is replaced.
    """
    code, defaults = function.__code__, function.__kwdefaults__
    original = types.FunctionType(code, function.__globals__, function.__name__)
    original.__kwdefaults__ = defaults

    def choose():
        return replacement() if is_checking() else original()

    function.__kwdefaults__ = {"choose": choose}  # before the code that needs it
    function.__code__ = _call_chosen.__code__
    try:
        yield
    finally:
        function.__code__ = code
        function.__kwdefaults__ = defaults


def _call_chosen(*, choose):
    return choose()


def choose_by_thread(original, replacement):
    """Returns a function that calls `replacement` in the checking thread, else `original`."""

    @functools.wraps(original)
    def call(*args, **kwargs):
        function = replacement if is_checking() else original
        return function(*args, **kwargs)

    return call


@contextlib.contextmanager
def _patch_namespace(owner, name, replacement):
    """While open, a function of a module or class is another one for the checking thread."""
    original = vars(owner)[name]
    setattr(owner, name, choose_by_thread(original, replacement))
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def _patch_attribute(owner, name, value):
    """While open, an attribute of an object is another one for the checking thread."""
    key = id(owner), name
    before = _patches.get(key, _ABSENT)
    is_installed = isinstance(vars(type(owner)).get(name), _PatchedAttribute)
    descriptor = contextlib.nullcontext() if is_installed else _install(type(owner), name)
    with descriptor:
        _patches[key] = value
        try:
            yield
        finally:
            if before is _ABSENT:
                del _patches[key]
            else:
                _patches[key] = before


@contextlib.contextmanager
def _install(kind, name):
    """While open, an attribute of a class' instances depends on which thread is calling."""
    former = vars(kind).get(name, _ABSENT)
    type.__setattr__(kind, name, _PatchedAttribute(kind, name, former))
    try:
        yield
    finally:
        if former is _ABSENT:
            type.__delattr__(kind, name)
        else:
            type.__setattr__(kind, name, former)


class _PatchedAttribute:
    """A descriptor in the place of an attribute, which takes precedence over an instance's own."""

    def __init__(self, kind, name, former):
        self._kind = kind
        self._name = name
        self._former = former

    def _is_patched(self, owner):
        # Through `super()` a subclass asks for the attribute of this class, and not for the patch
        # of its instance.
        is_own = type(owner) is self._kind
        return is_checking() and is_own and (id(owner), self._name) in _patches

    def __get__(self, owner, kind=None):
        if owner is not None and self._is_patched(owner):
            value = _patches[id(owner), self._name]
            if value is _ABSENT:
                raise AttributeError(self._name)
            return value
        former = self._former_attribute(kind or type(owner))
        if owner is None:
            if former is _ABSENT:
                raise AttributeError(self._name)
            return former.__get__(None, kind) if hasattr(former, "__get__") else former
        if hasattr(former, "__set__"):
            return former.__get__(owner, kind)
        own = getattr(owner, "__dict__", {})
        if self._name in own:
            return own[self._name]
        if former is _ABSENT:
            raise AttributeError(f"{type(owner).__name__!r} object has no attribute {self._name!r}")
        return former.__get__(owner, kind) if hasattr(former, "__get__") else former

    def __set__(self, owner, value):
        former = self._former_attribute(type(owner))
        if self._is_patched(owner):
            _patches[id(owner), self._name] = value
        elif hasattr(former, "__set__"):
            former.__set__(owner, value)
        else:
            owner.__dict__[self._name] = value

    def __delete__(self, owner):
        former = self._former_attribute(type(owner))
        if self._is_patched(owner):
            _patches[id(owner), self._name] = _ABSENT
        elif hasattr(former, "__delete__"):
            former.__delete__(owner)
        elif self._name in owner.__dict__:
            del owner.__dict__[self._name]
        else:
            raise AttributeError(self._name)

    def _former_attribute(self, kind):
        """Returns what a class would have without this descriptor."""
        if self._former is not _ABSENT:
            return self._former
        order = kind.__mro__
        bases = order[order.index(self._kind) + 1 :] if self._kind in order else ()
        for base in bases:
            if self._name in vars(base):
                return vars(base)[self._name]
        return _ABSENT
