"""Replicates: which failures they confirm, for single numbers and for whole gradients."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.checking.measurement import Measurement
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge, replication
from gradhooks.verdicts.replication import Comparand, Error, Vote

THRESHOLD = 1e-2
REPEATED, CONTRADICTED, SILENT = Vote.REPEATED, Vote.CONTRADICTED, Vote.SILENT


def measured(*terms, magnitude=0.0):
    """A `Measurement` of `(analytic, numeric, error bar)`, one per term."""
    analytic = tuple(a for a, _, _ in terms)
    estimates = tuple(
        DerivativeEstimate(n, error, 1e-3, n, n, error, error) for _, n, error in terms
    )
    sizes = (magnitude,) * len(terms)
    judged = tuple(
        judge.judge(a, e, THRESHOLD, magnitude) for a, e in zip(analytic, estimates, strict=True)
    )
    return Measurement(Probe(0, [1.0]), analytic, estimates, sizes, False, judged)


FIRST = measured((1.05, 1.0, 1e-4))
HULL = DerivativeEstimate(1.0, 1e-3, 1e-3, 0.5, 1.5, 1e-3, 1e-3)


def decide(votes, is_doubtful):
    """Whether a failure with these votes stands, and how many replicates it took."""
    asked = []

    def replicate(numbers, number):
        asked.append(number)
        return [votes[number]] * len(numbers)

    (stands,) = replication.confirm([is_doubtful], len(votes), replicate)
    return stands, len(asked)


@pytest.mark.parametrize(
    ("vote", "beyond_doubt", "doubtful"),
    [(REPEATED, True, True), (CONTRADICTED, False, False), (SILENT, True, False)],
)
def test_one_replicate_decides(vote, beyond_doubt, doubtful):
    assert decide([vote], is_doubtful=False) == (beyond_doubt, 1)
    assert decide([vote], is_doubtful=True) == (doubtful, 1)


@pytest.mark.parametrize("is_doubtful", [False, True])
@pytest.mark.parametrize("votes", list(itertools.product(Vote, repeat=5)))
def test_the_majority_of_five_decides_and_no_replicate_is_measured_in_vain(votes, is_doubtful):
    """As soon as the rest cannot change the outcome, and not before."""
    wanted = REPEATED if is_doubtful else CONTRADICTED
    stands, asked = decide(votes, is_doubtful)
    assert stands is ((votes.count(wanted) >= 3) is is_doubtful)
    yes = [votes[:k].count(wanted) >= 3 for k in range(6)]
    no = [k - votes[:k].count(wanted) >= 3 for k in range(6)]
    assert asked == [one or other for one, other in zip(yes, no, strict=True)].index(True)


def test_both_of_two_must_repeat_what_is_doubtful():
    assert decide([REPEATED, REPEATED], True) == (True, 2)
    assert decide([REPEATED, CONTRADICTED], True) == (False, 2)
    assert decide([CONTRADICTED, REPEATED], True) == (False, 1)


def test_no_failures_need_no_replicate():
    assert replication.confirm([], 5, pytest.fail) == []


def test_only_open_failures_are_measured_again():
    asked = []

    def replicate(numbers, number):
        asked.append((number, [*numbers]))
        return [REPEATED if k == 1 else SILENT for k in numbers]

    assert replication.confirm([True] * 3, 5, replicate) == [False, True, False]
    assert asked == [(0, [0, 1, 2]), (1, [0, 1, 2]), (2, [0, 1, 2])]


# (what, analytic, numeric, error bar at the replicate, vote), for a first gap of 5 %
VOTES = [
    ("the same factor", 1.05, 1.0, 1e-4, REPEATED),
    ("the same factor of another slope", -2.1, -2.0, 1e-4, REPEATED),
    ("a gap that the threshold allows", 4.05, 4.0, 1e-4, SILENT),
    ("twice as much", 1.1, 1.0, 1e-4, REPEATED),
    ("ten times as much", 1.9, 1.0, 1e-4, SILENT),
    ("the other sign", 0.95, 1.0, 1e-4, SILENT),
    ("seen, but not beyond the threshold with its bar", 1.05, 1.0, 0.035, REPEATED),
    ("not beyond the bar", 1.05, 1.0, 0.06, SILENT),
    ("right", 1.0, 1.0, 1e-4, CONTRADICTED),
    ("right to within the threshold", 1.015, 1.0, 1e-4, CONTRADICTED),
    ("right, under a bar that hides the gap", 1.0, 1.0, 0.04, SILENT),
    ("right, under a bar that hides everything", 1.0, 1.0, 0.3, SILENT),
    ("both zero", 0.0, 0.0, 1e-4, SILENT),
    ("no number", 1.05, math.nan, 1e-4, SILENT),
    ("infinite", 1.05, math.inf, 1e-4, SILENT),
    ("no gradient", math.nan, 1.0, 1e-4, SILENT),
]


@pytest.mark.parametrize("row", VOTES, ids=[row[0] for row in VOTES])
def test_what_a_replicate_says_of_a_failure(row):
    _, *numbers, expected = row
    assert FIRST.has_failed
    assert FIRST.vote(measured(tuple(numbers)), THRESHOLD) is expected


def test_a_gradient_of_zero_is_wrong_by_all_of_it():
    first = measured((0.0, 1.0, 1e-4))
    for slope in (2.0, -3.0, 0.5, -1.0):
        assert first.vote(measured((0.0, slope, 1e-4)), THRESHOLD) is REPEATED


def test_a_gap_is_small_beside_a_direction_whose_parts_cancel():
    second = measured((0.05, 0.0, 1e-4), magnitude=100.0)
    assert measured((0.05, 0.0, 1e-4)).vote(second, THRESHOLD) is not REPEATED


def test_one_term_that_failed_is_enough_and_another_does_not_count():
    first = measured((1.0, 1.0, 1e-4), (1.05, 1.0, 1e-4))
    assert first.vote(measured((1.05, 1.0, 1e-4), (1.0, 1.0, 1e-4)), THRESHOLD) is SILENT
    assert first.vote(measured((1.0, 1.0, 1e-4), (1.05, 1.0, 1e-4)), THRESHOLD) is REPEATED
    assert first.vote(measured((1.0, 1.0, 1e-4), (1.0, 1.0, 1e-4)), THRESHOLD) is CONTRADICTED


def test_every_term_that_failed_must_be_contradicted():
    first = measured((1.05, 1.0, 1e-4), (1.05, 1.0, 1e-4))
    assert first.vote(measured((1.0, 1.0, 1e-4), (1.0, 1.0, 0.3)), THRESHOLD) is SILENT
    assert first.vote(measured((1.0, 1.0, 1e-4), (1.05, 1.0, 1e-4)), THRESHOLD) is REPEATED


def test_a_replicate_on_a_wide_kink_contradicts_nothing():
    at_kink = Measurement(
        Probe(0, [1.0]), (1.0,), (HULL,), (0.0,), False, ((Verdict.INCONCLUSIVE, Reason.KINK),)
    )
    assert FIRST.vote(at_kink, THRESHOLD) is SILENT


def test_kinks_count_where_a_term_failed():
    def at_kink(verdict, reason):
        return Measurement(Probe(0, [1.0]), (9.0,), (HULL,), (0.0,), False, ((verdict, reason),))

    beside = at_kink(Verdict.FAIL, Reason.MISMATCH)
    assert (beside.failed_at_kink, beside.do_slopes_meet) == (True, False)
    passing = at_kink(Verdict.PASS, Reason.AGREES)
    assert (passing.failed_at_kink, passing.do_slopes_meet) == (False, True)
    assert (FIRST.failed_at_kink, FIRST.do_slopes_meet) == (False, True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [(0.0, False), (10.0, False), (-50.0, True), (900.0, True), (math.nan, True)],
)
def test_a_change_nearby_of_half_the_gap_explains_it(change, expected):
    comparand = Comparand(100.0, DerivativeEstimate(1.0, 0.5, 1e-3, 1.0, 1.0))
    assert comparand.is_explained_by(change) is expected


@pytest.mark.parametrize(
    ("analytic", "slope", "error", "expected"),
    [
        (1.05, 1.0, 1e-4, False),
        (1.0, 1.0, 0.5, True),
        (1.0, 0.0, 1e-9, False),
        (1.0, 1.0, math.nan, True),
    ],
)
def test_only_an_estimate_with_a_wide_error_bar_is_imprecise(analytic, slope, error, expected):
    comparand = Comparand(analytic, DerivativeEstimate(slope, error, 1e-3, slope, slope))
    assert comparand.is_imprecise is expected


def test_a_withdrawn_failure_is_inconclusive_and_the_rest_stays():
    both = measured((1.0, 1.0, 1e-4), (1.05, 1.0, 1e-4))
    assert both.withdraw(Reason.KINK).judgements == (
        (Verdict.PASS, Reason.AGREES),
        (Verdict.INCONCLUSIVE, Reason.KINK),
    )


ONES = np.ones(3)
NAN = np.full(3, math.nan)

# (what, error here, error there, gradient here, gradient there, whether it is one error)
ERRORS = [
    ("the same", [1, 0, 0], [1, 0, 0], ONES, ONES, True),
    ("larger", [1, 0, 0], [3, 0, 0], ONES, ONES, True),
    ("too large", [1, 0, 0], [5, 0, 0], ONES, ONES, False),
    ("too small", [1, 0, 0], [0.2, 0, 0], ONES, ONES, False),
    ("turned a little", [1, 0, 0], [1, 1, 0], ONES, ONES, True),
    ("turned far", [1, 0, 0], [1, 2, 0], ONES, ONES, False),
    ("of the other sign", [1, 0, 0], [-1, 0, 0], ONES, ONES, False),
    ("gone", [1, 0, 0], [0, 0, 0], ONES, ONES, False),
    ("a factor of a turned gradient", [1, 0, 0], [0, 0, 1], [2, 0, 0], [0, 0, 2], True),
    ("a factor of a small gradient", [1, 0, 0], [0.1, 0, 0], [2, 0, 0], [0.2, 0, 0], True),
    ("a factor of the other kind", [1, 0, 0], [0, 0, -1], [2, 0, 0], [0, 0, 2], False),
    ("another factor", [1, 0, 0], [0, 0, 9], [2, 0, 0], [0, 0, 2], False),
    ("across the gradient", [1, 0, 0], [0, 0, 1], [2, 0, 0], [2, 0, 0], False),
    ("no gradient there", [1, 0, 0], [0, 0, 1], [2, 0, 0], [0, 0, 0], False),
    ("not finite", [1, 0, 0], NAN, ONES, NAN, False),
]


@pytest.mark.parametrize("row", ERRORS, ids=[row[0].replace(" ", "_") for row in ERRORS])
def test_an_error_is_known_again(row):
    here, there, gradient, nearby = (np.asarray(values, float) for values in row[1:5])
    assert replication.is_same_error(Error(here, gradient), Error(there, nearby)) is row[5]


SIZES = st.floats(1e-6, 1e6)


@given(SIZES, SIZES, SIZES, SIZES, st.floats(-5, 5))
def test_whether_it_is_one_error_does_not_depend_on_the_unit(gap, other, size, second, exponent):
    unit = 10.0**exponent

    def error(gap, reference, unit=1.0):
        return Error(np.array([unit * gap]), np.array([unit * reference]))

    # Sizes at the border of the allowed factor are rounded to either side.
    is_apart = abs(max(gap, other) / min(gap, other) - 4) > 1e-6
    factors = gap / size, other / second
    if is_apart and abs(max(factors) / min(factors) - 4) > 1e-6:
        assert replication.is_same_error(error(gap, size), error(other, second)) is (
            replication.is_same_error(error(gap, size, unit), error(other, second, unit))
        )
