"""What a train step did to the gradient, in words."""

import math
import warnings

import numpy as np
import pytest

from gradhooks.numerics import training, training_diagnosis
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.training import Received

LAYOUT = Layout(("first", "second", "third"), ((30,), (30,), (5,)))
RNG = np.random.default_rng(1)
ANALYTIC = RNG.normal(size=65)
DATA = ANALYTIC - np.concatenate([0.3 * RNG.normal(size=30), np.zeros(35)])
FIRST, SECOND, THIRD = (LAYOUT.slice(v) for v in range(3))


def replaced(part, values):
    trained = ANALYTIC.copy()
    trained[part] = values
    return trained


def diagnosed(trained, reached=(True, True, True), dtype="float32", analytic=ANALYTIC, has_noise=False, data=None):
    received = Received(LAYOUT, analytic, trained, np.array(reached))
    comparisons = training.compare(received, (), dtype)
    return training_diagnosis.diagnose(LAYOUT, received, data, comparisons, dtype, 8, has_noise)


SWAPPED = np.concatenate([ANALYTIC[SECOND], ANALYTIC[FIRST], ANALYTIC[THIRD]])
NORM = float(np.linalg.norm(ANALYTIC))
EACH = np.concatenate([0.01 * ANALYTIC[p] / np.linalg.norm(ANALYTIC[p]) for p in (FIRST, SECOND, THIRD)])
# (what the optimizer received, arguments, words of the first diagnosis, its path)
TABLE = {
    "halved": (ANALYTIC / 2, {}, "halved", "third"),
    "doubled": (2 * ANALYTIC, {}, "applied twice", "third"),
    "reversed": (-ANALYTIC, {}, "sign", "third"),
    "mean over the batch": (ANALYTIC / 8, {}, "one over the batch", "third"),
    "sum over the batch": (8 * ANALYTIC, {}, "a sum where a mean belongs", "third"),
    "scaled": (2.0**15 * ANALYTIC, {}, "2**15", "third"),
    "by some factor": (1.7 * ANALYTIC, {}, "1.7 times", "third"),
    "clipped by value": (np.clip(ANALYTIC, -0.25, 0.25), {}, "clipped by value to +-0.25", "third"),
    "clipped by norm": (0.5 * ANALYTIC / NORM, {}, "clipped to the norm 0.5", "third"),
    "clipped one by one": (EACH, {}, "every variable's gradient is clipped to the norm 0.01", "third"),
    "without the penalty": (DATA, {"data": DATA}, "drops the regularization", "first"),
    "the penalty alone": (replaced(FIRST, (ANALYTIC - DATA)[FIRST]), {"data": DATA}, "regularization alone", "first"),
    "not handed on": (replaced(SECOND, 0.0), {"reached": (True, False, True)}, "no gradient for this", "second"),
    "zeros": (replaced(SECOND, 0.0), {}, "receives zeros", "second"),
    "swapped": (SWAPPED, {}, "swapped: the optimizer receives the gradient of second", "first"),
    "one scaled": (replaced(SECOND, 3 * ANALYTIC[SECOND]), {}, "3 times the gradient of this variable", "second"),
    "another": (replaced(FIRST, RNG.normal(size=30)), {}, "another gradient", "first"),
    "another, with noise": (replaced(FIRST, RNG.normal(size=30)), {"has_noise": True}, "another mask", "first"),
}


@pytest.mark.parametrize("name", TABLE)
def test_words(name):
    trained, options, words, path = TABLE[name]
    first = diagnosed(trained, **options)[0]
    assert words in first.sentence, first
    assert first.path == path
    assert first.is_culprit


def test_a_pattern_has_one_culprit():
    assert [d.is_culprit for d in diagnosed(ANALYTIC / 2)] == [True, False, False]


def test_underflow_leads_with_the_variable_that_lost_most():
    small = 1e-8 * ANALYTIC
    trained = small.copy()
    trained[FIRST] = 0.0
    trained[SECOND][np.abs(small[SECOND]) < 5e-9] = 0.0
    found = diagnosed(trained, dtype="float16", analytic=small)
    assert [(d.path, d.is_culprit) for d in found] == [("first", True), ("second", False)]
    assert "up to 100% of the gradient underflows to zero in float16: use loss scaling" in found[0].sentence


def test_nothing_wrong_nothing_said():
    assert diagnosed(ANALYTIC) == ()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_warns_nobody(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = diagnosed(replaced(FIRST, value), data=DATA)
    assert [d.path for d in found] == ["first"]
