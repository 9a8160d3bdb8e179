"""Every planted defect is caught and named, and no healthy model fails.

`python -m pytest -m sweep` does the same at ten seeds, `python -m tools.tally` counts.
A case of these corpora that fails blocks a release: find its cause, do not loosen
a threshold.
"""

import math

import pytest

from gradhooks import Verdict
from gradhooks.model import keras_internals
from tests.corpora import controls, judging, mutants
from tools import tally

OTHER_SEEDS = range(1, 10)
MUTANTS = [*mutants.CASES, *mutants.TRAIN_STEPS]
CONTROLS = [*controls.CASES, *controls.TWINS]

unoptimized = pytest.mark.usefixtures("unoptimized")


def once(cases):
    """Every case."""
    return [pytest.param(case, id=case.name) for case in cases]


def swept(cases):
    """Every case, for the sweep over the other seeds."""
    return [pytest.param(case, id=case.name, marks=pytest.mark.sweep) for case in cases]


def assert_caught(case, seed):
    report, (model, *_) = judging.check_case_with_model(case, seed)
    ok = report.verdict is Verdict.FAIL and judging.is_named(case, report)
    tally.note("mutant", case, seed, report, model, ok)
    assert report.verdict is Verdict.FAIL, f"seed {seed}: {case.note}\n{report}"
    assert judging.is_named(case, report), (
        f"seed {seed}: the wrong layer is {case.culprit}\n{report}"
    )


def assert_named_as_unreached(case, seed):
    report = judging.check_case(case, seed)
    assert report.verdict is not Verdict.FAIL, report
    assert any("no loss reaches" in note and case.culprit in note for note in report.notes), report


def assert_not_failed(case, seed):
    report, (model, *_) = judging.check_case_with_model(case, seed)
    ok = report.verdict is not Verdict.FAIL
    tally.note("control", case, seed, report, model, ok)
    assert ok, f"seed {seed}: {case.note}\n{report}"
    trained = report.relative_difference["trained"]
    is_close = (
        keras_internals.training_dtype(model) == "float32" and not case.options and not case.chaotic
    )
    if is_close and not math.isnan(trained):
        assert trained < tally.TRAINED_LIMIT, report


def assert_at_other_seeds(judge, case):
    """Judges a case at every seed but the first; the error names every seed that went wrong."""
    wrong = []
    with judging.compiled_once(), judging.verdicts_alone():
        for seed in OTHER_SEEDS:
            try:
                judge(case, seed)
            except AssertionError as error:
                wrong.append(f"seed {seed}: {error}")
    assert not wrong, "\n".join(wrong)


@unoptimized
@pytest.mark.parametrize("case", once(MUTANTS))
def test_a_mutant_is_caught_and_named(case):
    assert_caught(case, 0)


@unoptimized
@pytest.mark.parametrize("case", once(mutants.UNREACHED))
def test_weights_that_no_loss_reaches_are_named(case):
    assert_named_as_unreached(case, 0)


@unoptimized
@pytest.mark.parametrize("case", once(CONTROLS))
def test_a_control_does_not_fail(case):
    assert_not_failed(case, 0)


@pytest.mark.parametrize("case", swept(MUTANTS))
def test_a_mutant_is_caught_and_named_at_every_seed(case):
    assert_at_other_seeds(assert_caught, case)


@pytest.mark.parametrize("case", swept(mutants.UNREACHED))
def test_weights_that_no_loss_reaches_are_named_at_every_seed(case):
    assert_at_other_seeds(assert_named_as_unreached, case)


@pytest.mark.parametrize("case", swept(CONTROLS))
def test_a_control_does_not_fail_at_any_seed(case):
    assert_at_other_seeds(assert_not_failed, case)
