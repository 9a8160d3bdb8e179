"""Snapshots of containers and arrays, see `snapshots`: what they hold, and in which order."""

import collections


def _is_same(one, other):
    """Returns whether two sequences hold the very same objects."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


class ListSnapshot:
    """A list: its members and their order."""

    def __init__(self, value):
        self._value = value
        self._members = list(value)

    def is_changed(self):
        """Whether the objects in the list, or their order, have changed."""
        return not _is_same(list(self._value), self._members)

    def restore(self):
        """Puts the members back, in place."""
        # Keras' lists have methods of their own that track what they are given.
        list.__setitem__(self._value, slice(None), self._members)


class DequeSnapshot:
    """A deque: its members and their order."""

    def __init__(self, value):
        self._value = value
        self._members = list(value)

    def is_changed(self):
        """Whether the objects in the deque, or their order, have changed."""
        return not _is_same(list(self._value), self._members)

    def restore(self):
        """Puts the members back, in place."""
        self._value.clear()
        self._value.extend(self._members)


class DictSnapshot:
    """A dict, with the order of its keys."""

    def __init__(self, value):
        self._value = value
        # By the methods of these two classes, and not by those of the user's.
        is_ordered = isinstance(value, collections.OrderedDict)
        self._kind = collections.OrderedDict if is_ordered else dict
        self._items = list(self._kind.items(value))
        self._keys = [key for key, _ in self._items]
        self._values = [member for _, member in self._items]

    def is_changed(self):
        """Whether the keys, the values or their order have changed."""
        keys = list(self._kind.keys(self._value))
        values = list(self._kind.values(self._value))
        return not (_is_same(keys, self._keys) and _is_same(values, self._values))

    def restore(self):
        """Puts the keys and values back in their order, in place."""
        self._kind.clear(self._value)
        for key, member in self._items:
            self._kind.__setitem__(self._value, key, member)


class SetSnapshot:
    """A set, compared by `==`."""

    def __init__(self, value):
        self._value = value
        self._members = set(value)

    def is_changed(self):
        """Whether the set differs from what it was, by `==`."""
        return set(self._value) != self._members

    def restore(self):
        """Puts the members back, in place."""
        set.clear(self._value)
        set.update(self._value, self._members)


class BytesSnapshot:
    """A bytearray, compared byte by byte."""

    def __init__(self, value):
        self._value = value
        self._content = bytes(value)

    def is_changed(self):
        """Whether any byte or the number of bytes has changed."""
        return bytes(self._value) != self._content

    def restore(self):
        """Puts the bytes back, in place."""
        self._value[:] = self._content


class ArraySnapshot:
    """A NumPy array, compared bit by bit; one of objects by what its entries are."""

    def __init__(self, value):
        self._value = value
        self._content = value.copy()
        self._entries = self._content.ravel().tolist() if value.dtype.hasobject else None

    def is_changed(self):
        """Whether any bit of the array, or any object in it, has changed."""
        if self._entries is not None:
            return not _is_same(self._value.ravel().tolist(), self._entries)
        return self._value.tobytes() != self._content.tobytes()

    def restore(self):
        """Writes the entries back, in place."""
        self._value[...] = self._content
