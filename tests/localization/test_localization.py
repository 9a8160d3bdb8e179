"""After a failure the report names the place of the fault, and never a healthy one.

By default this runs the quick networks at one seed; with `-m sweep` all of them at five.
`python -m tools.localization` prints what is named.
"""

from unittest import mock

import pytest

from gradhooks import Verdict
from gradhooks.model.oracle import ModelOracle
from tests.localization import judging
from tests.localization.cases import CASES, GROUPS

OTHER_SEEDS = range(1, 5)
# A failure may cost this many times the evaluations of a pass: a promise of the documentation.
MOST_EVALUATIONS = 3

unoptimized = pytest.mark.usefixtures("unoptimized")


def is_quick(case):
    """Whether a case runs by default: dense layers alone, and the first of each group."""
    return case.host == "mlp" or GROUPS[case.group] is case


def by_tier(cases):
    """Every case; what is not quick is for the sweep."""
    parameters = []
    for case in cases:
        marks = () if is_quick(case) else pytest.mark.sweep
        parameters.append(pytest.param(case, id=case.name, marks=marks))
    return parameters


def assert_place_is_named(case, seed):
    outcome = judging.check(case, seed)
    assert outcome.verdict is Verdict.FAIL, outcome.report
    allowed = (judging.RIGHT,) if case.must_be_named else (judging.RIGHT, judging.NONE)
    assert outcome.word in allowed, (
        f"seed {seed}: {outcome.found} is named, the fault is in {outcome.expected}, "
        f"call {case.call}\n{outcome.report}"
    )
    return outcome.report


def assert_twin_is_healthy(case, seed):
    report = judging.check_twin(case, seed)
    assert report.verdict is not Verdict.FAIL, report
    assert judging.found_in(report) is None
    return report


@unoptimized
@pytest.mark.parametrize("case", by_tier(CASES))
def test_the_place_of_a_fault_is_named(case):
    assert_place_is_named(case, 0)


@unoptimized
@pytest.mark.parametrize("case", GROUPS.values(), ids=list(GROUPS))
def test_in_a_healthy_twin_no_place_is_named(case):
    assert_twin_is_healthy(case, 0)


@pytest.mark.sweep
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_failure_costs_at_most_three_times_a_pass(case):
    failed = assert_place_is_named(case, 0)
    # One by one: pools make a pass cheaper, and a failure is taken apart.
    with mock.patch.object(ModelOracle, "pooling_groups", ()):
        passed = assert_twin_is_healthy(case, 0)
    assert failed.evaluations <= MOST_EVALUATIONS * passed.evaluations


@pytest.mark.sweep
@pytest.mark.parametrize("seed", OTHER_SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_place_of_a_fault_is_named_at_every_seed(case, seed):
    assert_place_is_named(case, seed)


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
