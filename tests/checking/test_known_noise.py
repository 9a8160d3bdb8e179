"""The noise that one check has measured is confirmed in the next ones, and measured anew if not."""

import numpy as np
import pytest

from gradhooks.checking import known_noise, run
from gradhooks.checking.function_oracle import FunctionOracle
from gradhooks.checking.settings import Settings
from gradhooks.reports.reasons import Verdict

SIZE = 12
# A whole estimate: two stencils of nine points. Its confirmation: two points at each distance, and
# the point itself.
ANEW, CONFIRMED = 18, 5


class Loss:
    """A smooth loss, whose parts can be changed between checks."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.rows = rng.normal(size=(4, SIZE))
        self.point = rng.normal(size=SIZE)
        self.size, self.noise, self.error, self.kink = 1.0, 0.0, 1.0, 0.0
        self._rng = rng

    def loss(self, p):
        bent = self.kink * np.abs(p - self.point).sum()
        rough = self.noise * np.sin(1e9 * np.sum(p))
        return float(self.size * (np.sum(np.tanh(self.rows @ p) ** 2) + 1) + bent + rough)

    def gradient(self, p):
        inner = np.tanh(self.rows @ p)
        return self.error * self.size * (self.rows.T @ (2 * inner * (1 - inner**2)))


@pytest.fixture
def checks():
    """A loss, and a function that checks it once more in the same run."""
    loss = Loss()
    oracle = FunctionOracle(loss.loss, loss.gradient, loss.point)
    steps = iter(range(100))

    def check():
        return run.check(oracle, Settings(samples=SIZE, step=next(steps)))

    return loss, check, oracle


def test_later_checks_cost_thirteen_evaluations_less(checks):
    _, check, _ = checks
    first, *others = [check() for _ in range(5)]
    assert first.evaluations == ANEW + 2 * SIZE
    assert {r.evaluations for r in others} == {CONFIRMED + 2 * SIZE}
    assert {r.verdict for r in [first, *others]} == {Verdict.PASS}
    assert {r.precision.noise for r in others} == {first.precision.noise}


def test_after_a_while_it_is_measured_anew(checks):
    _, check, _ = checks
    costs = [check().evaluations - 2 * SIZE for _ in range(2 * known_noise._CHECKS)]
    assert costs == 2 * [ANEW, *[CONFIRMED] * (known_noise._CHECKS - 1)]


@pytest.mark.parametrize("change", [{"size": 3.0}, {"size": 0.3}, {"noise": 1e-12}])
def test_another_loss_is_measured_anew(checks, change):
    loss, check, _ = checks
    first = check()
    vars(loss).update(change)
    second = check()
    assert second.evaluations >= CONFIRMED + ANEW
    assert second.verdict is Verdict.PASS
    # The same as without an earlier check.
    fresh = run.check(
        FunctionOracle(loss.loss, loss.gradient, loss.point), Settings(samples=SIZE, step=1)
    )
    assert second.precision.noise == fresh.precision.noise
    assert second.precision.noise != first.precision.noise


@pytest.mark.parametrize("change", [{"error": 1.001}, {"error": -1.0}])
def test_an_error_that_begins_later_is_found(checks, change):
    loss, check, _ = checks
    assert check().verdict is Verdict.PASS
    vars(loss).update(change)
    assert check().verdict is Verdict.FAIL


def test_a_kink_that_begins_later_is_no_failure(checks):
    loss, check, _ = checks
    assert check().verdict is Verdict.PASS
    loss.kink = 1.0
    assert check().verdict is not Verdict.FAIL


def test_a_loss_that_becomes_infinite_is_said(checks):
    loss, check, _ = checks
    check()
    loss.size = np.inf
    assert check().verdict is Verdict.INCONCLUSIVE


def test_what_jitters_is_measured_in_every_check(checks):
    loss, check, oracle = checks
    exact, rng = loss.loss, np.random.default_rng(1)
    oracle._parts = [(lambda p: exact(p) + 1e-13 * rng.normal(), loss.gradient)]
    for _ in range(3):
        check()
        assert oracle.known_noise is None
