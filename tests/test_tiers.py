"""Which tests the default run leaves out, by what they cost."""

import pytest

from tools import durations

SOME, MOST = durations.SECONDS_PER_KIND, durations.SLOWEST_REPRESENTATIVE


@pytest.mark.parametrize(
    ("seconds", "slow"),
    [
        pytest.param({"a": SOME / 2, "b": SOME / 2}, set(), id="cheap"),
        pytest.param({"a": SOME / 2, "b": SOME}, {"b"}, id="too much together"),
        pytest.param({"a": SOME, "b": SOME / 2}, {"a"}, id="the cheapest come first"),
        pytest.param({"a": MOST, "b": MOST + 1}, {"b"}, id="the cheapest stays"),
        pytest.param({"a": MOST + 1, "b": MOST + 2}, {"a", "b"}, id="unless it costs a lot"),
        pytest.param({"b": 2 * SOME}, {"b"}, id="an unknown test is free"),
    ],
)
def test_slow_tests_of_one_kind(seconds, slow):
    assert durations.find_slow_tests({"a": "kind", "b": "kind"}, seconds) == slow


def test_each_kind_keeps_a_test():
    kinds = {"a": "one", "b": "one", "c": "other"}
    seconds = {"a": 1.0, "b": 2.0, "c": MOST}
    assert durations.find_slow_tests(kinds, seconds) == {"b"}


def test_stored_durations_are_of_tests():
    stored = durations.read()
    assert all("::" in test_id for test_id in stored)
    assert all(spent >= durations.SHORTEST for spent in stored.values())
