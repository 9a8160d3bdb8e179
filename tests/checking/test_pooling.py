"""Pools of parameters: as sharp as one by one, taken apart where they disagree, and reported."""

import numpy as np
import pytest

from gradhooks.checking import pools, run
from gradhooks.checking.function_oracle import FunctionOracle
from gradhooks.checking.settings import Settings
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Verdict

SIZE = 32
SEEDS = range(10)
# What is done to one entry of the gradient.
ERRORS = {
    "a millionth": lambda g: g * (1 + 1e-6),
    "a ten-thousandth": lambda g: g * 1.0001,
    "sign": lambda g: -g,
    "zero": lambda g: 0.0 * g,
}


class Case:
    """A smooth function of 32 parameters, of which one entry of the gradient may be wrong."""

    def __init__(self, seed, wrong=None, error=None, kinks=()):
        rng = np.random.default_rng(seed)
        self.rows = rng.normal(size=(5, SIZE)) / np.sqrt(SIZE)
        self.point = rng.normal(size=SIZE)
        self.wrong, self.error = wrong, error
        self.kinks = list(kinks)
        self.point[self.kinks] = 0.0

    def loss(self, p):
        return float(np.sum(np.tanh(self.rows @ p) ** 2) + 1 + np.sum(np.abs(p[self.kinks])))

    def gradient(self, p):
        inner = np.tanh(self.rows @ p)
        gradient = self.rows.T @ (2 * inner * (1 - inner**2))
        if self.wrong is not None:
            gradient[self.wrong] = self.error(gradient[self.wrong])
        return gradient

    def oracle(self, is_pooling, groups=(0,), **options):
        oracle = FunctionOracle(self.loss, self.gradient, self.point, **options)
        if is_pooling:
            oracle.pooling_groups = groups
        return oracle

    def check(self, is_pooling=True, step=0, **options):
        return run.check(self.oracle(is_pooling, **options), Settings(samples=SIZE, step=step))


def pooled(report):
    return [c for c in report.comparisons if c.index is not None and c.pooled > 1]


def alone(report):
    return [c.position for c in report.comparisons if c.index is not None and c.pooled == 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_gradient_takes_half_an_evaluation_a_parameter(seed):
    single, report = Case(seed).check(is_pooling=False), Case(seed).check()
    assert report.verdict is single.verdict is Verdict.PASS
    assert len(pooled(report)) == SIZE - pools.ALONE
    assert report.coverage == single.coverage
    # The same stencils; then 2 for each parameter, or for each of four and of two pools.
    assert single.evaluations - report.evaluations == 2 * (SIZE - pools.ALONE) - 2 * 2
    assert report.relative_difference["total"] < report.threshold / 10


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ERRORS)
def test_one_wrong_entry_is_found_as_without_pools(name, seed):
    wrong = int(np.random.default_rng([seed, 1]).integers(SIZE))
    reports = [Case(seed, wrong, ERRORS[name]).check(is_pooling) for is_pooling in (False, True)]
    for report in reports:
        assert report.verdict is Verdict.FAIL
        assert {c.position for c in report.failures if c.index is not None} == {wrong}
    assert all(c.pooled == 1 for c in reports[1].failures)


@pytest.mark.parametrize("error", [1e-7, 3e-7, 1e-6, 1e-5])
def test_errors_around_the_threshold_are_found_as_often(error):
    def count(is_pooling):
        found = 0
        for seed in range(40):
            wrong = int(np.random.default_rng([seed, 2]).integers(SIZE))
            report = Case(seed, wrong, lambda g: g * (1 + error)).check(is_pooling)
            found += report.verdict is Verdict.FAIL
        return found

    assert abs(count(True) - count(False)) <= 2


def test_two_opposite_errors_of_one_pool_do_not_cancel():
    for seed in SEEDS:
        case = Case(seed)
        true = Case.gradient

        def gradient(p, case=case, true=true):
            wrong = true(case, p)
            size = 1e-5 * np.abs(wrong).max()
            wrong[::2] += size
            wrong[1::2] -= size
            return wrong

        case.gradient = gradient
        assert case.check().verdict is Verdict.FAIL


def test_the_bound_of_a_pool_holds_for_the_one_that_is_wrong():
    """An error that passes is at most what the report says of that parameter."""
    checked = 0
    for seed in SEEDS:
        true = Case(seed).gradient(Case(seed).point)
        for wrong in range(SIZE):
            report = Case(seed, wrong, lambda g: g * (1 + 1e-7)).check()
            for c in pooled(report):
                if c.position == wrong:
                    gap = abs(c.analytic - true[wrong])
                    assert gap <= c.gap + c.error
                    checked += 1
    assert checked > 100


def test_a_pool_with_a_kink_is_taken_apart():
    report = Case(0, kinks=[3]).check()
    assert report.verdict is Verdict.PASS
    by_position = {c.position: c for c in report.comparisons if c.index is not None}
    assert by_position[3].pooled == 1
    assert by_position[3].verdict is Verdict.INCONCLUSIVE
    others = [c for position, c in by_position.items() if position != 3]
    assert all(c.verdict is Verdict.PASS for c in others)
    assert len(pooled(report)) >= (SIZE - pools.ALONE) / 2


def test_others_are_measured_alone_in_every_check():
    seen = [frozenset(alone(Case(0).check(step=step))) for step in range(20)]
    assert all(len(positions) == pools.ALONE for positions in seen)
    assert len(set(seen)) == len(seen)
    assert len(frozenset.union(*seen)) > SIZE / 2


def test_a_few_parameters_are_measured_alone():
    oracle = Case(0).oracle(is_pooling=True)
    report = run.check(oracle, Settings(samples=pools.ALONE + 1))
    assert not pooled(report)


def test_only_parameters_of_one_group_are_pooled():
    shapes = [(10,), (10,), (12,)]
    case = Case(0)
    oracle = case.oracle(is_pooling=True, groups=(0, 2), shapes=shapes)
    moved = []
    losses = oracle.losses

    def watch(point, probes, pairs):
        moved.extend(p.positions for p in probes if p.positions is not None)
        return losses(point, probes, pairs)

    oracle.losses = watch
    report = run.check(oracle, Settings(samples=SIZE))
    assert moved
    assert report.verdict is Verdict.PASS
    assert all((positions < 20).all() or (positions >= 20).all() for positions in moved)


@pytest.mark.parametrize("level", ["model", "partial"])
def test_losses_of_few_digits_are_measured_one_by_one(level):
    report = Case(0).check(level=level)
    assert bool(pooled(report)) == (level == "partial")


def test_jitter_is_measured_one_by_one():
    case, rng = Case(0), np.random.default_rng(0)
    exact = case.loss
    case.loss = lambda p: exact(p) + 1e-15 * rng.normal()
    assert not pooled(case.check())


def test_parameters_without_a_signal_are_measured_alone():
    case = Case(0)
    case.rows[:, 5] = 0.0  # no gradient
    case.rows[:, 6] *= 1e-14  # hidden by rounding
    report = case.check()
    assert {5, 6} <= set(alone(report))
    assert report.verdict is Verdict.PASS


def test_a_parameter_too_large_for_a_short_step_is_measured_alone():
    case = Case(0)
    case.rows[:, 7] *= 1e-6
    case.point[7] = 1e15
    report = case.check()
    assert 7 in alone(report)
    assert report.verdict is not Verdict.FAIL


def test_what_is_declared_is_measured_alone():
    shapes = [(16,), (16,)]
    case = Case(0)
    true = case.gradient
    case.gradient = lambda p: np.concatenate([2 * true(p)[:16], true(p)[16:]])
    oracle = case.oracle(is_pooling=True, shapes=shapes)
    report = run.check(oracle, Settings(samples=SIZE, expect=(("v0", "mismatch"),)))
    assert report.verdict is Verdict.PASS
    assert set(range(16)) <= set(alone(report))
    assert len(pooled(report)) >= 12


def test_the_report_says_what_was_pooled():
    text = " ".join(str(Case(0).check()).split())
    assert f"{SIZE - pools.ALONE} of them in pools" in text
    assert "agrees, 1 of 14" in text
    assert "if it alone made all of the difference" in text
    assert "pools" not in str(Case(0).check(is_pooling=False))


def test_a_probe_moves_the_parameters_that_it_names():
    probe = Probe(1, np.array([1.0, -2.0]), 1.0, np.array([1, 4]))
    point = np.arange(6.0)
    np.testing.assert_array_equal(probe.move(point, 0.5), [0, 1.5, 2, 3, 3, 5])
    np.testing.assert_array_equal(point, np.arange(6.0))
    assert probe.stop == 5
    assert probe.slope_of(np.array([9.0, 1, 9, 9, 10, 9])) == 1 - 20
