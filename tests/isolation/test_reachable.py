"""Python numbers are told apart by what holds them, where their places have one name in words."""

import functools

import pytest

from gradhooks.isolation import reachable


class Holder:
    """Holds a number."""

    def __init__(self, number):
        self.number = number


def of_keys(one, other):
    return {one: "first", other: "second"}


def of_members(one, other):
    return {one, other}


def of_defaults(one, other):
    def function(first=one, second=other):
        return first, second

    return function


def of_arguments(one, other):
    return functools.partial(print, one, other)


@pytest.mark.parametrize("hold", [of_keys, of_members, of_defaults, of_arguments])
def test_numbers_at_places_of_one_name_are_told_apart(hold):
    one, other = Holder(1.0), Holder(2.0)
    places = reachable.find_places({"model": hold(one, other)})

    def numbers():
        found = reachable.find_numbers(places)
        return {key: place.value for key, (place, _) in found.items() if key[2] == "number"}

    before = numbers()
    assert sorted(before.values()) == [1.0, 2.0]
    other.number = 3.0
    after = numbers()
    assert [after[key] for key in before if after[key] != before[key]] == [3.0]
