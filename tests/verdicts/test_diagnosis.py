"""What is wrong, in words."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.verdicts import diagnosis
from gradhooks.verdicts.judge import relative_difference

LAYOUT = Layout(("below/w", "middle/w", "above/w"), ((9,), (9,), (9,)))
# What backpropagation says elsewhere; only a transposed kernel is recognized by it.
ELSEWHERE = {term: np.full(27, 7.0) for term in ("total", "data", "penalty")}
NUMERIC = np.array([0.3, -1.2, 2.0, 0.7])
NAN = math.nan


def compared(analytic, numeric, judged=None, path="middle/w", term="data", reason=None):
    """One comparison; it fails where the numbers differ, unless `judged` says otherwise."""
    judged = judged or (Verdict.PASS if analytic == numeric else Verdict.FAIL)
    reason = reason or (Reason.AGREES if judged is Verdict.PASS else Reason.MISMATCH)
    difference = relative_difference(analytic, numeric)
    return DerivativeComparison(
        path, (1,), term, analytic, numeric, 1e-12, 1e-5, difference, judged, reason
    )


def many(analytic, numeric=NUMERIC, **options):
    return [compared(float(a), float(n), **options) for a, n in zip(analytic, numeric, strict=True)]


def diagnosed(*comparisons, batch_size=None):
    return diagnosis.diagnose(LAYOUT, comparisons, ELSEWHERE, batch_size)


def sentence(*comparisons, **options):
    (found,) = diagnosed(*comparisons, **options)
    return found.sentence


SENTENCES = [
    # name, analytic, what follows "the gradient"
    ("twice", 2 * NUMERIC, "is 2 times the true one: a factor 2 too many"),
    ("half", 0.5 * NUMERIC, "is 0.5 times the true one: a factor 2 is missing"),
    ("reversed", -NUMERIC, "is -1 times the true one: the sign is reversed"),
    (
        "reversed and twice",
        -2 * NUMERIC,
        "is -2 times the true one: the sign is reversed, a factor 2 too many",
    ),
    (
        "a loss scale",
        1024 * NUMERIC,
        "is 1024 times the true one: 2**10, a power of two: a loss scale",
    ),
    ("barely off", 1.0001 * NUMERIC, "is 1.0001 times the true one"),
    ("a third", NUMERIC / 3, "is 0.333333 times the true one"),
    ("orthogonal", np.array([1.2, 0.3, 0.7, -2.0]), "points elsewhere: cosine 0.0000, ratio 0"),
    ("askew", NUMERIC * [1, 1, 1, 2] + [0.1, 0, 0, 0], "points elsewhere: cosine 0.9"),
    ("blocked", 0 * NUMERIC, "is zero although the loss moves: it is blocked"),
    ("one NaN", NUMERIC * [1, NAN, 1, 1], "is NaN or infinite while the loss is finite"),
]


@pytest.mark.parametrize(
    ("analytic", "expected"), [s[1:] for s in SENTENCES], ids=[s[0] for s in SENTENCES]
)
def test_what_is_wrong_in_words(analytic, expected):
    reasons = [
        Reason.MISMATCH if math.isfinite(a) else Reason.NON_FINITE_GRADIENT for a in analytic
    ]
    text = sentence(
        *(
            compared(float(a), float(n), Verdict.FAIL, reason=r)
            for a, n, r in zip(analytic, NUMERIC, reasons, strict=True)
        )
    )
    assert text.startswith(f"the gradient {expected}")


@pytest.mark.parametrize(
    ("cosine", "scale", "text"),
    [
        (0.5, 2.0, ": cosine 0.5000, ratio 2"),
        (NAN, 2.0, ": ratio 2"),
        (0.5, math.inf, ": cosine 0.5000"),
        (NAN, NAN, ""),
    ],
)
def test_only_numbers_are_written(cosine, scale, text):
    assert diagnosis.format_cosine_and_ratio(cosine, scale) == text


def test_a_factor_without_a_usual_cause_gets_none():
    assert sentence(*many(1.0001 * NUMERIC)) == "the gradient is 1.0001 times the true one"


def test_a_loss_that_does_not_move_is_described():
    text = sentence(*many(NUMERIC, 0 * NUMERIC))
    assert text.startswith(
        "the gradient is not zero but the loss does not move: a straight-through estimator"
    )
    assert sentence(*many(NUMERIC, 1e-13 * NUMERIC)) == text, (
        "zero, for all that the error bar tells"
    )


def test_a_loss_that_moves_in_steps_is_described():
    """Between two steps of a fine staircase nothing moves; across one, anything may."""
    text = sentence(*many(NUMERIC, NUMERIC * [0, 3, 0, 0.1]))
    assert "does not move at 2 of 4 wrong places" in text
    assert text.endswith("a straight-through estimator, or a wrong gradient")
    assert "straight-through" not in sentence(*many(NUMERIC, NUMERIC * [-1, 3, 1, 0.1]))


def with_nan(*variables):
    return np.concatenate([np.full(9, NAN if v in variables else 1.0) for v in range(3)])


@pytest.mark.parametrize(
    ("spoiled", "sampled", "leader", "place"),
    [
        ((0,), (0,), 0, "it begins behind below/w, the last variable with any"),
        ((0, 1), (0, 1), 1, "it begins behind middle/w, the last variable with any"),
        ((0, 1), (0,), 0, "it begins behind middle/w, the last variable with any"),
        ((1, 2), (1, 2), 2, "it begins behind above/w, the last variable with any"),
        ((0, 1, 2), (0, 1, 2), 2, "it begins in the loss or behind above/w, the last variable"),
    ],
)
def test_where_nan_begins_is_described_once(spoiled, sampled, leader, place):
    failed = [
        compared(NAN, 1.0, Verdict.FAIL, LAYOUT.paths[v], "total", Reason.NON_FINITE_GRADIENT)
        for v in sampled
    ]
    first, *others = diagnosis.diagnose(LAYOUT, failed, {"total": with_nan(*spoiled)})
    assert (first.path, first.is_leading) == (LAYOUT.paths[leader], True)
    assert place in first.sentence
    assert "acos or asin at +-1" in first.sentence
    assert {d.sentence for d in others} <= {"the gradient is NaN or infinite as well"}


def test_nan_below_another_mistake_says_where_it_begins_too():
    failed = [compared(NAN, 1.0, Verdict.FAIL, "below/w", reason=Reason.NON_FINITE_GRADIENT)]
    wrong, spoiled = diagnosis.diagnose(
        LAYOUT, [*failed, compared(6.0, 2.0)], {"data": with_nan(0)}
    )
    assert wrong.sentence == "the gradient is 3 times the true one"
    assert "it begins behind below/w" in spoiled.sentence


def test_a_single_wrong_parameter_is_a_factor():
    assert sentence(compared(6.0, 2.0)) == "the gradient is 3 times the true one"


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (12.0, "12 times the true one: 12, the size of the batch: a sum where a mean belongs"),
        (
            1 / 12,
            "0.0833333 times the true one: 1/12, one over the batch: a mean where a sum belongs",
        ),
        (-12.0, "-12 times the true one: the sign is reversed, 12, the size of the batch"),
        (13.0, "13 times the true one"),
    ],
)
def test_a_factor_of_the_batch_is_recognized(factor, cause):
    assert sentence(*many(factor * NUMERIC), batch_size=12).startswith(f"the gradient is {cause}")
    assert "batch" not in sentence(*many(factor * NUMERIC), batch_size=50)


def test_agreeing_neighbours_say_that_only_a_part_is_wrong():
    text = sentence(*many(2 * NUMERIC), *many(NUMERIC))
    assert text.endswith(
        "; 4 other sampled parameters of this variable agree, so only part of it is wrong"
    )


KERNEL = Layout(("k",), ((4, 4),))


def in_kernel(wrong, right, kernel=None):
    """The sentence for a kernel in which some entries are twice the true ones and others agree."""
    numeric = 1.0 + np.arange(16.0).reshape(4, 4)
    found = [
        dataclasses.replace(compared(factor * numeric[i], numeric[i], path="k"), index=i)
        for factor, indices in ((2.0, wrong), (1.0, right))
        for i in indices
    ]
    gradients = {"data": np.ravel(kernel if kernel is not None else np.zeros((4, 4)))}
    (failure,) = diagnosis.diagnose(KERNEL, found, gradients)
    return failure.sentence


@pytest.mark.parametrize(
    ("wrong", "right", "where"),
    [
        ([(0, 2), (3, 2)], [(0, 0), (3, 1), (1, 3)], "; only unit 2 is wrong"),
        ([(1, 0), (1, 3)], [(0, 0), (3, 1), (2, 3)], "; only row 1 is wrong"),
        (
            [(0, 2), (3, 2)],
            [(0, 0), (3, 1), (1, 2)],
            "; 3 other sampled parameters of this variable agree",
        ),
        ([(0, 2)], [(0, 0), (3, 1)], "; 2 other sampled parameters of this variable agree"),
        ([(0, 2), (1, 3)], [(0, 0), (3, 1)], "; 2 other sampled parameters of this variable agree"),
    ],
)
def test_a_wrong_unit_or_row_is_named(wrong, right, where):
    assert where in in_kernel(wrong, right)


def test_what_is_wrong_everywhere_is_no_part():
    assert in_kernel([(0, 2), (3, 2), (1, 1)], []).endswith("(the derivative of a square?)")


def test_a_transposed_kernel_is_recognized():
    numeric = 1.0 + np.arange(16.0).reshape(4, 4)
    assert in_kernel([(0, 1), (2, 3)], [], numeric.T).startswith("the gradient is transposed: ")
    assert "transposed" not in in_kernel([(0, 1), (2, 3)], [], numeric)
    assert "transposed" not in in_kernel([(1, 1)], [], numeric.T)


def test_vacuous_neighbours_say_nothing():
    vacuous = compared(0.0, 0.0, Verdict.INCONCLUSIVE, reason=Reason.VACUOUS)
    assert sentence(*many(2 * NUMERIC), vacuous) == sentence(*many(2 * NUMERIC))


DATA, PENALTY = 100 * NUMERIC, 0.01 * NUMERIC[::-1]


def with_terms(data_factor, penalty_factor):
    wrong = data_factor * DATA + penalty_factor * PENALTY
    return [
        *many(wrong, DATA + PENALTY, term="total"),
        *many(data_factor * DATA, DATA, term="data"),
        *many(penalty_factor * PENALTY, PENALTY, term="penalty"),
    ]


def test_only_the_penalty_is_wrong():
    (found,) = diagnosed(*with_terms(1.0, 0.5))
    assert found.terms == ("total", "penalty")
    assert found.sentence.endswith("; only the penalty is wrong: look at the regularizer")


def test_the_factor_of_a_wrong_penalty_is_the_penalty_s():
    # In the total the data term hides it: 0.99999 times the true one says nothing.
    (found,) = diagnosed(*with_terms(1.0, 0.5))
    assert found.ratio == pytest.approx(0.5)
    assert found.sentence.startswith(
        "the gradient is 0.5 times the true one: a factor 2 is missing"
    )


def test_the_penalty_is_right():
    (found,) = diagnosed(*with_terms(2.0, 1.0))
    assert found.terms == ("total", "data")
    assert found.sentence.startswith("the gradient is 2 times the true one: ")
    assert found.sentence.endswith("; the penalty is right: look at the layers and the loss")


def test_without_a_penalty_there_is_no_word_of_it():
    assert "penalty" not in sentence(*many(2 * NUMERIC))


def test_the_last_failing_variable_in_forward_order_is_named():
    found = diagnosed(
        *many(3 * NUMERIC, path="below/w"),
        *many(NUMERIC, path="above/w"),
        *many(2 * NUMERIC, path="middle/w"),
    )
    assert [(d.path, d.is_leading) for d in found] == [("middle/w", True), ("below/w", False)]


def test_the_named_variable_comes_first_and_the_others_follow_downwards():
    found = diagnosed(
        *(c for path in ("middle/w", "below/w", "above/w") for c in many(2 * NUMERIC, path=path))
    )
    assert [d.path for d in found] == ["above/w", "middle/w", "below/w"]


def test_a_direction_over_everything_names_no_variable():
    assert diagnosed(compared(1.0, 2.0, path="*")) == ()


def test_an_outdated_declaration_is_no_wrong_factor():
    # Failing because the gradient is right after all: "1 times the true one" would be no diagnosis.
    text = sentence(*many(NUMERIC, judged=Verdict.FAIL, reason=Reason.UNDECLARED_MATCH))
    assert "times the true one" not in text


def test_nothing_wrong_nothing_said():
    assert (
        diagnosed(*many(NUMERIC), compared(1.0, 2.0, Verdict.INCONCLUSIVE, reason=Reason.KINK))
        == ()
    )


@pytest.mark.parametrize(
    ("analytic", "numeric", "scale", "cosine"),
    [
        ([2.0, 4.0], [1.0, 2.0], 2.0, 1.0),
        ([-1.0, 0.0], [1.0, 0.0], -1.0, -1.0),
        ([0.0, 1.0], [1.0, 0.0], 0.0, 0.0),
        ([0.0, 0.0], [1.0, 0.0], 0.0, NAN),
        ([1.0, 0.0], [0.0, 0.0], NAN, NAN),
        ([1.0, NAN], [1.0, 1.0], NAN, NAN),
        ([1.0, 1.0], [1.0, math.inf], NAN, NAN),
    ],
)
def test_scale_and_cosine(analytic, numeric, scale, cosine):
    found = diagnosis.ratio_and_cosine(np.array(analytic), np.array(numeric))
    assert found == pytest.approx((scale, cosine), nan_ok=True)


@given(st.floats(-100, 100).filter(lambda f: abs(f) > 1e-3), st.integers(0, 1000))
def test_a_constant_factor_is_recovered(factor, seed):
    numeric = np.random.default_rng(seed).normal(size=5)
    scale, cosine = diagnosis.ratio_and_cosine(factor * numeric, numeric)
    assert (scale, cosine) == pytest.approx((factor, math.copysign(1, factor)))
