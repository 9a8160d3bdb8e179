"""Replicates: which failures they withdraw, and when several agree that a gradient is wrong."""

import itertools
import math

import pytest

from gradhooks.checking.measurement import Measurement
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge, replication

TOLERANCE = 1e-2
KINK = DerivativeEstimate(1.0, 1e-3, 1e-3, 0.5, 1.5, True)


def look(*terms, magnitude=0.0):
    """A `Measurement` of `(analytic, numeric, error bar)`, one per term."""
    analytic = tuple(a for a, _, _ in terms)
    estimates = tuple(DerivativeEstimate(n, error, 1e-3, n, n) for _, n, error in terms)
    sizes = (magnitude,) * len(terms)
    judged = tuple(
        judge.judge(a, e, TOLERANCE, magnitude) for a, e in zip(analytic, estimates, strict=True)
    )
    return Measurement(Probe(0, [1.0]), analytic, estimates, sizes, False, judged)


def looks(factors, error=1e-4):
    """One `Measurement` per factor of the gradient, at points where it has different sizes."""
    return [
        look((factor * (-1) ** k * (k + 1), (-1.0) ** k * (k + 1), error))
        for k, factor in enumerate(factors)
    ]


FIRST = look((1.05, 1.0, 1e-4))
# (what the others see, factors at five nudged points, whether it is the first one's error)
TABLE = [
    ("the same factor everywhere", [1.05] * 5, True),
    ("the same, twice spoiled by corners", [1.05, 0.98, 1.05, 1.30, 1.05], True),
    ("nothing", [1.0] * 5, False),
    ("nothing, twice spoiled by corners", [1.05, 1.0, 1.05, 1.0, 1.0], False),
    ("rounding of either sign", [1.06, 0.94, 1.07, 0.95, 0.96], False),
    ("too little to fail", [1.015] * 5, False),
    ("the opposite", [0.95] * 5, False),
    ("far more", [1.9] * 5, False),
]


@pytest.mark.parametrize(("what", "factors", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_the_median_of_several_looks_decides(what, factors, expected):
    assert FIRST.has_failed
    assert replication.is_replicated(FIRST, looks(factors), TOLERANCE) is expected


@pytest.mark.parametrize("factors", list(itertools.product((1.0, 1.05), repeat=5)))
def test_nobody_is_asked_in_vain_and_nobody_forgotten(factors):
    """As soon as three of five have seen nothing the rest cannot change that, and not before."""
    others = looks(factors)
    open_after = [replication.may_be_replicated(FIRST, others[:k], 5) for k in range(6)]
    assert open_after == [factors[:k].count(1.0) < 3 for k in range(6)]
    assert open_after[-1] == replication.is_replicated(FIRST, others, TOLERANCE)
    closed = [k for k in range(6) if not open_after[k]]
    assert not any(replication.is_replicated(FIRST, others[:k], TOLERANCE) for k in closed)


@pytest.mark.parametrize(("error", "expected"), [(0.035, True), (0.3, False)])
def test_looks_that_cannot_fail_count_if_they_see_the_gap_at_all(error, expected):
    blurred = [look((1.05 * n, n, error * n)) for n in (1.0, 2.0, 3.0)]
    assert not any(m.has_failed for m in blurred)
    assert replication.is_replicated(FIRST, [*blurred, *looks([1.0] * 2)], TOLERANCE) is expected


def test_a_gradient_of_zero_is_wrong_by_all_of_it():
    first, others = (
        look((0.0, 1.0, 1e-4)),
        [look((0.0, n, 1e-4)) for n in (2.0, -3.0, 0.5, 1e-3, -1.0)],
    )
    assert replication.is_replicated(first, others, TOLERANCE)


def test_a_gap_is_small_beside_a_direction_whose_parts_cancel():
    others = [look((0.05, 0.0, 1e-4), magnitude=100.0)] * 5
    assert not replication.is_replicated(look((0.05, 0.0, 1e-4)), others, TOLERANCE)


def test_only_a_term_that_failed_counts():
    first = look((1.0, 1.0, 1e-4), (1.05, 1.0, 1e-4))
    in_the_first_term, in_the_second = (
        [look((1.05, 1, 0), (1, 1, 0))] * 5,
        [look((1, 1, 0), (1.05, 1, 0))] * 5,
    )
    assert not replication.is_replicated(first, in_the_first_term, TOLERANCE)
    assert replication.is_replicated(first, in_the_second, TOLERANCE)


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_what_is_not_finite_says_nothing(lost):
    nothing = [look((1.05, lost, 1e-4))] * 3
    assert not replication.is_replicated(FIRST, [*nothing, *looks([1.05] * 2)], TOLERANCE)
    assert replication.is_replicated(FIRST, [*nothing[:2], *looks([1.05] * 3)], TOLERANCE)


def test_a_sharp_replicate_that_passes_withdraws_and_a_blurred_one_does_not():
    sharp, blurred, failing = (
        look((1.0, 1.0, 1e-4)),
        look((1.0, 1.0, 0.09)),
        look((1.05, 1.0, 1e-4)),
    )
    assert replication.is_withdrawn_by(sharp, FIRST, TOLERANCE)
    assert blurred.judgements == ((Verdict.INCONCLUSIVE, Reason.NOISE),)
    assert not replication.is_withdrawn_by(blurred, FIRST, TOLERANCE)
    assert not replication.is_withdrawn_by(failing, FIRST, TOLERANCE)
    assert not replication.is_withdrawn_by(look((0.0, 0.0, 1e-4)), FIRST, TOLERANCE)


def test_corners_count_where_a_term_failed():
    beside = Measurement(
        Probe(0, [1.0]), (9.0,), (KINK,), (0.0,), False, ((Verdict.FAIL, Reason.MISMATCH),)
    )
    passing = Measurement(
        Probe(0, [1.0]), (1.0,), (KINK,), (0.0,), False, ((Verdict.PASS, Reason.AGREES),)
    )
    assert replication.is_beside_kink(beside)
    assert not replication.is_beside_kink(passing)
    assert not replication.is_beside_kink(FIRST)


# (what, terms of the first look, the slope of each term on the way, whether it wavers)
WAYS = [
    ("the same everywhere", [(100.0, 1.0, 0.5)], [(100.0,), (100.0,)], False),
    ("a tenth of the gap", [(100.0, 1.0, 0.5)], [(100.0,), (110.0,)], False),
    ("half of the gap", [(100.0, 1.0, 0.5)], [(100.0,), (50.0,)], True),
    ("far more", [(100.0, 1.0, 0.5)], [(-900.0,), (100.0,)], True),
    ("NaN", [(100.0, 1.0, 0.5)], [(100.0,), (math.nan,)], True),
    ("zero everywhere", [(0.0, 1.0, 0.5)], [(0.0,), (0.0,)], False),
    ("one of two terms", [(100.0, 1.0, 0.5), (100.0, 1.0, 0.5)], [(10.0, 100.0)], False),
    ("both terms", [(100.0, 1.0, 0.5), (100.0, 1.0, 0.5)], [(10.0, 100.0), (100.0, 10.0)], True),
    ("a term that has not failed", [(100.0, 1.0, 0.5), (1.0, 1.0, 1e-3)], [(10.0, 1.0)], True),
]


@pytest.mark.parametrize(("what", "terms", "along", "expected"), WAYS, ids=[row[0] for row in WAYS])
def test_a_gradient_that_contradicts_itself_on_the_way_is_no_testimony(
    what, terms, along, expected
):
    first = look(*terms)
    assert first.has_failed
    assert replication.is_imprecise(first)
    assert replication.varies_along_step(first, along) is expected


def test_only_an_estimate_with_a_wide_error_bar_is_blurred():
    assert not replication.is_imprecise(look((1.05, 1.0, 1e-4)))
    assert not replication.is_imprecise(look((1.0, 1.0, 0.5)))  # has not failed
    assert replication.is_imprecise(look((1.0, 0.0, 1e-9)))
