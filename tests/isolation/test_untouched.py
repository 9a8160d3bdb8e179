"""Whatever code changes in reach of some objects is restored, unseen by other threads."""

import collections
import contextvars
import dataclasses
import functools
import itertools
import random
import threading
import types

import numpy as np
import pytest

from gradhooks.isolation import reachable
from gradhooks.isolation.draws import copy_generators
from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.isolation.untouched import Untouched

TABLE = {"known": 1}
TOTAL = 0
CURRENT = contextvars.ContextVar("CURRENT", default=0)


@functools.lru_cache
def squares(n):
    return np.arange(n) ** 2


@functools.cache
def cubes(n):
    return n**3


class Plain:
    seen = 0
    shared = {}

    def __init__(self):
        self.list, self.dict, self.set = [1, [2]], {"a": {"b": 1}}, {1}
        self.array, self.object_array = np.zeros(3), np.array([None, 1], dtype=object)
        self.deque, self.ordered = (
            collections.deque([1], maxlen=3),
            collections.OrderedDict(a=1, b=2),
        )
        self.counter, self.bytes = collections.Counter("aab"), bytearray(b"abc")
        self.python, self.numpy, self.legacy = (
            random.Random(1),
            np.random.default_rng(1),
            np.random.RandomState(1),
        )
        self.count, self.iterator = itertools.count(5), iter([1, 2, 3])
        self.generator = (k for k in range(3))
        self.namespace, self.local = types.SimpleNamespace(x=1), threading.local()
        self.pair = Pair(1, [2])
        self.partial, self.tuple = functools.partial(cubes, 2), (1, cubes)

    @functools.cached_property
    def worked_out(self):
        return object()

    @functools.lru_cache  # noqa: B019
    def remembered(self, n):
        return n

    @staticmethod
    @functools.lru_cache
    def remembered_by_none(n):
        return n

    @property
    def through_a_property(self):
        return squares(4)


@dataclasses.dataclass
class Pair:
    one: int
    many: list


class Slotted:
    __slots__ = ("__private", "filled", "later")

    def __init__(self):
        self.filled, self.__private = 1, [1]

    def write(self):
        self.filled, self.later, self.__private = 2, 3, 4

    def read(self):
        return self.filled, getattr(self, "later", None), self.__private


def counting():
    n, kept = 0, []

    def count(step=1, *, extra={}):  # noqa: B006
        nonlocal n
        n += step
        kept.append(n)
        extra[n] = True
        count.calls = n
        return n, len(kept), len(extra)

    return count


def write_globals():
    global TOTAL
    TOTAL += 1
    TABLE["new"] = 2
    Plain.shared["new"] = 1
    Plain.seen += 1


WRITES = {
    "a new attribute": lambda o: setattr(o, "new", 1),
    "an attribute": lambda o: setattr(o, "list", 1),
    "a deleted attribute": lambda o: delattr(o, "dict"),
    "an inner list": lambda o: o.list[1].append(3),
    "an inner dict": lambda o: o.dict["a"].clear(),
    "a set": lambda o: o.set.add(2),
    "an array": lambda o: o.array.__setitem__(1, 5.0),
    "an array of objects": lambda o: o.object_array.__setitem__(0, "x"),
    "a deque": lambda o: o.deque.appendleft(9),
    "an order": lambda o: o.ordered.move_to_end("a"),
    "a counter": lambda o: o.counter.update("zz"),
    "bytes": lambda o: o.bytes.extend(b"d"),
    "Python's random numbers": lambda o: o.python.random(),
    "NumPy's random numbers": lambda o: o.numpy.normal(),
    "NumPy's older random numbers": lambda o: o.legacy.normal(),
    "a count": lambda o: next(o.count),
    "an iterator": lambda o: next(o.iterator),
    "a namespace": lambda o: setattr(o.namespace, "x", 2),
    "a dataclass": lambda o: o.pair.many.append(1),
    "what a thread holds": lambda o: setattr(o.local, "x", 1),
    "a cached property": lambda o: o.worked_out,
    "a method that remembers": lambda o: o.remembered(3),
    "a function that remembers": lambda o: o.through_a_property,
    "a static method that remembers": lambda o: o.remembered_by_none(1),
    "a partial of a function that remembers": lambda o: o.partial(),
    "a function that remembers in a tuple": lambda o: o.tuple[1](3),
}


STATEFUL = ("python", "numpy", "legacy", "iterator", "generator", "local", "partial", "tuple")


def state(o):
    """All that the writes above can change, as text."""
    return repr(
        [
            sorted((k, v) for k, v in vars(o).items() if k not in STATEFUL),
            o.python.getstate(),
            o.numpy.bit_generator.state,
            o.legacy.get_state(legacy=False),
            getattr(o.iterator, "_own", o.iterator).__reduce__(),
            vars(o.local),
            o.list,
            o.pair,
            squares.cache_info(),
            vars(Plain)["remembered"].cache_info(),
            cubes.cache_info(),
            Plain.remembered_by_none.cache_info(),
            {k: v for k, v in vars(Plain).items() if k in ("seen", "shared")},
            TABLE,
            TOTAL,
            CURRENT.get(),
        ]
    )


@pytest.fixture(autouse=True)
def _nothing_remembered():
    for cached in (squares, cubes, vars(Plain)["remembered"], Plain.remembered_by_none):
        cached.cache_clear()


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_is_put_back(name):
    o = Plain()
    before = state(o)
    with Untouched({"o": o}):
        WRITES[name](o)
    assert state(o) == before
    WRITES[name](o)
    assert state(o) != before  # the write is one


@pytest.mark.parametrize("name", WRITES)
def test_it_can_be_put_back_in_between(name):
    o = Plain()
    before = state(o)
    with Untouched({"o": o}) as context:
        WRITES[name](o)
        context.restore()
        inside = state(o)
        WRITES[name](o)
        context.restore()
        assert state(o) == inside
    assert state(o) == before


def test_slots_closures_defaults_and_globals():
    slotted, count = Slotted(), counting()
    roots = {"slotted": slotted, "count": functools.partial(count, step=2), "write": write_globals}
    before = slotted.read(), (TOTAL, dict(TABLE), Plain.seen, dict(Plain.shared), CURRENT.get())
    with Untouched(roots):
        slotted.write()
        assert roots["count"]() == (2, 1, 1)
        write_globals()
    assert (
        slotted.read(),
        (TOTAL, dict(TABLE), Plain.seen, dict(Plain.shared), CURRENT.get()),
    ) == before
    assert roots["count"]() == (2, 1, 1)


def test_context_variables_are_set_for_what_runs_alone():
    unset = contextvars.ContextVar("unset")
    with Untouched({}) as context:
        context.run(lambda: (CURRENT.set(7), unset.set(1)))
    assert (CURRENT.get(), unset.get("nothing")) == (0, "nothing")


def test_what_cannot_be_put_back_is_refused_before_it_is_advanced():
    o = Plain()
    with (
        pytest.raises(CannotRestoreError, match=r"Received: o\.generator, a generator"),
        Untouched({"o": o}),
    ):
        next(o.generator)
    assert list(o.generator) == [0, 1, 2]


def test_other_threads_keep_their_iterators_and_caches():
    o, found = Plain(), []
    squares.cache_clear()
    kept = squares(3)
    with Untouched({"o": o}):
        thread = threading.Thread(
            target=lambda: found.extend([next(o.generator), next(o.count), squares(3)])
        )
        thread.start()
        thread.join()
        assert squares(3) is not kept
    assert found[:2] == [0, 5]
    assert found[2] is kept


@pytest.mark.parametrize(
    ("module", "draw", "state_of"),
    [
        (random, lambda: random.gauss(0, 1), random.getstate),
        (np.random, np.random.normal, np.random.get_state),
    ],
    ids=["random", "numpy"],
)
def test_global_generators_are_drawn_from_by_others_only(module, draw, state_of):
    module.seed(3)
    expected = [module.random() for _ in range(3)]
    module.seed(3)
    found = []
    with copy_generators():
        assert module.random() == expected[0]
        for _ in range(3):
            thread = threading.Thread(target=lambda: found.append(module.random()))
            thread.start()
            thread.join()
        assert module.random() == expected[1]
    assert found == expected


def test_a_method_of_a_global_generator_draws_from_a_copy():
    held = [np.random.normal, random.random]
    before = repr((np.random.get_state(), random.getstate()))
    with Untouched({"held": held}):
        for draw in held:
            draw()
    assert repr((np.random.get_state(), random.getstate())) == before


def test_places_are_named():
    o = Plain()
    places = {
        id(place.value): str(place)
        for place in reachable.find_places({"o": o, "count": counting()})
    }
    assert places[id(o.list[1])] == "o.list[1]"
    assert places[id(o.dict["a"])] == "o.dict['a']"
    assert places[id(o.pair.many)] == "o.pair.many"
    assert "count.<kept of a closure>" in places.values()


def test_feeds_and_threads_are_left_alone():
    import keras

    class Feed(keras.utils.PyDataset):
        def __init__(self):
            super().__init__()
            self.served = []

    o = types.SimpleNamespace(feed=Feed(), thread=threading.Thread(target=print))
    with Untouched({"o": o}):
        o.feed.served.append(1)
        o.thread.name = "renamed"
    assert (o.feed.served, o.thread.name) == ([1], "renamed")


def test_what_is_left_in_something_opaque_is_named():
    kept = []
    holder = types.SimpleNamespace(view=types.MappingProxyType({"kept": kept}), other=1)
    with Untouched({"holder": holder}) as context:
        kept.append("foreign")
        kept_values = context.leftovers(lambda value: value == "foreign")
    assert kept_values == ["holder.view"]
