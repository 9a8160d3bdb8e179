"""What checks say stays what it was frozen as: see `tools.snapshot`."""

import json

import pytest

from tools import snapshot

FROZEN = json.loads(snapshot.FILE.read_text(encoding="utf-8"))
CASES = [name for name in FROZEN if name.startswith("case: ")]
# The corpora run these cases too, so that one of them is enough by default.
SOME = [CASES[0], *(pytest.param(name, marks=pytest.mark.slow_cases) for name in CASES[1:])]


def test_functions_are_judged_as_they_were():
    found = dict(snapshot.said_of_functions())
    assert len(found) == 40
    assert not snapshot.differences(found, is_exact=False)


def test_there_are_sixty_cases():
    assert len(CASES) == snapshot.SMALL_CASES


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("name", SOME)
def test_a_case_is_judged_as_it_was(name):
    found = dict(snapshot.said_of_cases({name}))
    assert [*found] == [name]
    assert not snapshot.differences(found, is_exact=False)


def test_a_difference_is_seen():
    name, said = next(snapshot.said_of_functions())
    assert snapshot.differences({name: said | {"verdict": "another"}}, is_exact=False) == [name]
