"""Every test of this folder records what happened in it, for `python -m tools.outcomes`."""

import pytest

from tests.runs import training


@pytest.fixture(autouse=True)
def outcome(record_property, request):
    """Records the outcome of the training runs in a test, once it is over."""
    training.NOTED.clear()
    yield
    happened = training.outcome(training.NOTED)
    if happened and request.path.name != "test_table.py":
        record_property("outcome", happened)
    training.NOTED.clear()
