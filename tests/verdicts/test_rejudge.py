"""A stored report under another threshold: the verdict of the check from the same numbers."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradhooks
from gradhooks.checking import run
from gradhooks.checking.settings import Settings
from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.verdicts import judge
from gradhooks.verdicts.rejudge import rejudge
from tests import models
from tests.arbitrary import REPORTS
from tests.corpora import mutants
from tests.corpora.controls import declared, kinks
from tests.corpora.judging import check_case
from tests.fakes import FunctionOracle

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
SOFTNESS = (FAIL, INCONCLUSIVE, PASS)
THRESHOLDS = [1e-15, 1e-12, 1e-9, 1e-7, 1e-6, 1e-5, 1e-3, 1e-2, 0.1, 0.5, 0.9, 2.0]


def checked(build, **options):
    model, x, y = build()
    return gradhooks.check_gradients(model, x, y, **options)


def case(one):
    return functools.partial(check_case, one, 0)


# Real checks, and a reason that is to be found in each: rejudging must know what to do with all of
# them.
REAL = {
    "tanh MLP": (Reason.AGREES, functools.partial(checked, models.mlp)),
    "dropout and Gaussian noise": (Reason.VACUOUS, functools.partial(checked, models.noisy)),
    "a loose threshold": (Reason.AGREES, functools.partial(checked, models.mlp, threshold=0.05)),
    "at the model's precision": (
        Reason.AGREES,
        functools.partial(checked, models.mlp, precision="model"),
    ),
    "half precision": (Reason.AGREES, functools.partial(checked, models.HEALTHY["mixed_float16"])),
    "a factor": (Reason.MISMATCH, case(mutants.CASES[0])),
    "a regularizer": (Reason.MISMATCH, case(mutants.regularizers.CASES[0])),
    "blocked": (Reason.BLOCKED, case(mutants.blocked.CASES[0])),
    "a staircase": (
        Reason.BLOCKED,
        case(next(c for c in mutants.blocked.CASES if c.name == "rounding")),
    ),
    "not finite": (Reason.NON_FINITE_GRADIENT, case(mutants.nonfinite.CASES[0])),
    "an unreached weight": (Reason.AGREES, case(mutants.UNREACHED[0])),
    "a declared mismatch": (Reason.DECLARED, case(declared.CASES[0])),
    "another declared mismatch": (Reason.DECLARED, case(declared.CASES[1])),
    "nothing but kinks": (Reason.KINK, case(kinks.CASES[0])),
}


@functools.cache
def real(name):
    return REAL[name][1]()


@pytest.fixture(params=REAL, scope="module")
def found(request):
    """A real report, as it is read from a file."""
    report = CheckReport.from_json(real(request.param).to_json())
    assert REAL[request.param][0] in {c.reason for c in report.comparisons}
    return report


def spell(report):
    """Returns all fields as text: NaN does not equal itself."""
    return repr(vars(report))


def test_under_its_own_threshold_a_report_is_what_it_was(found):
    assert spell(rejudge(found, found.threshold)) == spell(found)


def test_a_larger_threshold_only_softens(found):
    reports = [rejudge(found, threshold) for threshold in sorted([*THRESHOLDS, found.threshold])]
    for strict, loose in itertools.pairwise(reports):
        assert SOFTNESS.index(loose.verdict) >= SOFTNESS.index(strict.verdict)
        for before, after in zip(strict.comparisons, loose.comparisons, strict=True):
            assert SOFTNESS.index(after.verdict) >= SOFTNESS.index(before.verdict), (before, after)


def test_judged_twice_is_judged_once(found):
    assert spell(rejudge(rejudge(found, 0.1), 0.1)) == spell(rejudge(found, 0.1))


def test_a_factor_of_two_is_excused_by_no_threshold_below_its_relative_difference():
    report = real("a factor")
    assert [rejudge(report, t).verdict for t in (1e-9, 1e-3, 0.3)] == [FAIL, FAIL, FAIL]
    forgiven = rejudge(report, 0.5)
    assert (forgiven.verdict, forgiven.failures, forgiven.diagnoses) == (PASS, (), ())


def quadratic(error, threshold):
    """A check of `sum(x^3)/3` whose gradient has the relative error `error` in one place."""
    factor = np.array([1.0, 1.0 + error, 1.0, 1.0])
    oracle = FunctionOracle(
        lambda p: float(np.sum(p**3) / 3), lambda p: factor * p**2, [0.5, -0.7, 1.1, 0.9]
    )
    settings = Settings(samples=4, threshold=threshold, train_step=False)
    return run.check(oracle, settings)


@pytest.mark.parametrize("error", [0.0, 1e-5, 1e-3, 0.1, 1.0, -2.0])
@pytest.mark.parametrize("stored", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("threshold", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.2])
def test_it_says_what_a_check_under_that_threshold_says(error, stored, threshold):
    assert (
        rejudge(quadratic(error, stored), threshold).verdict is quadratic(error, threshold).verdict
    )


def compared(
    judged=PASS,
    reason=Reason.AGREES,
    analytic=1.0,
    numeric=1.0,
    path="d/w",
    term="total",
    **changes,
):
    settings = {
        "left": numeric,
        "right": numeric,
        "allowed": 1e-6 * (abs(analytic) + abs(numeric)) + 1e-9,
    } | changes
    return DerivativeComparison(
        path, (1,), term, analytic, numeric, 1e-9, 1e-5, 0.0, judged, reason, **settings
    )


def report(*comparisons, **changes):
    return CheckReport(
        7,
        *judge.judge_check(comparisons),
        {"total": 0.0},
        comparisons,
        **{"threshold": 1e-6} | changes,
    )


OFF = compared(FAIL, Reason.MISMATCH, 1.0, 1.001)
SLIGHTLY_OFF = compared(analytic=1.0, numeric=1.0 + 1e-6)

CHANGED = [
    # name, comparison, changes of the report, threshold, verdict, reason
    ("forgiven", OFF, {}, 1e-3, PASS, Reason.AGREES),
    ("not forgiven", OFF, {}, 1e-4, FAIL, Reason.MISMATCH),
    ("failing", SLIGHTLY_OFF, {}, 1e-7, FAIL, Reason.MISMATCH),
    (
        "failing at zero",
        compared(analytic=0.0, numeric=1.0, magnitude=1e7),
        {},
        1e-8,
        FAIL,
        Reason.BLOCKED,
    ),
    (
        "a kink that did not matter",
        dataclasses.replace(
            SLIGHTLY_OFF, left=1.0 - 1e-7, right=1.0 + 1e-5, left_error=1e-9, right_error=1e-9
        ),
        {},
        1e-7,
        INCONCLUSIVE,
        Reason.KINK,
    ),
    (
        "between slopes that did not matter",
        dataclasses.replace(SLIGHTLY_OFF, left=0.0, right=2.0, left_error=1e-9, right_error=1e-9),
        {},
        1e-7,
        INCONCLUSIVE,
        Reason.KINK,
    ),
    ("cancellation", dataclasses.replace(OFF, magnitude=100.0), {}, 1e-4, PASS, Reason.AGREES),
    (
        "declared",
        SLIGHTLY_OFF,
        {"expect": (("d/*", "mismatch"),)},
        1e-7,
        INCONCLUSIVE,
        Reason.DECLARED,
    ),
    (
        "declared elsewhere",
        SLIGHTLY_OFF,
        {"expect": (("e/*", "mismatch"),)},
        1e-7,
        FAIL,
        Reason.MISMATCH,
    ),
    (
        "declared otherwise",
        SLIGHTLY_OFF,
        {"expect": (("d/*", "blocked"),)},
        1e-7,
        FAIL,
        Reason.MISMATCH,
    ),
    (
        "declared as nobody knows",
        SLIGHTLY_OFF,
        {"expect": (("d/*", "fine"),)},
        1e-7,
        FAIL,
        Reason.MISMATCH,
    ),
]


@pytest.mark.parametrize(
    ("comparison", "changes", "threshold", "judged", "reason"),
    [c[1:] for c in CHANGED],
    ids=[c[0] for c in CHANGED],
)
def test_what_follows_the_threshold(comparison, changes, threshold, judged, reason):
    rejudged = rejudge(report(comparison, **changes), threshold)
    assert (rejudged.comparisons[0].verdict, rejudged.comparisons[0].reason) == (judged, reason)
    assert (rejudged.verdict is FAIL) == (judged is FAIL)
    assert rejudged.threshold == threshold


KEPT = [
    compared(INCONCLUSIVE, Reason.KINK, 0.2, 0.5, left=0.0, right=1.0, is_kink=True),
    compared(INCONCLUSIVE, Reason.NOISE, 1.0, 1.3),
    compared(INCONCLUSIVE, Reason.VACUOUS, 0.0, 0.0),
    compared(INCONCLUSIVE, Reason.DECLARED, 1.0, 2.0),
    compared(FAIL, Reason.UNDECLARED_MATCH),
    compared(FAIL, Reason.BLOCKED, 0.0, 1.0),
    compared(FAIL, Reason.BLOCKED, 0.0, 1.0, left=math.nan, right=math.nan, allowed=0.0),
    compared(FAIL, Reason.NON_FINITE_GRADIENT, math.nan, 1.0),
    compared(INCONCLUSIVE, Reason.NON_FINITE_LOSS, 1.0, math.nan),
    GradientComparison("d/w", 1.0, 1.05, 0.05, 0.02, PASS, Reason.AGREES, allowed=0.06),
    GradientComparison("d/w", 1.0, 2.0, 1.0, 0.3, FAIL, Reason.UNTRAINED, allowed=1e-4),
    GradientComparison("d/w", 1.0, 0.9, 0.1, 0.05, FAIL, Reason.UNDERFLOW, allowed=0.06),
]


@pytest.mark.parametrize("threshold", [1e-12, 1e-6, 0.9])
@pytest.mark.parametrize("kept", KEPT, ids=lambda c: f"{c.reason} {c.term} {c.allowed:.0e}")
def test_what_does_not_follow_the_threshold(kept, threshold):
    rejudged = rejudge(
        report(kept, expect=(("d/*", "mismatch"),) if kept.reason is Reason.DECLARED else ()),
        threshold,
    )
    assert (rejudged.comparisons[0].verdict, rejudged.comparisons[0].reason) == (
        kept.verdict,
        kept.reason,
    )


def test_the_allowed_gap_is_that_of_the_new_threshold():
    rejudged = rejudge(report(OFF, KEPT[0], KEPT[6], KEPT[9]), 1e-2).comparisons
    assert rejudged[0].allowed == pytest.approx(1e-2 * 2.001 + 1e-9)
    assert rejudged[1].allowed == pytest.approx(1e-2 * 0.7 + 1e-9)
    assert [c.allowed for c in rejudged[2:]] == [KEPT[6].allowed, KEPT[9].allowed]


@pytest.mark.parametrize("reason", [Reason.NON_FINITE_LOSS, Reason.NOT_DETERMINISTIC, Reason.ERROR])
def test_an_obstacle_is_not_a_matter_of_the_threshold(reason):
    rejudged = rejudge(CheckReport(7, INCONCLUSIVE, reason, {}), 1e-3)
    assert (rejudged.verdict, rejudged.reason, rejudged.threshold) == (INCONCLUSIVE, reason, 1e-3)


def test_a_diagnosis_stays_while_what_it_speaks_of_fails():
    diagnoses = (
        Diagnosis("d/w", "wrong", ("total",)),
        Diagnosis("d/w", "clipped", ("trained",)),
        Diagnosis("e/w", "reversed", ("total",)),
        Diagnosis("e/w", "says not of what"),
    )
    reversed_one = compared(FAIL, Reason.MISMATCH, -1.0, 1.0, path="e/w")
    rejudged = rejudge(report(OFF, reversed_one, KEPT[10], diagnoses=diagnoses), 1e-2)
    assert rejudged.diagnoses == diagnoses[1:]


@pytest.mark.parametrize("threshold", [0.0, -1e-6, math.nan, math.inf])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(
        ValueError, match=r"relative difference\. Received: threshold=.* Expected .* Try "
    ):
        rejudge(report(OFF), threshold)


FINITE = st.floats(-1e3, 1e3)
SIZES = st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e3]) | st.floats(0.0, 1e3)
SMALL = st.floats(1e-12, 2.0)


@st.composite
def judged_reports(draw):
    """Reports as a check makes them of any numbers."""
    threshold = draw(SMALL)
    comparisons = []
    for _ in range(draw(st.integers(1, 4))):
        analytic = draw(FINITE)
        numeric = draw(FINITE | st.sampled_from([analytic, analytic * (1 + threshold)]))
        sides = draw(st.sampled_from([(numeric, numeric), (numeric - 1.0, numeric + 1.0)]))
        estimate = DerivativeEstimate(numeric, draw(SIZES), 1e-5, *sides, draw(st.booleans()))
        magnitude = draw(SIZES)
        found, reason = judge.judge(analytic, estimate, threshold, magnitude)
        comparisons.append(
            DerivativeComparison(
                "d/w",
                None,
                "total",
                analytic,
                numeric,
                estimate.error,
                1e-5,
                0.0,
                found,
                reason,
                *sides,
                judge.allowed_gap(analytic, estimate, threshold, magnitude),
                magnitude=magnitude,
                is_kink=estimate.is_kink or reason is Reason.KINK,
            )
        )
    return report(*comparisons, threshold=threshold)


@given(judged_reports(), SMALL, SMALL)
def test_for_any_numbers_a_larger_threshold_only_softens(stored, one, other):
    assert spell(rejudge(stored, stored.threshold)) == spell(stored)
    strict, loose = rejudge(stored, min(one, other)), rejudge(stored, max(one, other))
    assert SOFTNESS.index(loose.verdict) >= SOFTNESS.index(strict.verdict)
    for before, after in zip(strict.comparisons, loose.comparisons, strict=True):
        assert SOFTNESS.index(after.verdict) >= SOFTNESS.index(before.verdict)


@given(REPORTS, SMALL)
def test_whatever_a_file_says_is_judged(stored, threshold):
    assert rejudge(stored, threshold).threshold == threshold
