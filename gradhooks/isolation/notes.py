"""Notes of what can change about one object, each with how it is put back."""

import collections
import copy
import random
import types

import numpy as np

from gradhooks.isolation import reachable
from gradhooks.isolation.draws import GLOBAL
from gradhooks.isolation.reachable import ABSENT


def notes_of(value, private=()):
    """Returns pairs of functions (is it changed?, put it back) for all that can change about one object.

    Args:
        value: The object.
        private: Names of attributes that change by others alone.
    """
    if any(value is generator for generator in GLOBAL):
        return []  # others go on drawing from them
    if isinstance(value, types.FunctionType):
        return _notes_of_function(value)
    if isinstance(value, type):
        return [_class_note(value)]
    if isinstance(value, np.ndarray):
        return (
            [_array_note(value)]
            if value.flags.writeable and value.nbytes <= reachable.LARGE
            else []
        )
    notes = []
    for kind, note in _OF_KIND:
        # By its type: a proxy says that it is what it stands for.
        if issubclass(type(value), kind):
            notes.append(note(value))
            break
    if reachable.has_attributes(value):
        notes.append(_kind_note(value))  # before the attributes, which are another class' otherwise
        held = reachable.attributes(value)
        if held is not None:
            notes.append(_namespace_note(held, private))
        names = reachable.slots(value)
        if names:
            notes.append(_slots_note(value, names))
    return notes


def _is_same(one, other):
    """Whether two sequences hold the very same objects."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _list_note(value):
    content = list(value)

    def put_back():
        # Keras tracks what its lists get, by methods of its own.
        list.__setitem__(value, slice(None), content)

    return lambda: not _is_same(list(value), content), put_back


def _deque_note(value):
    content = list(value)

    def put_back():
        value.clear()
        value.extend(content)

    return lambda: not _is_same(list(value), content), put_back


def _dict_note(value):
    # By the methods of these classes, and not by those of the user's.
    kind = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
    content = list(kind.items(value))
    keys, values = [k for k, _ in content], [v for _, v in content]

    def is_changed():
        return not (
            _is_same(list(kind.keys(value)), keys) and _is_same(list(kind.values(value)), values)
        )

    def put_back():
        kind.clear(value)
        for key, item in content:
            kind.__setitem__(value, key, item)

    return is_changed, put_back


def _set_note(value):
    content = set(value)

    def put_back():
        set.clear(value)
        set.update(value, content)

    return lambda: set(value) != content, put_back


def _bytes_note(value):
    content = bytes(value)

    def put_back():
        value[:] = content

    return lambda: bytes(value) != content, put_back


def _array_note(value):
    content = value.copy()
    if value.dtype.hasobject:
        flat = content.ravel().tolist()

        def is_changed():
            return not _is_same(value.ravel().tolist(), flat)
    else:

        def is_changed():
            return value.tobytes() != content.tobytes()

    def put_back():
        value[...] = content

    return is_changed, put_back


def _namespace_note(held, private=()):
    """Of an object's `__dict__`; written to directly, since user code may stand before its attributes."""
    content = {name: value for name, value in held.items() if name not in private}

    def is_changed():
        is_new = any(name not in content and name not in private for name in list(held))
        return is_new or any(held.get(name, ABSENT) is not v for name, v in content.items())

    def put_back():
        for name in [name for name in list(held) if name not in content and name not in private]:
            del held[name]
        for name, v in content.items():
            if held.get(name, ABSENT) is not v:
                held[name] = v

    return is_changed, put_back


def _kind_note(value):
    kind = type(value)
    return lambda: type(value) is not kind, lambda: object.__setattr__(value, "__class__", kind)


def _slots_note(value, names):
    content = {name: getattr(value, name, ABSENT) for name in names}

    def is_changed():
        return any(getattr(value, name, ABSENT) is not v for name, v in content.items())

    def put_back():
        for name, v in content.items():
            if v is not ABSENT:
                object.__setattr__(value, name, v)
            elif hasattr(value, name):
                object.__delattr__(value, name)

    return is_changed, put_back


def _class_note(kind):
    content = reachable.own_class_attributes(kind)

    def is_changed_at(name):
        return vars(kind).get(name, ABSENT) is not content.get(name, ABSENT)

    def put_back():
        for name in {*reachable.own_class_attributes(kind), *content}:
            if is_changed_at(name) and name in content:
                type.__setattr__(kind, name, content[name])
            elif is_changed_at(name):
                type.__delattr__(kind, name)

    return lambda: any(
        map(is_changed_at, {*reachable.own_class_attributes(kind), *content})
    ), put_back


def _notes_of_function(function):
    notes = [_namespace_note(vars(function))]
    notes += [_cell_note(cell) for cell in function.__closure__ or ()]
    notes += [
        _global_note(namespace, name) for namespace, name in reachable.named_globals(function)
    ]
    return notes


def _cell_note(cell):
    content = _content(cell)

    def put_back():
        if content is ABSENT:
            del cell.cell_contents
        else:
            cell.cell_contents = content

    return lambda: _content(cell) is not content, put_back


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def _global_note(namespace, name):
    content = namespace.get(name, ABSENT)

    def put_back():
        if content is ABSENT:
            del namespace[name]
        else:
            namespace[name] = content

    return lambda: namespace.get(name, ABSENT) is not content, put_back


def _random_note(value):
    if isinstance(value, random.SystemRandom):
        return (lambda: False), (lambda: None)
    state = value.getstate()
    return lambda: value.getstate() != state, lambda: value.setstate(state)


def _bits_note(value):
    bits = getattr(value, "bit_generator", None) or getattr(value, "_bit_generator", value)
    state = copy.deepcopy(bits.state)

    def put_back():
        bits.state = state

    return lambda: repr(bits.state) != repr(state), put_back


def _legacy_note(value):
    state = value.get_state(legacy=False)
    return lambda: repr(value.get_state(legacy=False)) != repr(state), lambda: value.set_state(
        state
    )


_OF_KIND = (
    (list, _list_note),
    (dict, _dict_note),
    (set, _set_note),
    (collections.deque, _deque_note),
    (bytearray, _bytes_note),
    (random.Random, _random_note),
    (np.random.RandomState, _legacy_note),
    ((np.random.Generator, np.random.BitGenerator), _bits_note),
)
