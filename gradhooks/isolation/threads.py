"""Attributes and functions that answer by thread: the checking thread sees others in their place, nobody else does.

A check needs layers whose dtype policy says float64, a `floatx` of its own, casts
that are left out. Data workers, other trainings and servers share all of these
objects. So nothing is replaced outright: for a while a descriptor on the object's
class, or a function in the place of a function, asks which thread is looking.

One thread checks at a time. The others wait for their turn with what needs other
attributes, which is tracing, and not with evaluating what has been traced.
"""

import contextlib
import functools
import threading
import types

_turn = threading.RLock()
_checking = None  # ident of the thread whose turn it is
_shown = {}  # (id of the object, name of the attribute) -> what the checking thread sees
_ABSENT = object()


@contextlib.contextmanager
def own_turn():
    """While open, the calling thread may show itself other attributes; others wait for their own turn. Reentrant."""
    global _checking
    with _turn:
        before, _checking = _checking, threading.get_ident()
        try:
            yield
        finally:
            _checking = before


def is_checking():
    """Whether the calling thread has its turn."""
    return _checking == threading.get_ident()


def show(owner, name, value):
    """Changes what the checking thread sees in the place of an attribute that it is shown already."""
    _shown[id(owner), name] = value


class Patcher:
    """Replaces attributes for the checking thread; an ExitStack puts them back.

    Args:
        stack: The `contextlib.ExitStack` that ends the while. The turn of the
            calling thread begins here and ends with it.
    """

    def __init__(self, stack):
        self._stack = stack
        stack.enter_context(own_turn())

    def __call__(self, owner, name, value):
        """Sets an attribute of an object, or a function of a module or class, until the stack closes."""
        if isinstance(owner, (type, types.ModuleType)):
            self._stack.enter_context(_function_shown(owner, name, value))
        else:
            self._stack.enter_context(_attribute_shown(owner, name, value))


@contextlib.contextmanager
def answered(function, answer):
    """While open, a function without arguments returns `answer()` to the checking thread, however it was imported.

    Exchanging the attribute of its module would not reach those who hold the function itself.
    """
    code, defaults = function.__code__, function.__kwdefaults__
    original = types.FunctionType(code, function.__globals__, function.__name__)
    original.__kwdefaults__ = defaults

    def ask():
        return answer() if is_checking() else original()

    function.__kwdefaults__ = {"ask": ask}  # before the code that needs it
    function.__code__ = _asking.__code__
    try:
        yield
    finally:
        function.__code__ = code
        function.__kwdefaults__ = defaults


def _asking(*, ask):
    return ask()


@contextlib.contextmanager
def _function_shown(owner, name, replacement):
    original = vars(owner)[name]
    setattr(owner, name, by_thread(original, replacement))
    try:
        yield
    finally:
        setattr(owner, name, original)


def by_thread(original, replacement):
    """Returns a function that calls `replacement` in the checking thread, and `original` in every other."""

    @functools.wraps(original)
    def asked(*args, **kwargs):
        return (replacement if is_checking() else original)(*args, **kwargs)

    return asked


@contextlib.contextmanager
def _attribute_shown(owner, name, value):
    key = id(owner), name
    before = _shown.get(key, _ABSENT)
    with (
        contextlib.nullcontext()
        if isinstance(vars(type(owner)).get(name), _ByThread)
        else _asked(type(owner), name)
    ):
        _shown[key] = value
        try:
            yield
        finally:
            if before is _ABSENT:
                del _shown[key]
            else:
                _shown[key] = before


@contextlib.contextmanager
def _asked(kind, name):
    """While open, an attribute of a class' instances asks which thread is looking."""
    former = vars(kind).get(name, _ABSENT)
    type.__setattr__(kind, name, _ByThread(kind, name, former))
    try:
        yield
    finally:
        if former is _ABSENT:
            type.__delattr__(kind, name)
        else:
            type.__setattr__(kind, name, former)


class _ByThread:
    """Stands for an attribute of a class, and so goes before what its instances hold themselves."""

    def __init__(self, kind, name, former):
        self._kind, self._name, self._former = kind, name, former

    def _is_shown(self, owner):
        # By `super()` a class below asks for what stands here, and not for what its instance shows.
        return is_checking() and type(owner) is self._kind and (id(owner), self._name) in _shown

    def __get__(self, owner, kind=None):
        if owner is not None and self._is_shown(owner):
            value = _shown[id(owner), self._name]
            if value is _ABSENT:
                raise AttributeError(self._name)
            return value
        beneath = self._beneath(kind or type(owner))
        if owner is None:
            if beneath is _ABSENT:
                raise AttributeError(self._name)
            return beneath.__get__(None, kind) if hasattr(beneath, "__get__") else beneath
        if hasattr(beneath, "__set__"):
            return beneath.__get__(owner, kind)
        own = getattr(owner, "__dict__", {})
        if self._name in own:
            return own[self._name]
        if beneath is _ABSENT:
            raise AttributeError(f"{type(owner).__name__!r} object has no attribute {self._name!r}")
        return beneath.__get__(owner, kind) if hasattr(beneath, "__get__") else beneath

    def __set__(self, owner, value):
        beneath = self._beneath(type(owner))
        if self._is_shown(owner):
            _shown[id(owner), self._name] = value
        elif hasattr(beneath, "__set__"):
            beneath.__set__(owner, value)
        else:
            owner.__dict__[self._name] = value

    def __delete__(self, owner):
        beneath = self._beneath(type(owner))
        if self._is_shown(owner):
            _shown[id(owner), self._name] = _ABSENT
        elif hasattr(beneath, "__delete__"):
            beneath.__delete__(owner)
        elif self._name in owner.__dict__:
            del owner.__dict__[self._name]
        else:
            raise AttributeError(self._name)

    def _beneath(self, kind):
        """What the class would hold if nothing stood here."""
        if self._former is not _ABSENT:
            return self._former
        order = kind.__mro__
        above = order[order.index(self._kind) + 1 :] if self._kind in order else ()
        return next((vars(c)[self._name] for c in above if self._name in vars(c)), _ABSENT)
