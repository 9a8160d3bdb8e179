"""Plain data in attributes of the user's objects: the checking thread uses copies of it.

Counters, flags, caches and lists are what threads share. Other threads do not
see what a check does to them, and a check does not undo what other threads do
meanwhile. Data that can also be reached in another way are not copied, since
the two ways would then lead to different objects; snapshots are taken of them.
"""

import collections
import enum

import numpy as np

from gradhooks.isolation import objects, threads

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
    """Returns whether an object is an array, or a container that can be copied by its members."""
    if type(value) is np.ndarray:
        return value.nbytes <= objects.LARGE
    return type(value) in _CONTAINERS


class PrivateData:
    """Shows the checking thread copies of plain data in attributes.

    Args:
        stack: The `contextlib.ExitStack` whose end is the end of the copies.
        places: All places, with every place of a container, see `reachable`.

    Attributes:
        names: dict of ids of objects to the names of their attributes that are copies.
        containers: ids of the containers that are copied, and so need no snapshot.
    """

    def __init__(self, stack, places):
        self.containers = _find_private_containers(places)
        self._attributes = self._find_attributes(places)
        self.names = collections.defaultdict(set)
        patch = threads.Patcher(stack)
        for owner, name, value in self._attributes:
            if name not in self.names[id(owner)]:
                self.names[id(owner)].add(name)
                patch(owner, name, value)
        self.renew()

    def _find_attributes(self, places):
        """Returns a list of (owner, name, value) of the attributes that are copied."""
        attributes = []
        for owner in [place.value for place in places if _can_be_patched(place.value)]:
            for name, value in objects.attributes(owner).items():
                is_data = objects.is_plain(value) or id(value) in self.containers
                if is_data and _is_users_attribute(owner, name):
                    attributes.append((owner, name, value))
        return attributes

    def renew(self):
        """Begins with fresh copies."""
        copies = {}
        for owner, name, value in self._attributes:
            threads.update_patch(owner, name, self._copy(value, copies))

    def _copy(self, value, copies):
        """Returns a copy of a private container and of those inside of it; others as they are."""
        if id(value) not in self.containers:
            return value
        if id(value) not in copies:
            copies[id(value)] = copy = value.copy()
            if isinstance(copy, dict):
                for key, member in copy.items():
                    copy[key] = self._copy(member, copies)
            elif isinstance(copy, (list, collections.deque)):
                for k, member in enumerate(copy):
                    copy[k] = self._copy(member, copies)
        return copies[id(value)]


def _can_be_patched(value):
    """Returns whether an object is of a class of the user's, and has attributes of its own."""
    if not objects.has_attributes(value) or objects.attributes(value) is None:
        return False
    is_users = not objects.is_library(objects.module_of(type(value)))
    return is_users and not isinstance(value, enum.Enum)


def _is_users_attribute(owner, name):
    """Returns whether an attribute is none that Keras and TensorFlow keep to themselves."""
    roots = {objects.module_of(kind).partition(".")[0] for kind in type(owner).__mro__}
    return not name.startswith("_" if "keras" in roots else "_self_")


def _find_private_containers(places):
    """Returns the ids of the containers that only attributes of the user's objects lead to.

    Between the attribute and the container there may be other such containers.
    """
    places_of = collections.defaultdict(list)
    for place in places:
        if is_container(place.value):
            places_of[id(place.value)].append(place)
    private = set(places_of)
    while True:
        shared = set()
        for container in private:
            if not all(_is_private(place, private) for place in places_of[container]):
                shared.add(container)
        if not shared:
            return private
        private -= shared


def _is_private(place, private):
    """Returns whether a place is in an attribute of the user's, or in a private container."""
    owner = place.owner
    if place.link == "attribute":
        return _can_be_patched(owner) and _is_users_attribute(owner, place.key)
    if place.link != "item" or isinstance(owner, np.ndarray):
        return False
    return id(owner) in private
