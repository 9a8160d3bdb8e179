"""Every planted defect caught and named, no healthy model accused; prints the two numbers.

`python -m pytest -m sweep` does the same at ten seeds. A case of these corpora
that fails is a release blocker: find its cause, loosen nothing.
"""

import math

import pytest

from gradhooks import Verdict
from gradhooks.model import keras_internals
from tests.corpora import controls, judging, mutants
from tools import tally

OTHER_SEEDS = range(1, 10)
GUILTY, HEALTHY = [*mutants.CASES, *mutants.TRAIN_STEPS], [*controls.CASES, *controls.TWINS]


unoptimized = pytest.mark.usefixtures("unoptimized")


def once(cases):
    """Every case."""
    return [pytest.param(case, id=case.name) for case in cases]


def swept(cases):
    """Every case, for the sweep over the other seeds."""
    return [pytest.param(case, id=case.name, marks=pytest.mark.sweep) for case in cases]


def assert_caught(case, seed):
    report, (model, *_) = judging.examined(case, seed)
    ok = report.verdict is Verdict.FAIL and judging.is_named(case, report)
    tally.note("mutant", case, seed, report, model, ok)
    assert report.verdict is Verdict.FAIL, f"seed {seed}: {case.note}\n{report}"
    assert judging.is_named(case, report), f"seed {seed}: the culprit is {case.culprit}\n{report}"


def assert_named_as_unreached(case, seed):
    report = judging.judged(case, seed)
    assert report.verdict is not Verdict.FAIL, report
    assert any("no loss reaches" in note and case.culprit in note for note in report.notes), report


def assert_not_accused(case, seed):
    report, (model, *_) = judging.examined(case, seed)
    ok = report.verdict is not Verdict.FAIL
    tally.note("innocent", case, seed, report, model, ok)
    assert ok, f"seed {seed}: {case.note}\n{report}"
    received = report.relative_difference["trained"]
    is_close = (
        keras_internals.training_dtype(model) == "float32" and not case.options and not case.chaotic
    )
    if is_close and not math.isnan(received):
        assert received < tally.TRAINED_LIMIT, report


def assert_at_other_seeds(judge, case):
    """Judges a case at every seed but the first, and tells all that went wrong."""
    wrong = []
    with judging.compiled_once():
        for seed in OTHER_SEEDS:
            try:
                judge(case, seed)
            except AssertionError as error:
                wrong.append(f"seed {seed}: {error}")
    assert not wrong, "\n".join(wrong)


@unoptimized
@pytest.mark.parametrize("case", once(GUILTY))
def test_a_mutant_is_caught_and_named(case):
    assert_caught(case, 0)


@unoptimized
@pytest.mark.parametrize("case", once(mutants.UNREACHED))
def test_weights_that_no_loss_reaches_are_named(case):
    assert_named_as_unreached(case, 0)


@unoptimized
@pytest.mark.parametrize("case", once(HEALTHY))
def test_an_innocent_is_not_accused(case):
    assert_not_accused(case, 0)


@pytest.mark.parametrize("case", swept(GUILTY))
def test_a_mutant_is_caught_and_named_at_every_seed(case):
    assert_at_other_seeds(assert_caught, case)


@pytest.mark.parametrize("case", swept(mutants.UNREACHED))
def test_weights_that_no_loss_reaches_are_named_at_every_seed(case):
    assert_at_other_seeds(assert_named_as_unreached, case)


@pytest.mark.parametrize("case", swept(HEALTHY))
def test_an_innocent_is_not_accused_at_any_seed(case):
    assert_at_other_seeds(assert_not_accused, case)
