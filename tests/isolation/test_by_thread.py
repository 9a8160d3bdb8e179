"""Patches that one thread sees, and no other."""

import contextlib
import threading

import pytest

from gradhooks.isolation import threads


class Base:
    kind = "base"

    def __init__(self):
        self.held = "held"

    def call(self):
        return "base"

    @property
    def worked_out(self):
        return "worked out"


class Derived(Base):
    def call(self):
        return "derived, " + super().call()


class Slotted:
    __slots__ = ("held",)

    def __init__(self):
        self.held = "held"


def elsewhere(function):
    """Returns what a function returns in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("make", [Base, Derived, Slotted])
def test_an_attribute_is_patched_for_one_thread(make):
    owner = make()
    before = dict(vars(make))
    with contextlib.ExitStack() as stack:
        threads.Patcher(stack)(owner, "held", "patched")
        assert (owner.held, elsewhere(lambda: owner.held)) == ("patched", "held")
        owner.held = "written here"
        assert (owner.held, elsewhere(lambda: owner.held)) == ("written here", "held")
        elsewhere(lambda: setattr(owner, "held", "written there"))
        assert (owner.held, elsewhere(lambda: owner.held)) == ("written here", "written there")
    assert owner.held == "written there"
    assert dict(vars(make)) == before


def test_a_method_is_patched_and_super_still_leads_to_the_class():
    owner, other = Derived(), Base()
    with threads.open_patcher() as patch:
        original = owner.call
        patch(owner, "call", lambda: "patched, " + original())
        patch(other, "call", lambda: "another")
        assert owner.call() == "patched, derived, base"
        assert other.call() == "another"
        assert (Derived().call(), Base().call()) == ("derived, base", "base")
        assert elsewhere(owner.call) == "patched, derived, base"  # bound here, and called there
        assert elsewhere(lambda: owner.call()) == "derived, base"
    assert owner.call() == "derived, base"


def test_a_patch_can_be_deleted_and_a_new_attribute_can_be_patched():
    owner = Base()
    with threads.open_patcher() as patch:
        patch(owner, "held", "patched")
        patch(owner, "new", "new")
        del owner.held
        assert not hasattr(owner, "held")
        assert owner.new == "new"
        assert elsewhere(lambda: (owner.held, hasattr(owner, "new"))) == ("held", False)
        assert owner.kind == "base"
    assert (owner.held, hasattr(owner, "new")) == ("held", False)


def test_a_property_is_patched_too():
    owner = Base()
    with contextlib.ExitStack() as stack:
        threads.Patcher(stack)(owner, "worked_out", "patched")
        assert (owner.worked_out, Base().worked_out) == ("patched", "worked out")
        assert elsewhere(lambda: owner.worked_out) == "worked out"
    assert isinstance(vars(Base)["worked_out"], property)


def test_the_last_patch_counts_and_is_undone_first():
    owner = Base()
    with contextlib.ExitStack() as outer:
        threads.Patcher(outer)(owner, "held", 1)
        with contextlib.ExitStack() as inner:
            threads.Patcher(inner)(owner, "held", 2)
            assert owner.held == 2
        assert owner.held == 1


def function():
    return "everybody's"


def test_a_function_is_patched_however_it_was_imported():
    held, code = function, function.__code__
    with threads.take_turn(), threads.patch_function(function, lambda: "own"):
        assert (held(), elsewhere(held)) == ("own", "everybody's")
        with threads.patch_function(function, lambda: "inner"):
            assert (held(), elsewhere(held)) == ("inner", "everybody's")
        assert held() == "own"
    assert (held(), function.__code__, function.__kwdefaults__) == ("everybody's", code, None)


def test_two_threads_take_turns():
    owner, seen = Base(), []

    def show(value):
        with contextlib.ExitStack() as stack:
            threads.Patcher(stack)(owner, "held", value)
            for _ in range(200):
                seen.append(owner.held == value)

    crowd = [threading.Thread(target=show, args=(k,)) for k in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert all(seen)
    assert owner.held == "held"


def test_an_exception_undoes_every_patch():
    owner, before = Base(), dict(vars(Base))

    def interrupted():
        with contextlib.ExitStack() as stack:
            threads.Patcher(stack)(owner, "held", 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert owner.held == "held"
    assert dict(vars(Base)) == before
    assert not threads.is_checking()
