"""A check that fails costs at most three times the evaluations of one that passes one by one.

That is, without pools: they make a pass cheaper, and a failure is taken apart.
"""

from unittest import mock

import pytest

from gradhooks import Verdict
from gradhooks.model.oracle import ModelOracle
from tests.corpora import controls, judging, mutants

# A promise of `docs/cost.md`.
MOST_EVALUATIONS = 3
# Every so many of the cases that are quick enough is in the default run.
EVERY = 40


def pairs():
    """Every mutant with its healthy twin; a sample of the small ones without the mark."""
    small = [c.name for c in mutants.CASES if not (c.large or c.chaotic or c.needs)]
    sample = set(small[::EVERY])
    for mutant, twin in zip(mutants.CASES, controls.TWINS, strict=True):
        if mutant.chaotic:
            continue
        marks = [] if mutant.name in sample else [pytest.mark.sweep]
        yield pytest.param(mutant, twin, id=mutant.name, marks=marks)


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize(("mutant", "twin"), list(pairs()))
def test_a_failure_costs_at_most_three_times_a_pass(mutant, twin):
    failed = judging.check_case(mutant, 0)
    with mock.patch.object(ModelOracle, "pooling_groups", ()):
        passed = judging.check_case(twin, 0)
    assert failed.verdict is Verdict.FAIL
    assert failed.evaluations <= MOST_EVALUATIONS * passed.evaluations
