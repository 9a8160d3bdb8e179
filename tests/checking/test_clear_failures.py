"""Failures far above every error bar take few evaluations; what is not clear takes what it took."""

import numpy as np
import pytest

from gradhooks.checking import clear_failures, measure, replicates, run, step_control
from gradhooks.checking.settings import Settings
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge
from tests.fakes import FunctionOracle, dense_kinks, estimate_baseline, steep

THRESHOLD = 1e-7
SIZE = 12
BAR = 1e-9


def coordinates(oracle):
    return [Probe(k, np.ones(1)) for k in range(oracle.layout.size)]


def bowl(factor=1.0, change=None):
    """The oracle of a smooth loss, whose gradient is wrong by a factor or has been changed."""
    point = np.random.default_rng(1).uniform(0.5, 1.5, SIZE)

    def gradient(p):
        right = p**3 + np.cos(p)
        return factor * right if change is None else change(right)

    return FunctionOracle(lambda p: float(np.sum(p**4 / 4 + np.sin(p))), gradient, point)


def evaluations(oracle):
    """(verdict, evaluations) of a check."""
    report = run.check(oracle, Settings())
    return report.verdict, report.evaluations


# (analytic, what was measured, whether that is clear), for a numeric derivative of about 1
CLEAR = [
    (1.1, DerivativeEstimate(1.0, BAR, 1e-6, 1.0, 1.0, BAR, BAR, 4), True),
    (1.0 + 5 * BAR, DerivativeEstimate(1.0, BAR, 1e-6, 1.0, 1.0, BAR, BAR, 4), False),
    # a kink
    (1.1, DerivativeEstimate(1.0, BAR, 1e-6, 0.5, 1.5, BAR, BAR, 4), False),
    # a quotient that falls like 1 / h, far from a huge derivative
    (100.0, DerivativeEstimate(1.0, 0.9, 1e-6, 1.0, 1.0, 2.0, 2.0, 4, truncation=0.9), False),
    # rounding alone, where the loss does not move at all
    (1.0, DerivativeEstimate(1e-10, BAR, 1e-6, 0.0, 0.0, BAR, BAR, 4), True),
    # one quotient
    (1.1, DerivativeEstimate(1.0, BAR, 1e-6, 1.0, 1.0 + BAR), True),
    (1.1, DerivativeEstimate(1.0, BAR, 1e-6, 0.9, 1.1), False),
    (float("nan"), DerivativeEstimate(1.0, BAR, 1e-6, 1.0, 1.0, BAR, BAR, 4), False),
]


@pytest.mark.parametrize(("analytic", "estimate", "is_clear"), CLEAR)
def test_what_is_clear(analytic, estimate, is_clear):
    assert judge.is_clear_failure(analytic, estimate) is is_clear


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.5, 1.01, 1.0001, 2.0])
def test_a_wrong_factor_costs_at_most_twice_a_pass(factor):
    passed, cost = evaluations(bowl())
    failed, dearer = evaluations(bowl(factor))
    assert (passed, failed) == (Verdict.PASS, Verdict.FAIL)
    assert dearer <= 2 * cost


def test_a_gradient_of_nan_costs_at_most_twice_a_pass():
    failed, cost = evaluations(bowl(np.nan))
    assert failed is Verdict.FAIL
    assert cost <= 2 * evaluations(bowl())[1]


def test_every_failure_has_an_error_bar_that_supports_it():
    report = run.check(bowl(1.01), Settings())
    assert len(report.failures) == SIZE + 1
    for c in report.failures:
        assert c.reason is Reason.MISMATCH
        assert abs(c.analytic - c.numeric) > 10 * c.error > 0
        assert c.numeric == pytest.approx(c.analytic / 1.01, rel=1e-5)


def test_one_wrong_parameter_makes_no_other_fail():
    def change(right):
        return right * np.where(np.arange(SIZE) == 5, 1.1, 1.0)

    report = run.check(bowl(change=change), Settings())
    assert {c.index for c in report.failures if c.index is not None} == {(5,)}


def test_what_is_not_clear_costs_what_a_sequence_costs_and_says_the_same():
    oracle = dense_kinks()
    at, _, _ = estimate_baseline(oracle)
    first = step_control.first_estimates(oracle, at, coordinates(oracle), THRESHOLD)
    before = oracle.evaluations
    whole = measure.refine(oracle, at, first, THRESHOLD)
    cost = oracle.evaluations - before
    in_parts = clear_failures.refine_until_clear(oracle, at, first, THRESHOLD)
    assert oracle.evaluations - before == 2 * cost
    assert in_parts == whole


@pytest.mark.parametrize("rate", [1e5, 1e6, 1e7, 1e8, 1e9, 1e11])
def test_a_steep_loss_is_not_failed_by_quotients_that_are_too_small(rate):
    """A wave is far shorter than most steps: their quotients are small, and differ little."""
    for seed in range(25):
        report = run.check(steep(rate=rate), Settings(seed=seed))
        assert report.verdict is not Verdict.FAIL, seed


def test_a_gradient_that_is_wrong_at_this_point_alone_is_not_repeated(monkeypatch):
    repeated = []
    confirm = replicates.confirm_clear

    def confirm_clear(*args):
        repeated.extend(stands := confirm(*args))
        return stands

    monkeypatch.setattr(replicates, "confirm_clear", confirm_clear)
    oracle = bowl()
    point, right = oracle.point(), oracle.gradients
    wrong_here = FunctionOracle(
        lambda p: float(np.sum(p**4 / 4 + np.sin(p))),
        lambda p: right(p).terms["total"] * (2.0 if np.array_equal(p, point) else 1.0),
        point,
    )
    report = run.check(wrong_here, Settings())
    assert report.verdict is Verdict.INCONCLUSIVE
    assert {c.reason for c in report.comparisons} == {Reason.ONLY_HERE}
    assert repeated
    assert not any(repeated)
