"""The optimizer gradient beside the analytic one: verdicts by table, properties by hypothesis."""

import math
import warnings

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import optimizer_comparison, optimizer_gradient, roundoff
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient
from gradhooks.verdicts.replication import Vote

LAYOUT = Layout(("lower", "upper"), ((40,), (40,)))
RNG = np.random.default_rng(0)
ANALYTIC = RNG.normal(size=80)
ALL = np.array([True, True])


def received(trained, analytic=ANALYTIC, reached=ALL, is_skipped=False):
    return OptimizerGradient(
        LAYOUT, analytic, np.asarray(trained, float), np.asarray(reached), is_skipped
    )


def changed(lower, analytic=ANALYTIC):
    """The analytic gradient with another lower half."""
    return np.concatenate([lower, analytic[40:]])


def noisy(size, seed):
    return ANALYTIC + size * np.random.default_rng(seed).normal(size=80)


def repeated(here, there, variables, dtype):
    """Those of some variables whose error is the same at another point."""
    return [v for v in variables if optimizer_gradient.vote(here, there, v, dtype) is Vote.REPEATED]


def judged(now, perturbed=(), dtype="float16"):
    """The comparisons, with every disagreeing variable measured again at some points."""
    disagreeing = optimizer_gradient.find_disagreeing(now, dtype)
    noisy = set()
    for other in perturbed:
        noisy |= {*disagreeing} - {*repeated(now, other, disagreeing, dtype)}
    return optimizer_comparison.compare(now, noisy, dtype)


AGREES = (Verdict.PASS, Reason.AGREES)
# (what, trained, trained at perturbed points, dtype, judgement of the lower variable)
TABLE = [
    ("the same", ANALYTIC, (), "float32", AGREES),
    ("single rounding", noisy(1e-6, 1), (), "float32", AGREES),
    ("half rounding", noisy(1e-3, 1), (), "float16", AGREES),
    ("half rounding is none in single", noisy(1e-2, 1), (noisy(1e-2, 2),), "float32", "rounding"),
    ("halved", ANALYTIC / 2, (ANALYTIC / 2,), "float32", "untrained"),
    ("halved, in bfloat16", ANALYTIC / 2, (ANALYTIC / 2,), "bfloat16", "untrained"),
    ("one in a thousand too large", 1.001 * ANALYTIC, (1.001 * ANALYTIC,), "float32", "untrained"),
    (
        "another error at the perturbed point",
        1.5 * ANALYTIC,
        (0.5 * ANALYTIC,),
        "float32",
        "rounding",
    ),
    ("an error that grows eightfold", 1.1 * ANALYTIC, (1.8 * ANALYTIC,), "float32", "rounding"),
    ("no error at the perturbed point", 1.5 * ANALYTIC, (ANALYTIC,), "float32", "rounding"),
    ("NaN at the perturbed point", 1.5 * ANALYTIC, (math.nan * ANALYTIC,), "float32", "rounding"),
    ("NaN", changed(math.nan * ANALYTIC[:40]), (), "float32", "non_finite_gradient"),
    ("overflow", changed(math.inf * ANALYTIC[:40]), (), "float16", "non_finite_gradient"),
    (
        "overflow in bfloat16",
        changed(math.inf * ANALYTIC[:40]),
        (),
        "bfloat16",
        "non_finite_gradient",
    ),
]


@pytest.mark.parametrize(
    ("what", "trained", "perturbed", "dtype", "expected"), TABLE, ids=[row[0] for row in TABLE]
)
def test_verdicts(what, trained, perturbed, dtype, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judged(received(trained), [received(n) for n in perturbed], dtype)
    verdict, reason = found[0].verdict, found[0].reason
    assert (verdict, reason) == expected if isinstance(expected, tuple) else str(reason) == expected
    assert (verdict is Verdict.FAIL) == (reason in (Reason.UNTRAINED, Reason.NON_FINITE_GRADIENT))


def test_a_step_that_loss_scaling_leaves_out_does_not_fail():
    found = judged(received(changed(math.inf * ANALYTIC[:40]), is_skipped=True))
    assert [(c.verdict, str(c.reason)) for c in found] == [
        (Verdict.INCONCLUSIVE, "not_recorded"),
        (Verdict.PASS, "agrees"),
    ]


TURNED = np.random.default_rng(7).normal(size=80)
# (what, at the point, gradient at the perturbed point, trained there, whether it is one error)
TURNS = [
    ("a factor", 1.5 * ANALYTIC, TURNED, 1.5 * TURNED, True),
    ("another factor of the same kind", 1.5 * ANALYTIC, TURNED, 2.5 * TURNED, True),
    ("a factor far larger", 1.1 * ANALYTIC, TURNED, 2.0 * TURNED, False),
    ("a factor of the other kind", 1.5 * ANALYTIC, TURNED, 0.5 * TURNED, False),
    ("nothing", 1.5 * ANALYTIC, TURNED, TURNED, False),
    ("no gradient", 1.5 * ANALYTIC, np.zeros(80), np.zeros(80), False),
    ("anything", 1.5 * ANALYTIC, TURNED, TURNED + noisy(0.5, 3) - ANALYTIC, False),
    (
        "what does not depend on the gradient",
        noisy(0.5, 3),
        TURNED,
        TURNED + noisy(0.5, 3) - ANALYTIC,
        True,
    ),
]


@pytest.mark.parametrize(
    ("what", "trained", "gradient", "there", "expected"), TURNS, ids=[row[0] for row in TURNS]
)
def test_an_error_is_known_again_where_the_gradient_has_turned(
    what, trained, gradient, there, expected
):
    found = repeated(received(trained), received(there, gradient), [0, 1], "float32")
    assert found == ([0, 1] if expected else [])


def test_underflow_is_known_again_whichever_entries_are_lost():
    here, nearby = (
        received(np.where(np.abs(g) < 0.7, 0.0, 1e-6 * g), 1e-6 * g) for g in (ANALYTIC, TURNED)
    )
    assert repeated(here, nearby, [0, 1], "float16") == [0, 1]
    assert repeated(here, nearby, [0, 1], "bfloat16") == []


# A gradient of 1e-4 beside one of 1: small, but float32 would have kept it.
SMALL = np.concatenate([1e-4 * ANALYTIC[:40], ANALYTIC[40:]])


def small_judged(lower, dtype="float16", reached=ALL):
    now = received(np.concatenate([lower, SMALL[40:]]), SMALL, reached)
    (found, _) = judged(now, [now], dtype)
    return found.verdict, found.reason


def test_underflow_is_no_noise_however_small_the_variable():
    flushed = np.where(np.abs(SMALL[:40]) < 5e-5, 0.0, SMALL[:40])
    for scale in (0.01, 0.001):
        now = received(scale * np.concatenate([flushed, SMALL[40:]]), scale * SMALL)
        found = judged(now, [now], "float16")[0]
        assert (found.verdict, found.reason) == (Verdict.FAIL, Reason.UNDERFLOW)
        assert found.zeros == np.mean(flushed == 0)


def test_zeros_that_are_no_underflow():
    zeros = np.zeros(40)
    # In float32 the variable is below what rounding leaves of others this much larger: nothing to
    # compare.
    assert small_judged(zeros, "bfloat16") == (Verdict.INCONCLUSIVE, Reason.VACUOUS)
    # Never handed on: that is no matter of small numbers.
    now = received(changed(zeros), reached=[False, True])
    assert judged(now, [now], "float16")[0].reason is Reason.UNTRAINED
    # Too large to underflow: zeroed by somebody.
    now = received(changed(zeros))
    assert judged(now, [now], "float16")[0].reason is Reason.UNTRAINED
    # What not even float64 can tell from zero, as the bias in front of batch normalization.
    nothing = np.concatenate([1e-17 * ANALYTIC[:40], ANALYTIC[40:]])
    now = received(np.concatenate([zeros, ANALYTIC[40:]]), nothing)
    assert judged(now, [now], "float16")[0].reason is Reason.VACUOUS


def test_a_small_gradient_that_agrees_is_no_noise():
    now = received(SMALL * 1.0001, SMALL)
    assert [c.reason for c in judged(now)] == [Reason.AGREES] * 2
    nothing = received(np.zeros(80), np.zeros(80))
    assert [c.reason for c in judged(nothing)] == [Reason.VACUOUS] * 2


def test_disagreeing_variables_are_those_not_close():
    assert optimizer_gradient.find_disagreeing(received(ANALYTIC), "float32") == []
    assert optimizer_gradient.find_disagreeing(received(changed(ANALYTIC[:40] / 2)), "float32") == [
        0
    ]


def test_the_headline_leaves_out_what_could_not_be_decided():
    now = received(changed(math.inf * ANALYTIC[:40]), is_skipped=True)
    comparisons = judged(now)
    assert optimizer_comparison.overall_difference(now, comparisons) == 0.0
    assert optimizer_comparison.overall_difference(now, []) == 0.0


def test_the_tolerance_belongs_to_the_precision():
    order = [roundoff.tolerance(dtype) for dtype in ("float64", "float32", "float16", "bfloat16")]
    assert order == sorted(order)
    assert order[1] < 2e-4
    assert order[-1] < 0.1


@hypothesis.given(st.floats(1e-8, 1e8), st.sampled_from(["float32", "float16", "bfloat16"]))
def test_the_size_of_the_loss_says_nothing_about_its_gradient(scale, dtype):
    """Rounding and errors are relative; only underflow is absolute, and here nothing is zero."""
    wrong = changed(ANALYTIC[:40] / 2)
    one = judged(received(wrong), [received(wrong)], dtype)
    other = received(scale * wrong, scale * ANALYTIC)
    assert [c.verdict for c in one] == [c.verdict for c in judged(other, [other], dtype)]


@hypothesis.given(st.integers(0, 1000))
def test_rounding_of_the_precision_never_fails(seed):
    rng = np.random.default_rng(seed)
    analytic = rng.normal(size=80) * 10.0 ** rng.uniform(-4, 4)
    rounded = received(analytic.astype(np.float16).astype(float), analytic)
    hypothesis.assume(np.isfinite(rounded.values).all() and np.abs(analytic).max() > 1e-3)
    assert all(c.verdict is not Verdict.FAIL for c in judged(rounded, [rounded], "float16"))


# (what, trained, analytic gradient a unit of roundoff away, reached, numbers of the variables that
# still disagree)
ROUNDINGS = [
    ("as much as rounding does", 1.1 * ANALYTIC, 1.1 * ANALYTIC, ALL, []),
    ("nine times as much", 1.09 * ANALYTIC, 1.01 * ANALYTIC, ALL, []),
    ("eleven times as much", 1.11 * ANALYTIC, 1.01 * ANALYTIC, ALL, [0, 1]),
    ("far more", 2 * ANALYTIC, 1.01 * ANALYTIC, ALL, [0, 1]),
    ("nothing changes nearby", 1.1 * ANALYTIC, ANALYTIC, ALL, [0, 1]),
    ("NaN nearby", 1.1 * ANALYTIC, math.nan * ANALYTIC, ALL, [0, 1]),
    ("infinite nearby", 1.1 * ANALYTIC, math.inf * ANALYTIC, ALL, [0, 1]),
    ("NaN", math.nan * ANALYTIC, 1.1 * ANALYTIC, ALL, [0, 1]),
    ("no gradient at all", 0 * ANALYTIC, 2 * ANALYTIC, np.array([True, False]), [1]),
]


@pytest.mark.parametrize(
    ("what", "trained", "nearby", "reached", "expected"),
    ROUNDINGS,
    ids=[row[0] for row in ROUNDINGS],
)
def test_what_a_unit_of_roundoff_does_to_the_gradient_explains_as_much_of_an_error(
    what, trained, nearby, reached, expected
):
    assert (
        optimizer_gradient.find_beyond_rounding(
            received(trained, ANALYTIC, reached), nearby, [0, 1], "float32"
        )
        == expected
    )


def test_underflow_is_not_explained_by_rounding():
    lost = received(np.where(np.abs(SMALL) < 5e-5, 0.0, SMALL), SMALL)
    assert optimizer_gradient.find_beyond_rounding(lost, 2 * SMALL, [0], "float16") == [0]
    assert optimizer_gradient.find_beyond_rounding(lost, 2 * SMALL, [0], "float32") == []
