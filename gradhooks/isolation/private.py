"""Plain data in attributes of the user's objects: the checking thread reads and writes copies of it.

Counters, flags, caches and lists are what threads share. What a check does to
them others do not see, and what others do to them meanwhile a check does not
undo. What can also be reached another way stays where it is, since one part of
the code would not see any more what another has written; of that a note is taken.
"""

import collections
import enum

import numpy as np

from gradhooks.isolation import reachable, threads

_CONTAINERS = (
    list,
    dict,
    set,
    collections.deque,
    collections.OrderedDict,
    collections.defaultdict,
    collections.Counter,
)


def is_container(value):
    """Whether an object is a container that can be copied member by member, or an array."""
    return type(value) in _CONTAINERS or (
        type(value) is np.ndarray and value.nbytes <= reachable.LARGE
    )


class PrivateData:
    """Shows the checking thread copies of plain data in attributes.

    Args:
        stack: A `contextlib.ExitStack` that ends it.
        places: All places, with every place of a container, see `reachable`.

    Attributes:
        names: dict of ids of objects to the names of their attributes that are copies.
        containers: ids of the containers that are copied, and so need no note.
    """

    def __init__(self, stack, places):
        self.containers = _private_containers(places)
        self._attributes = [
            (owner, name, value)
            for owner in [place.value for place in places if _is_owner(place.value)]
            for name, value in reachable.attributes(owner).items()
            if _is_shown(owner, name)
            and (reachable.is_plain(value) or id(value) in self.containers)
        ]
        self.names = collections.defaultdict(set)
        put = threads.Patcher(stack)
        for owner, name, value in self._attributes:
            if name not in self.names[id(owner)]:
                self.names[id(owner)].add(name)
                put(owner, name, value)
        self.renew()

    def renew(self):
        """Begins with fresh copies."""
        copies = {}
        for owner, name, value in self._attributes:
            threads.show(owner, name, self._copied(value, copies))

    def _copied(self, value, copies):
        if id(value) not in self.containers:
            return value
        if id(value) not in copies:
            copies[id(value)] = copy = value.copy()
            if isinstance(copy, dict):
                for key, member in copy.items():
                    copy[key] = self._copied(member, copies)
            elif isinstance(copy, (list, collections.deque)):
                for k, member in enumerate(copy):
                    copy[k] = self._copied(member, copies)
        return copies[id(value)]


def _is_owner(value):
    """Whether an object is of a class of the user's, which can be given attributes that answer by thread."""
    kind = type(value)
    is_users = reachable.has_attributes(value) and not reachable.is_library(
        reachable.module_of(kind)
    )
    return is_users and reachable.attributes(value) is not None and not isinstance(value, enum.Enum)


def _is_shown(owner, name):
    """Leaves out what Keras and TensorFlow keep for themselves."""
    is_keras = any(reachable.module_of(c).partition(".")[0] == "keras" for c in type(owner).__mro__)
    return not name.startswith("_" if is_keras else "_self_")


def _private_containers(places):
    """ids of the containers that only attributes of owners lead to, through other such containers at most."""
    held = collections.defaultdict(list)
    for place in places:
        if is_container(place.value):
            held[id(place.value)].append(place)
    private = set(held)
    while True:
        shared = {i for i in private if not all(_is_private(place, private) for place in held[i])}
        if not shared:
            return private
        private -= shared


def _is_private(place, private):
    if place.link == "attribute":
        return _is_owner(place.owner) and _is_shown(place.owner, place.key)
    return (
        place.link == "item"
        and id(place.owner) in private
        and not isinstance(place.owner, np.ndarray)
    )
