"""What a train step did to the gradient, in words."""

import dataclasses
import math
import warnings

import numpy as np
import pytest

from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import (
    optimizer_comparison,
    optimizer_diagnosis,
    roundoff,
)
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient

LAYOUT = Layout(("first", "second", "third"), ((30,), (30,), (5,)))
RNG = np.random.default_rng(1)
ANALYTIC = RNG.normal(size=65)
DATA = ANALYTIC - np.concatenate([0.3 * RNG.normal(size=30), np.zeros(35)])
FIRST, SECOND, THIRD = (LAYOUT.slice(v) for v in range(3))


def replaced(part, values):
    trained = ANALYTIC.copy()
    trained[part] = values
    return trained


def diagnosed(
    trained,
    reached=(True, True, True),
    dtype="float32",
    analytic=ANALYTIC,
    data=None,
):
    received = OptimizerGradient(LAYOUT, analytic, trained, np.array(reached))
    comparisons = optimizer_comparison.compare(received, (), dtype)
    return optimizer_diagnosis.diagnose(LAYOUT, received, data, comparisons, dtype, 8)


SWAPPED = np.concatenate([ANALYTIC[SECOND], ANALYTIC[FIRST], ANALYTIC[THIRD]])
NORM = float(np.linalg.norm(ANALYTIC))
EACH = np.concatenate(
    [0.01 * ANALYTIC[p] / np.linalg.norm(ANALYTIC[p]) for p in (FIRST, SECOND, THIRD)]
)
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
    "clipped one by one": (
        EACH,
        {},
        "every variable's gradient is clipped to the norm 0.01",
        "third",
    ),
    "without the penalty": (DATA, {"data": DATA}, "drops the regularization", "first"),
    "the penalty alone": (
        replaced(FIRST, (ANALYTIC - DATA)[FIRST]),
        {"data": DATA},
        "regularization alone",
        "first",
    ),
    "not handed on": (
        replaced(SECOND, 0.0),
        {"reached": (True, False, True)},
        "no gradient for this",
        "second",
    ),
    "zeros": (replaced(SECOND, 0.0), {}, "receives zeros", "second"),
    "swapped": (SWAPPED, {}, "swapped: the optimizer receives the gradient of second", "first"),
    "one scaled": (
        replaced(SECOND, 3 * ANALYTIC[SECOND]),
        {},
        "3 times the gradient of this variable",
        "second",
    ),
    "another": (replaced(FIRST, RNG.normal(size=30)), {}, "another gradient", "first"),
}


@pytest.mark.parametrize("name", TABLE)
def test_words(name):
    trained, options, words, path = TABLE[name]
    first = diagnosed(trained, **options)[0]
    assert words in first.sentence, first
    assert first.path == path
    assert first.is_leading


def test_a_pattern_names_one_variable():
    assert [d.is_leading for d in diagnosed(ANALYTIC / 2)] == [True, False, False]


def test_nothing_wrong_nothing_said():
    assert diagnosed(ANALYTIC) == ()


def spoiled(*parts, value=math.nan):
    gradient = ANALYTIC.copy()
    for part in parts:
        gradient[part] = value
    return gradient


FINITE = "gives finite ones: `train_step` makes them, or float32 does, "
# (what float64 gives, what the optimizer receives, the named variable, words about it)
NOT_FINITE = {
    "one": ((), (FIRST,), "first", FINITE + "behind first, the last variable with any"),
    "two": ((), (FIRST, SECOND), "second", FINITE + "behind second, the last variable with any"),
    "all": (
        (),
        (FIRST, SECOND, THIRD),
        "third",
        FINITE + "in the loss or behind third, the last variable",
    ),
    "both": ((FIRST, SECOND), (FIRST, SECOND), "second", "float64 gives NaN as well"),
}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NOT_FINITE)
def test_a_gradient_that_is_not_finite(name, value):
    inside, outside, named, words = NOT_FINITE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = diagnosed(
            spoiled(*outside, value=value), data=DATA, analytic=spoiled(*inside, value=value)
        )
    assert len(found) == len(outside)
    assert [d.path for d in found if d.is_leading] == [named]
    assert found[0].path == named
    assert found[0].sentence.endswith(words)
    assert "the optimizer receives NaN or infinite numbers for this variable" in found[0].sentence


def test_nan_beside_another_mistake_has_its_own_sentence():
    first, second = diagnosed(
        np.where(np.isnan(spoiled(FIRST)), math.nan, replaced(SECOND, 3 * ANALYTIC[SECOND]))
    )
    assert (first.path, second.path) == ("first", "second")
    assert "NaN or infinite" in first.sentence
    assert second.sentence == "the optimizer receives 3 times the gradient of this variable"


@pytest.mark.parametrize(
    ("analytic", "trained"), [(spoiled(FIRST), ANALYTIC), (spoiled(FIRST), 0 * ANALYTIC)]
)
def test_what_is_not_finite_in_float64_alone_is_no_rounding(analytic, trained):
    received = OptimizerGradient(LAYOUT, analytic, trained, np.ones(3, bool))
    compared = optimizer_comparison.compare(received, {0, 1, 2}, "float32")[0]
    assert (compared.verdict, compared.reason) == (Verdict.INCONCLUSIVE, Reason.NON_FINITE_GRADIENT)
    other = optimizer_comparison.compare(
        dataclasses.replace(received, analytic=ANALYTIC + 1), {0, 1, 2}, "float32"
    )[0]
    assert (other.verdict, other.reason) == (Verdict.INCONCLUSIVE, Reason.ROUNDING)


def test_a_gradient_where_there_should_be_none_has_neither_cosine_nor_scale():
    (found,) = diagnosed(ANALYTIC, analytic=replaced(SECOND, 0.0))
    assert found.path == "second"
    assert found.sentence.endswith("which is zero by backpropagation")


def test_comparisons_say_in_which_dtype_training_computes():
    received = OptimizerGradient(LAYOUT, ANALYTIC, ANALYTIC / 2, np.ones(3, bool))
    for dtype in roundoff.ROUNDOFF:
        assert {c.dtype for c in optimizer_comparison.compare(received, (), dtype)} == {dtype}
