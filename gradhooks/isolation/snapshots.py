"""Snapshots of all that can change about one object, each of which can be restored.

A snapshot has two methods: `is_changed()` says whether the object differs from
when the snapshot was taken, `restore()` makes it as it was. Both write past the
user's own `__setattr__`, `__setitem__` and the like, which may do anything.
"""

import collections
import copy
import random
import types

import numpy as np

from gradhooks.isolation import container_snapshots, objects
from gradhooks.isolation.draws import GLOBAL
from gradhooks.isolation.objects import ABSENT


def take_snapshots(value, private=()):
    """Returns snapshots of all that can change about one object, in the order to restore them.

    Args:
        value: The object.
        private: Names of attributes that only others change, and that are left alone.
    """
    if any(value is generator for generator in GLOBAL):
        return []  # other threads go on drawing from them
    if isinstance(value, types.FunctionType):
        return _snapshots_of_function(value)
    if isinstance(value, type):
        return [_ClassSnapshot(value)]
    if isinstance(value, np.ndarray):
        is_copied = value.flags.writeable and value.nbytes <= objects.LARGE
        return [container_snapshots.ArraySnapshot(value)] if is_copied else []
    snapshots = []
    for kind, make in _OF_KIND:
        # By its type: a proxy claims, in `__class__`, to be what it stands for.
        if issubclass(type(value), kind):
            snapshots.append(make(value))
            break
    if objects.has_attributes(value):
        # Before the attributes, which would be another class' otherwise.
        snapshots.append(_TypeSnapshot(value))
        held = objects.attributes(value)
        if held is not None:
            snapshots.append(_NamespaceSnapshot(held, private))
        names = objects.slots(value)
        if names:
            snapshots.append(_SlotsSnapshot(value, names))
    return snapshots


def _snapshots_of_function(function):
    snapshots = [_NamespaceSnapshot(vars(function))]
    for cell in function.__closure__ or ():
        snapshots.append(_CellSnapshot(cell))
    for namespace, name in objects.named_globals(function):
        snapshots.append(_GlobalSnapshot(namespace, name))
    return snapshots


class _NamespaceSnapshot:
    """An object's `__dict__`; written to directly, since user code may intercept its attributes."""

    def __init__(self, held, private=()):
        self._held = held
        self._private = private
        self._content = {name: value for name, value in held.items() if name not in private}

    def _new_names(self):
        content, private = self._content, self._private
        return [name for name in list(self._held) if name not in content and name not in private]

    def is_changed(self):
        if self._new_names():
            return True
        held = self._held
        return any(held.get(name, ABSENT) is not value for name, value in self._content.items())

    def restore(self):
        for name in self._new_names():
            del self._held[name]
        for name, value in self._content.items():
            if self._held.get(name, ABSENT) is not value:
                self._held[name] = value


class _TypeSnapshot:
    """Of which class an object is."""

    def __init__(self, value):
        self._value = value
        self._kind = type(value)

    def is_changed(self):
        return type(self._value) is not self._kind

    def restore(self):
        object.__setattr__(self._value, "__class__", self._kind)


class _SlotsSnapshot:
    def __init__(self, value, names):
        self._value = value
        self._content = {name: getattr(value, name, ABSENT) for name in names}

    def is_changed(self):
        items = self._content.items()
        return any(getattr(self._value, name, ABSENT) is not value for name, value in items)

    def restore(self):
        for name, value in self._content.items():
            if value is not ABSENT:
                object.__setattr__(self._value, name, value)
            elif hasattr(self._value, name):
                object.__delattr__(self._value, name)


class _ClassSnapshot:
    """The attributes of a class of the user's."""

    def __init__(self, kind):
        self._kind = kind
        self._content = objects.own_class_attributes(kind)

    def _changed_names(self):
        names = {*objects.own_class_attributes(self._kind), *self._content}
        return [name for name in names if self._is_changed_at(name)]

    def _is_changed_at(self, name):
        return vars(self._kind).get(name, ABSENT) is not self._content.get(name, ABSENT)

    def is_changed(self):
        return bool(self._changed_names())

    def restore(self):
        for name in self._changed_names():
            if name in self._content:
                type.__setattr__(self._kind, name, self._content[name])
            else:
                type.__delattr__(self._kind, name)


class _CellSnapshot:
    """A variable that a function closes over."""

    def __init__(self, cell):
        self._cell = cell
        self._content = objects.content_of_cell(cell)

    def is_changed(self):
        return objects.content_of_cell(self._cell) is not self._content

    def restore(self):
        if self._content is ABSENT:
            del self._cell.cell_contents
        else:
            self._cell.cell_contents = self._content


class _GlobalSnapshot:
    """A global variable of a module."""

    def __init__(self, namespace, name):
        self._namespace = namespace
        self._name = name
        self._content = namespace.get(name, ABSENT)

    def is_changed(self):
        return self._namespace.get(self._name, ABSENT) is not self._content

    def restore(self):
        if self._content is ABSENT:
            del self._namespace[self._name]
        else:
            self._namespace[self._name] = self._content


class _RandomSnapshot:
    """A generator of Python's; one that draws from the operating system has no state."""

    def __init__(self, value):
        self._value = value
        is_of_the_system = isinstance(value, random.SystemRandom)
        self._state = None if is_of_the_system else value.getstate()

    def is_changed(self):
        return self._state is not None and self._value.getstate() != self._state

    def restore(self):
        self._value.setstate(self._state)


class _BitGeneratorSnapshot:
    """A generator of NumPy's, or the bit generator inside of one."""

    def __init__(self, value):
        inner = getattr(value, "bit_generator", None) or getattr(value, "_bit_generator", value)
        self._generator = inner
        self._state = copy.deepcopy(inner.state)

    def is_changed(self):
        return repr(self._generator.state) != repr(self._state)

    def restore(self):
        self._generator.state = self._state


class _RandomStateSnapshot:
    """A generator of NumPy's legacy kind."""

    def __init__(self, value):
        self._value = value
        self._state = value.get_state(legacy=False)

    def is_changed(self):
        return repr(self._value.get_state(legacy=False)) != repr(self._state)

    def restore(self):
        self._value.set_state(self._state)


_OF_KIND = (
    (list, container_snapshots.ListSnapshot),
    (dict, container_snapshots.DictSnapshot),
    (set, container_snapshots.SetSnapshot),
    (collections.deque, container_snapshots.DequeSnapshot),
    (bytearray, container_snapshots.BytesSnapshot),
    (random.Random, _RandomSnapshot),
    (np.random.RandomState, _RandomStateSnapshot),
    ((np.random.Generator, np.random.BitGenerator), _BitGeneratorSnapshot),
)
