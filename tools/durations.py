"""What each test costs: run `python -m tools.durations [arguments of pytest]`.

Runs pytest with this module as a plugin and stores the CPU seconds of every test
(setup, call and teardown, with the child processes that ended meanwhile) in
`tests/durations.json`. CPU time, unlike elapsed time, hardly depends on what
else the machine does. Tests that did not run keep the figure that they had.
`tests/conftest.py` reads that file to decide which tests are in the tier
`slow_cases`."""

import collections
import json
import os
import pathlib
import sys

import pytest

FILE = pathlib.Path(__file__).parents[1] / "tests" / "durations.json"
# Tests below this many CPU seconds are left out of the file: they are cheap, and many.
SHORTEST = 0.1
# CPU seconds that the tests of one kind may take in the default run. A free choice: with it the
# default tests cost about 440 CPU seconds, which with start-up is less than five minutes on two
# cores.
SECONDS_PER_KIND = 0.5
# The cheapest test of a kind stays in the default run up to this many CPU seconds, so that every
# kind of thing is tested there. A free choice, as above.
SLOWEST_REPRESENTATIVE = 2.5

_STARTED = pytest.StashKey[float]()
_PROPERTY = "cpu_seconds"


def read():
    """Returns the stored CPU seconds by test id."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def find_slow_tests(kinds, seconds):
    """Returns the ids of the tests that the default run leaves out.

    Args:
        kinds: dict from test id, such as `tests/test_check.py::test_a_layer[dense]`, to
            its kind: tests of one kind test the same thing on different cases.
        seconds: CPU seconds by test id. A test without an entry counts as free.

    Returns:
        set of ids: the tests of a kind but for the cheapest ones, which together take up
        to `SECONDS_PER_KIND`. The cheapest stays up to `SLOWEST_REPRESENTATIVE`.
    """
    by_kind = collections.defaultdict(list)
    for test_id, kind in kinds.items():
        by_kind[kind].append(test_id)
    slow = set()
    for test_ids in by_kind.values():
        spent = 0.0
        for place, test_id in enumerate(sorted(test_ids, key=lambda i: (seconds.get(i, 0.0), i))):
            spent += seconds.get(test_id, 0.0)
            limit = SLOWEST_REPRESENTATIVE if place == 0 else SECONDS_PER_KIND
            if spent > limit:
                slow.add(test_id)
    return slow


def _cpu_seconds():
    """CPU seconds of this process so far, with those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Notes the CPU time at which a test begins."""
    item.stash[_STARTED] = _cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the CPU seconds of a test to its last report, with which they reach the main process."""
    if call.when == "teardown":
        spent = _cpu_seconds() - item.stash[_STARTED]
        item.user_properties.append((_PROPERTY, round(spent, 2)))
    return (yield)


class Recorder:
    """Collects the CPU seconds of the tests that have run, and stores them at the end."""

    def __init__(self):
        self.seconds = {}

    def pytest_runtest_logreport(self, report):
        """Takes the figure out of a test's last report."""
        spent = dict(report.user_properties).get(_PROPERTY)
        if report.when == "teardown" and spent is not None:
            self.seconds[report.nodeid] = spent

    def pytest_sessionfinish(self):
        """Writes the file; figures of tests that did not run stay as they were."""
        everything = read() | self.seconds
        kept = {name: spent for name, spent in everything.items() if spent >= SHORTEST}
        FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=0) + "\n", encoding="utf-8")


def main():
    """Runs pytest with this module as a plugin."""
    return pytest.main(["-p", "tools.durations", *sys.argv[1:]])


def pytest_configure(config):
    """Only the process that the workers report to writes the file."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(), "durations-recorder")


if __name__ == "__main__":
    sys.exit(main())
