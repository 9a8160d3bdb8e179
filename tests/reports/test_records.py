"""What the records say about themselves."""

import math

import numpy as np
import pytest

from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.reports.circumstances import Coverage
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.reports.report import CheckReport


def compared(judged=Verdict.PASS, reason=Reason.AGREES, difference=0.0, index=(1, 2), **changes):
    return DerivativeComparison(
        "d/w", index, "total", 1.0, 3.0, 1e-9, 1e-5, difference, judged, reason, **changes
    )


def report(*comparisons, **changes):
    return CheckReport(
        7, Verdict.PASS, Reason.AGREES, {"total": 0.0}, comparisons=comparisons, **changes
    )


FAILED = [compared(Verdict.FAIL, Reason.MISMATCH, d) for d in (0.1, math.nan, 0.9)]
OPEN = [
    compared(Verdict.INCONCLUSIVE, r) for r in (Reason.KINK, Reason.NOISE, Reason.NON_FINITE_LOSS)
]
VACUOUS = compared(Verdict.INCONCLUSIVE, Reason.VACUOUS)
DECLARED = compared(Verdict.INCONCLUSIVE, Reason.DECLARED)
MIXED = report(FAILED[0], compared(), *OPEN, VACUOUS, FAILED[1], DECLARED, FAILED[2], compared())


def test_failures_come_worst_first():
    assert MIXED.failures == (FAILED[1], FAILED[2], FAILED[0])


def test_vacuous_and_declared_ones_are_not_inconclusive():
    assert MIXED.inconclusive == tuple(OPEN)
    assert MIXED.vacuous == (VACUOUS,)


def test_a_passing_report_is_returned_where_a_failing_one_raises():
    from gradhooks.reports.errors import GradientMismatchError

    passing = report(compared())
    assert passing.raise_on_failure() is passing
    failing = CheckReport(7, Verdict.FAIL, Reason.MISMATCH, {"total": 0.9}, (FAILED[2],))
    with pytest.raises(GradientMismatchError) as caught:
        failing.raise_on_failure()
    assert caught.value.report is failing


@pytest.mark.parametrize(
    ("index", "label"), [((1, 2), "d/w[1, 2]"), ((), "d/w[()]"), (None, "d/w")]
)
def test_a_comparison_says_where_it_is_and_how_far_apart(index, label):
    assert (compared(index=index).label, compared(index=index).gap) == (label, 2.0)


@pytest.mark.parametrize(("seen", "total", "share"), [(0, 0, 0.0), (1, 4, 0.25), (4, 4, 1.0)])
def test_coverage_is_a_share_of_the_variables(seen, total, share):
    assert Coverage(seen, total, 0, 0).share == share


def test_the_slope_along_a_probe_is_the_sum_of_its_parts():
    gradient = np.array([1.0, 10.0, 100.0, 1000.0])
    probe = Probe(1, np.array([2.0, -1.0]))
    assert (probe.slope_of(gradient), probe.stop, probe.is_coordinate) == (-80.0, 3, False)
    assert Probe(3, np.ones(1)).is_coordinate


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_explains_itself(reason):
    assert len(reason.explanation.split()) > 8
    assert str(reason) == reason.name.lower()


@pytest.mark.parametrize(
    "record",
    [compared(), report(), Probe(0, np.ones(1)), DerivativeEstimate(1.0, 0.0, 0.1, 1.0, 1.0)],
)
def test_records_are_frozen(record):
    field = next(iter(vars(record)))
    with pytest.raises(AttributeError):
        setattr(record, field, 0)
