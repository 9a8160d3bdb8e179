"""Every planted defect caught and named, no healthy model accused; prints the two numbers.

`python -m pytest -m sweep` does the same at ten seeds. A case of these corpora
that fails is a release blocker: find its cause, loosen nothing.
"""

import math

import pytest

from gradhooks import Verdict
from gradhooks.model import keras_internals
from tests import innocents, judging, mutants, tally

SEEDS = range(10)


def seeds(cases):
    """Every case at one seed by default, at the other nine in the sweep; large architectures count as slow."""
    for case in cases:
        yield pytest.param(case, 0, id=f"{case.name}-0", marks=[pytest.mark.slow] if case.large else [])
        for seed in SEEDS[1:]:
            yield pytest.param(case, seed, id=f"{case.name}-{seed}", marks=pytest.mark.sweep)


@pytest.mark.parametrize(("case", "seed"), seeds([*mutants.CASES, *mutants.TRAIN_STEPS]))
def test_a_mutant_is_caught_and_named(case, seed):
    report, (model, *_) = judging.examined(case, seed)
    ok = report.verdict is Verdict.FAIL and judging.is_named(case, report)
    tally.note("mutant", case, seed, report, model, ok)
    assert report.verdict is Verdict.FAIL, f"{case.note}\n{report}"
    assert judging.is_named(case, report), f"the culprit is {case.culprit}\n{report}"


@pytest.mark.parametrize(("case", "seed"), seeds(mutants.UNREACHED))
def test_weights_that_no_loss_reaches_are_named(case, seed):
    report = judging.judged(case, seed)
    assert report.verdict is not Verdict.FAIL, report
    assert any("no loss reaches" in note and case.culprit in note for note in report.notes), report


@pytest.mark.parametrize(("case", "seed"), seeds([*innocents.CASES, *innocents.TWINS]))
def test_an_innocent_is_not_accused(case, seed):
    report, (model, *_) = judging.examined(case, seed)
    ok = report.verdict is not Verdict.FAIL
    tally.note("innocent", case, seed, report, model, ok)
    assert ok, f"{case.note}\n{report}"
    received = report.relative_difference["trained"]
    if keras_internals.training_dtype(model) == "float32" and not case.options and not math.isnan(received):
        assert received < tally.TRAINED_LIMIT, report
