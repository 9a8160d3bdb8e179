"""Which tests the default run leaves out, by what they cost."""

import pytest

from tools import durations

SLOW, SLOWEST = durations.SLOW, durations.SLOWEST_REPRESENTATIVE


@pytest.mark.parametrize(
    ("seconds", "slow"),
    [
        pytest.param({"a": SLOW, "b": SLOW}, set(), id="cheap"),
        pytest.param({"a": SLOW, "b": 2 * SLOW}, {"b"}, id="one is slow"),
        pytest.param({"a": SLOWEST, "b": SLOWEST + 1}, {"b"}, id="the cheapest stays"),
        pytest.param({"a": SLOWEST + 1, "b": SLOWEST + 2}, {"a", "b"}, id="unless it costs a lot"),
        pytest.param({"b": 2 * SLOW}, {"b"}, id="an unknown test is cheap"),
    ],
)
def test_slow_tests_of_one_kind(seconds, slow):
    assert durations.find_slow_tests({"a": "kind", "b": "kind"}, seconds) == slow


def test_each_kind_keeps_a_test():
    kinds = {"a": "one", "b": "one", "c": "other"}
    assert durations.find_slow_tests(kinds, {"a": 1.0, "b": 2.0, "c": 3.0}) == {"b"}


def test_stored_durations_are_of_tests():
    stored = durations.read()
    assert all("::" in test_id for test_id in stored)
    assert all(spent >= durations.SHORTEST for spent in stored.values())
