"""What is said of a fault: true of every kind, and not of what is wrong in a similar way.

By default this looks at one network a kind, at the place of the fault. With `-m sweep`
every network is checked as a whole, at three seeds, and so is its healthy twin.
"""

import keras
import pytest
from keras import layers

import gradhooks
from gradhooks import Verdict
from tests.characterizing import measuring
from tests.characterizing.cases import CASES, Two
from tests.corpora import corpus
from tests.corpora.mutants import planted

SEEDS = range(3)
# Evaluations that may be spent on what is said beside the place; one more to take the values, and
# as many for each further call, and for the other mode.
MOST_EVALUATIONS = 41 + 4 * 6
# Of these the place is a weight, which only a whole check knows.
OF_A_WEIGHT = ("weight_factor", "weight_unit", "transposed_kernel")
FIRST = {case.kind: case for case in reversed(CASES) if case.host == "mlp" and case.words}

unoptimized = pytest.mark.usefixtures("unoptimized")


def is_of_a_weight(case):
    return case.name.startswith(OF_A_WEIGHT)


def assert_said(case, said):
    for word in case.words:
        assert word in said, f"{case.name}: {said!r}"
    for word in case.others:
        assert word not in said, f"{case.name}: {said!r}"
    if not case.words and not case.others:
        assert said == "", case.name


@unoptimized
@pytest.mark.parametrize("case", [c for c in FIRST.values() if not is_of_a_weight(c)], ids=str)
def test_what_is_wrong_is_said(case):
    said, evaluations = measuring.describe(case, 0)
    assert_said(case, said)
    assert evaluations <= MOST_EVALUATIONS


@unoptimized
@pytest.mark.sweep
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_report_says_what_is_wrong(case, seed):
    keras.utils.clear_session(free_memory=False)
    report = gradhooks.check_gradients(*case.build(seed), seed=seed)
    assert report.verdict is Verdict.FAIL
    assert report.culprit is not None
    assert report.culprit.path.endswith("planted")
    assert_said(case, report.culprit.finding)
    assert report.culprit.finding in report.culprit.sentence


@unoptimized
@pytest.mark.sweep
@pytest.mark.parametrize("case", [c for c in CASES if not is_of_a_weight(c)], ids=str)
def test_of_a_healthy_twin_nothing_is_said(case):
    with planted.healthy():
        said, _ = measuring.describe(case, 0)
    assert said == ""


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@unoptimized
@pytest.mark.sweep
def test_of_two_branches_the_blocked_one_is_told():
    rng = corpus.seeded(0)
    x = keras.Input((6,))
    left, right = layers.Dense(5, name="left")(x), layers.Dense(5, name="right")(x)
    product = planted.function(lambda x, y: x * (1 + y), lambda g, x, y: g * (1 + y))
    merged = Two(product, name="planted")(left, right)
    model = corpus.compiled(keras.Model(x, layers.Dense(2, name="head")(merged)))
    batch = corpus.features(rng, 16, 6), corpus.features(rng, 16, 2)
    report = gradhooks.check_gradients(model, *batch)
    assert report.culprit is not None
    assert report.culprit.path.endswith("planted")
    assert "nothing is let through to float input 2 of 2" in report.culprit.finding
