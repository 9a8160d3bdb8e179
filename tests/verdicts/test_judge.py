"""What the numbers mean: every verdict and reason once, and what can never happen."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradhooks.numerics import determinism
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.verdicts import judge

NAN, INF = math.nan, math.inf
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE

DIFFERENCES = [
    # name, analytic, numeric, ||a - n|| / (||a|| + ||n||)
    ("equal", [3.0, 4.0], [3.0, 4.0], 0.0),
    ("opposite", [3.0, 4.0], [-3.0, -4.0], 1.0),
    ("one is zero", [3.0, 4.0], [0.0, 0.0], 1.0),
    ("both are zero", [0.0, 0.0], [0.0, 0.0], 0.0),
    ("orthogonal", [3.0, 0.0], [0.0, 4.0], 5 / 7),
    ("twice", [2.0, 2.0, 1.0], [4.0, 4.0, 2.0], 1 / 3),
    ("one entry off", [1.0, 2.0, 2.0], [1.0, 2.0, 1.0], 1 / (3 + math.sqrt(6))),
    ("scalars", 1.0, 3.0, 0.5),
    ("nothing", [], [], 0.0),
    ("a matrix of the course", [1e-7], [1.2e-7], 0.2 / 2.2),
    ("huge", [1e200, 0.0], [0.0, 1e200], math.sqrt(2) / 2),
    ("huge and ordinary", [1e200, 1.0], [1e200, 5.0], 2e-200),
    ("tiny", [3e-200, 4e-200], [-3e-200, 4e-200], 0.6),
    ("subnormal", [5e-324], [-5e-324], 1.0),
    ("NaN", [1.0, NAN], [1.0, 2.0], NAN),
    ("NaN measured", [1.0, 2.0], [1.0, NAN], NAN),
    ("NaN measured beside zero", 0.0, NAN, NAN),
    ("zero measured beside NaN", NAN, 0.0, NAN),
    ("infinite", [INF], [1.0], NAN),
    ("infinite measured", [0.0], [-INF], NAN),
]


@pytest.mark.parametrize(
    ("analytic", "numeric", "difference"),
    [d[1:] for d in DIFFERENCES],
    ids=[d[0] for d in DIFFERENCES],
)
def test_the_relative_difference_of_hand_computed_vectors(analytic, numeric, difference):
    assert judge.relative_difference(analytic, numeric) == pytest.approx(
        difference, rel=1e-12, nan_ok=True
    )


VECTORS = arrays.arrays(np.float64, 4, elements=st.floats(-1e6, 1e6))


@given(VECTORS, VECTORS)
def test_the_relative_difference_is_a_symmetric_number_between_zero_and_one(one, other):
    difference = judge.relative_difference(one, other)
    assert 0.0 <= difference <= 1.0 + 1e-12
    assert difference == judge.relative_difference(other, one)


@given(VECTORS, VECTORS, st.integers(-300, 300))
def test_the_relative_difference_does_not_depend_on_the_unit(one, other, exponent):
    # By powers of two, which round nothing as long as nothing underflows.
    one, other = np.round(one), np.round(other)
    factor = 2.0**exponent
    assert judge.relative_difference(factor * one, factor * other) == judge.relative_difference(
        one, other
    )


@given(st.floats(), st.floats())
def test_two_numbers_differ_as_two_vectors_of_one_entry_do(one, other):
    expected = judge.relative_difference([one], [other])
    assert judge.relative_difference(one, other) == pytest.approx(expected, rel=1e-15, nan_ok=True)


def estimate(slope, error=1e-9, left=None, right=None, side_error=1e-9):
    """One whose one-sided slopes meet, unless the arguments say otherwise."""
    return DerivativeEstimate(
        slope,
        error,
        1e-5,
        slope if left is None else left,
        slope if right is None else right,
        side_error,
        side_error,
    )


TOLERANCE = 1e-6
JUDGED = [
    # name, analytic, estimate, magnitude, verdict, reason
    ("equal", 1.0, estimate(1.0), 0.0, PASS, Reason.AGREES),
    ("within the tolerance", 1.0, estimate(1.0 + 1.9e-6), 0.0, PASS, Reason.AGREES),
    ("within the error bar", 1.0, estimate(1.05, error=0.06), 0.0, PASS, Reason.AGREES),
    ("zero among many", 0.0, estimate(1e-9, error=1e-9), 1.0, PASS, Reason.AGREES),
    ("twice", 2.0, estimate(1.0), 0.0, FAIL, Reason.MISMATCH),
    ("reversed", -1.0, estimate(1.0), 0.0, FAIL, Reason.MISMATCH),
    ("slightly off", 1.0001, estimate(1.0), 0.0, FAIL, Reason.MISMATCH),
    ("loss that does not move", 1.0, estimate(0.0), 0.0, FAIL, Reason.MISMATCH),
    ("blocked", 0.0, estimate(1.0), 0.0, FAIL, Reason.BLOCKED),
    ("blocked with the other sign", -0.0, estimate(-1.0), 0.0, FAIL, Reason.BLOCKED),
    ("NaN gradient", NAN, estimate(1.0), 0.0, FAIL, Reason.NON_FINITE_GRADIENT),
    ("infinite gradient", INF, estimate(1.0), 0.0, FAIL, Reason.NON_FINITE_GRADIENT),
    ("no loss nearby", 1.0, estimate(NAN, error=INF), 0.0, INCONCLUSIVE, Reason.NON_FINITE_LOSS),
    ("infinite loss", 1.0, estimate(INF), 0.0, INCONCLUSIVE, Reason.NON_FINITE_LOSS),
    ("neither is finite", NAN, estimate(NAN), 0.0, INCONCLUSIVE, Reason.NON_FINITE_LOSS),
    ("both zero", 0.0, estimate(0.0), 0.0, INCONCLUSIVE, Reason.VACUOUS),
    ("both below the noise", 1e-17, estimate(-3e-10), 0.0, INCONCLUSIVE, Reason.VACUOUS),
    ("wide error bar", 1.0, estimate(1.3, error=0.5), 0.0, INCONCLUSIVE, Reason.NOISE),
    ("no error bar at all", 1.0, estimate(1.0, error=0.25), 0.0, INCONCLUSIVE, Reason.NOISE),
    ("kink", 1.0, estimate(0.5, 1e-9, 0.0, 1.0), 0.0, INCONCLUSIVE, Reason.KINK),
    ("between the slopes", 0.2, estimate(0.5, 1e-9, 0.0, 1.0), 0.0, INCONCLUSIVE, Reason.KINK),
    ("between falling slopes", 0.2, estimate(0.5, 1e-9, 1.0, 0.0), 0.0, INCONCLUSIVE, Reason.KINK),
    ("outside of the slopes", 2.0, estimate(0.5, 1e-9, 0.0, 1.0), 0.0, FAIL, Reason.MISMATCH),
    ("a crumb outside", 1.01, estimate(0.5, 1e-9, 0.0, 1.0), 0.0, FAIL, Reason.MISMATCH),
    ("under the bar", 1.01, estimate(0.5, 1e-9, 0.0, 1.0, 0.02), 0.0, INCONCLUSIVE, Reason.KINK),
    ("zero beside a kink", 0.0, estimate(0.5, 1e-9, 0.1, 1.0), 0.0, FAIL, Reason.BLOCKED),
    ("slopes that meet", 0.7, estimate(0.5, 0.5, 0.0, 1.0, 0.5), 0.0, INCONCLUSIVE, Reason.NOISE),
    ("not clearly", 0.9, estimate(0.5, 1e-9, 0.0, 1.0, 0.3), 0.0, INCONCLUSIVE, Reason.NOISE),
    ("too small a kink", 1.0, estimate(1.0, 1e-9, 1.0, 1.0 + 3e-6), 0.0, PASS, Reason.AGREES),
    ("kink at zero", 0.0, estimate(0.1, 0.5, -0.1, 0.3), 0.0, INCONCLUSIVE, Reason.KINK),
    ("several bars", 1.0, estimate(1.3, 0.5, 0.3, 2.3), 0.0, INCONCLUSIVE, Reason.KINK),
]


@pytest.mark.parametrize(
    ("analytic", "measured", "magnitude", "judged", "reason"),
    [j[1:] for j in JUDGED],
    ids=[j[0] for j in JUDGED],
)
def test_every_reason(analytic, measured, magnitude, judged, reason):
    assert judge.judge(analytic, measured, TOLERANCE, magnitude) == (judged, reason)


HUGE = 1.5e308


@pytest.mark.parametrize("slope", [HUGE, -HUGE, 1e-3 * HUGE])
@pytest.mark.parametrize("factor", [2.0**-1, -1.0, 1.01, 0.999])
def test_sizes_whose_sum_overflows_are_judged_like_any_other(slope, factor):
    analytic, measured = factor * slope, estimate(slope, error=1e-9 * HUGE)
    assert judge.judge(analytic, measured, TOLERANCE) == (FAIL, Reason.MISMATCH)
    assert judge.judge(slope, measured, TOLERANCE, abs(slope)) == (PASS, Reason.AGREES)
    assert math.isfinite(judge.allowed_gap(analytic, measured, TOLERANCE, abs(slope)))
    assert not judge.is_accepted(analytic, measured, 0.0, TOLERANCE)
    assert judge.is_accepted(slope, measured, 0.0, TOLERANCE)


JITTER_LAYOUT = Layout(("a", "b"), ((3,), (2,)))


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ([1, 2, 2, 3, 4], [1, 2, 2, 3, 4], {}),
        ([1, 2, 2, 3, 4], [1, 2, 2, 3, 4 + 1e-13], {}),
        ([1, 2, 2, 3, 4], [1, 2, 2, 3, 4.5], {1: 0.5 / math.hypot(3, 4.5)}),
        ([3, 4, 0, 0, 0], [3, 4, 0, 0, 1], {1: 1.0}),
        (
            [3, 4, 0, 0, 1e-17],
            [3, 4, 0, 0, -1e-17],
            {},
        ),  # rounding beside a gradient of ordinary size
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], {}),
    ],
)
def test_jitter_of_a_gradient_is_distinguished_from_rounding(first, second, found):
    one, other = ({"total": np.array(g, dtype=float)} for g in (first, second))
    assert determinism.gradient_jitter(JITTER_LAYOUT, one, other, TOLERANCE) == pytest.approx(
        found, rel=1e-6
    )


def test_a_magnitude_allows_for_cancellation():
    assert judge.judge(1e-7, estimate(3e-7), TOLERANCE) == (FAIL, Reason.MISMATCH)
    assert judge.judge(1e-7, estimate(3e-7), TOLERANCE, magnitude=1.0) == (PASS, Reason.AGREES)


@pytest.mark.parametrize(
    ("analytic", "slope", "error", "magnitude", "allowed"),
    [
        (1.0, 1.0, 0.0, 0.0, 2e-6),
        (-1.0, 3.0, 0.5, 0.0, 4e-6 + 0.5),
        (1.0, 1.0, 0.25, 10.0, 1e-5 + 0.25),
        (0.0, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_allowed_gap_is_tolerance_times_size_plus_error_bar(
    analytic, slope, error, magnitude, allowed
):
    assert judge.allowed_gap(
        analytic, estimate(slope, error), TOLERANCE, magnitude
    ) == pytest.approx(allowed)


SLOPES = st.one_of(st.floats(-10, 10), st.floats(-1e100, 1e100), st.sampled_from([0.0, NAN, INF]))
ERRORS = st.one_of(st.floats(0, 1), st.floats(0, 1e100), st.just(INF))
TOLERANCES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-6, 1e-2]))
MAGNITUDES = st.one_of(st.just(0.0), st.floats(0, 100))
ESTIMATES = st.builds(
    DerivativeEstimate,
    SLOPES,
    ERRORS,
    st.just(1e-5),
    st.floats(-10, 10),
    st.floats(-10, 10),
    ERRORS,
    ERRORS,
)
# Random numbers never agree, so analytic values also come from the estimate itself.
OFFSETS = st.sampled_from([1.0, 1.0 + 1e-7, 1.00001, 0.9, 0.5, -1.0, 0.0])


@st.composite
def judgeable(draw):
    """(analytic, estimate, tolerance, magnitude)."""
    measured = draw(ESTIMATES)
    analytic = draw(st.one_of(SLOPES, OFFSETS.map(lambda f: f * measured.slope)))
    return analytic, measured, draw(TOLERANCES), draw(MAGNITUDES)


@given(judgeable())
def test_the_table_holds_every_verdict_that_judging_can_give(case):
    assert judge.judge(*case) in {j[-2:] for j in JUDGED}


@given(judgeable(), ERRORS)
def test_a_larger_error_bar_never_makes_a_failure(case, other):
    """Growing errors: whatever is no FAIL stays no FAIL."""
    analytic, measured, tolerance, magnitude = case
    narrow, wide = (dataclasses.replace(measured, error=e) for e in sorted((measured.error, other)))
    if judge.judge(analytic, narrow, tolerance, magnitude)[0] is not FAIL:
        assert judge.judge(analytic, wide, tolerance, magnitude)[0] is not FAIL


@given(judgeable(), TOLERANCES)
def test_a_larger_tolerance_only_ever_passes_more(case, other):
    """Growing tolerances: PASS stays PASS, and whatever is no FAIL stays no FAIL."""
    analytic, measured, tolerance, magnitude = case
    strict, lenient = (
        judge.judge(analytic, measured, t, magnitude)[0] for t in sorted((tolerance, other))
    )
    if strict is PASS:
        assert lenient is PASS
    if strict is not FAIL:
        assert lenient is not FAIL


@given(judgeable())
def test_no_value_between_two_slopes_that_do_not_meet_fails(case):
    _, measured, tolerance, magnitude = case
    middle = (measured.left + measured.right) / 2
    if not measured.do_slopes_meet:
        assert judge.judge(middle, measured, tolerance, magnitude)[0] is not FAIL


@given(judgeable())
def test_a_reversed_probe_is_judged_alike(case):
    analytic, measured, tolerance, magnitude = case
    mirrored = dataclasses.replace(
        measured,
        slope=-measured.slope,
        left=-measured.right,
        right=-measured.left,
        left_error=measured.right_error,
        right_error=measured.left_error,
    )
    assert judge.judge(-analytic, mirrored, tolerance, magnitude) == judge.judge(*case)


@pytest.mark.parametrize(
    ("analytic", "slope", "rounding", "magnitude", "settled"),
    [
        (1.0, 1.0, 1e-9, 0.0, True),
        (1.0, 1.0 + 1e-6, 1e-9, 0.0, True),
        (1.0, 1.001, 1e-9, 0.0, False),
        (0.0, 0.0, 0.0, 0.0, True),
        (0.0, 1e-12, 1e-9, 0.0, True),  # both vanish in the rounding
        (1.0, 1.1, 0.3, 0.0, False),  # agrees, but anything would
        (1e-9, 2e-9, 1e-10, 1.0, True),
        (NAN, 1.0, 1e-9, 0.0, False),
        (1.0, NAN, 1e-9, 0.0, False),
        (1.0, INF, INF, 0.0, False),
    ],
)
def test_one_quotient_settles_it(analytic, slope, rounding, magnitude, settled):
    # The error bar is not asked: it contains a guess of the truncation.
    measured = estimate(slope, error=INF)
    assert judge.is_accepted(analytic, measured, rounding, TOLERANCE, magnitude) is settled


def compared(judged, reason, difference=0.0):
    return DerivativeComparison("v", (0,), "total", 1.0, 1.0, 0.0, 1e-5, difference, judged, reason)


AGREES = compared(PASS, Reason.AGREES)
KINK, NOISE, VACUOUS, DECLARED, KNOWN, ONLY_HERE = (
    compared(INCONCLUSIVE, r)
    for r in (
        Reason.KINK,
        Reason.NOISE,
        Reason.VACUOUS,
        Reason.DECLARED,
        Reason.KNOWN,
        Reason.ONLY_HERE,
    )
)
ROUNDING, LARGE_ROUNDING, NAN_ROUNDING = (
    compared(INCONCLUSIVE, Reason.ROUNDING, d) for d in (0.1, 0.11, math.nan)
)
MISMATCH, BLOCKED = (compared(FAIL, r) for r in (Reason.MISMATCH, Reason.BLOCKED))


@pytest.mark.parametrize(
    ("comparisons", "judged", "reason"),
    [
        ([], INCONCLUSIVE, Reason.NOTHING_SAMPLED),
        ([VACUOUS] * 5, INCONCLUSIVE, Reason.NOTHING_SAMPLED),
        ([DECLARED, VACUOUS], INCONCLUSIVE, Reason.DECLARED),
        ([VACUOUS, KNOWN], INCONCLUSIVE, Reason.KNOWN),
        ([AGREES, *[KNOWN] * 50], PASS, Reason.AGREES),
        ([AGREES], PASS, Reason.AGREES),
        ([AGREES, *[VACUOUS] * 50], PASS, Reason.AGREES),
        ([AGREES, *[DECLARED] * 50], PASS, Reason.AGREES),
        ([AGREES, KINK], PASS, Reason.AGREES),
        ([AGREES, KINK, NOISE], INCONCLUSIVE, Reason.KINK),
        ([NOISE, KINK], INCONCLUSIVE, Reason.NOISE),
        ([*[AGREES] * 50, ONLY_HERE], INCONCLUSIVE, Reason.ONLY_HERE),
        ([ONLY_HERE, MISMATCH], FAIL, Reason.MISMATCH),
        ([AGREES, *[ROUNDING] * 50], PASS, Reason.AGREES),
        ([AGREES, *[LARGE_ROUNDING] * 2], INCONCLUSIVE, Reason.ROUNDING),
        ([AGREES, *[NAN_ROUNDING] * 2], INCONCLUSIVE, Reason.ROUNDING),
        ([*[ROUNDING] * 50, VACUOUS], INCONCLUSIVE, Reason.ROUNDING),
        ([ROUNDING, NOISE], INCONCLUSIVE, Reason.NOISE),
        ([AGREES, *[ROUNDING] * 50, MISMATCH], FAIL, Reason.MISMATCH),
        ([*[AGREES] * 50, MISMATCH], FAIL, Reason.MISMATCH),
        ([KINK, BLOCKED, MISMATCH], FAIL, Reason.BLOCKED),
    ],
)
def test_the_verdict_on_a_whole_check(comparisons, judged, reason):
    assert judge.judge_check(comparisons) == (judged, reason)


@given(
    st.lists(st.sampled_from([AGREES, KINK, NOISE, VACUOUS, DECLARED, ROUNDING, MISMATCH, BLOCKED]))
)
def test_one_failure_fails_a_check_and_nothing_else_does(comparisons):
    assert (judge.judge_check(comparisons)[0] is FAIL) == any(
        c.verdict is FAIL for c in comparisons
    )
