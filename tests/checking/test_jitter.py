"""Losses and gradients that differ between evaluations at one point: noise, up to the threshold."""

import numpy as np
import pytest

from gradhooks.checking import run
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.settings import Settings
from gradhooks.numerics import determinism, differences
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason, Verdict
from tests.checking.test_run import POINT, TWO, Network, logistic_gradient, logistic_regression
from tests.fakes import FunctionOracle, estimate_baseline, quadratic

SMALL = [1e-16, 1e-14, 1e-12]


class Jitter:
    """Numbers, every one of them multiplied by `1 + relative * N(0, 1)`."""

    def __init__(self, relative, seed=0):
        self._relative, self._rng = relative, np.random.default_rng(seed)

    def __call__(self, value):
        return value * (1 + self._relative * self._rng.normal(size=np.shape(value)))


def jittering(function, jitter):
    return lambda point: jitter(function(point))


def check(oracle, **options):
    return run.check(oracle, Settings(**options))


# Losses with their gradients, point and shapes.
NETWORK = Network()
SHAPES = tuple(p.shape for p in NETWORK.parts(NETWORK.point))
HEALTHY = {
    "network": (NETWORK.loss, NETWORK.gradient, NETWORK.point, SHAPES),
    "logistic regression": (logistic_regression, logistic_gradient, POINT, TWO),
    "quadratic": (lambda p: float(p @ p), lambda p: 2 * p, POINT, TWO),
}


def make_oracle(name, relative, factor=1.0, seed=0):
    """An oracle whose loss and gradient jitter, the gradient `factor` times too large."""
    loss, gradient, point, shapes = HEALTHY[name]
    jitter = Jitter(relative, seed)
    return FunctionOracle(
        jittering(loss, jitter), jittering(lambda p: factor * gradient(p), jitter), point, shapes
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("relative", SMALL)
@pytest.mark.parametrize("name", HEALTHY)
def test_small_jitter_hides_nothing(name, relative, seed):
    report = check(make_oracle(name, relative, seed=seed), seed=seed)
    assert (report.verdict, report.reason) == (Verdict.PASS, Reason.AGREES), report
    assert not report.failures


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("relative", SMALL)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_wrong_factor_is_seen_through_small_jitter(name, relative, seed):
    report = check(make_oracle(name, relative, 1.001, seed), seed=seed)
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.MISMATCH), report


@pytest.mark.parametrize("factor", [1.0, 1.001])
@pytest.mark.parametrize("relative", [1e-6, 1e-3])
@pytest.mark.parametrize("name", HEALTHY)
def test_jitter_above_the_threshold_leaves_nothing_to_see(name, relative, factor):
    report = check(make_oracle(name, relative, factor))
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_DETERMINISTIC)
    size = report.loss["total"]
    assert 0.5 * relative < report.jitter / size < 3 * relative
    assert report.notes[0] == (
        "the loss changes between two evaluations at the same point: "
        f"by {report.jitter:.2g}, {report.jitter / size:.2g} of its size"
    )
    assert report.comparisons == ()


# --- The noise level


@pytest.mark.parametrize("relative", [1e-14, 1e-9, 1e-3])
def test_the_noise_level_is_at_least_that_of_the_jitter(relative):
    for seed in range(10):
        jitter = Jitter(relative, seed)
        point = np.ones(3)
        oracle = FunctionOracle(jittering(lambda p: float(p @ p), jitter), lambda p: 2 * p, point)
        at, _, _ = estimate_baseline(oracle)
        assert at.is_jittering
        assert at.noise[0] > 0.999 * at.jitter / np.sqrt(2)
        assert 0.5 * relative < at.noise[0] / 3 < 5 * relative
        # An average of eleven evaluations.
        assert at.base[0] == pytest.approx(3, abs=3 * relative * 4 / np.sqrt(11))


def test_a_loss_that_repeats_is_not_evaluated_more_often():
    oracle = quadratic()
    at, _, _ = estimate_baseline(oracle)
    evaluations = oracle.evaluations
    at_jitter, _, _ = estimate_baseline(make_oracle("quadratic", 1e-12))
    assert not at.is_jittering
    assert at_jitter.is_jittering
    assert evaluations == 18


def test_a_loss_that_is_finite_at_times_is_not_finite():
    values = iter([1.0, np.nan] * 100)
    at, _, _ = estimate_baseline(FunctionOracle(lambda p: next(values), np.ones_like, np.ones(3)))
    assert not np.isfinite(at.base).any()


# --- Which size jitter is compared with


def test_jitter_of_a_loss_near_zero_is_compared_with_what_the_loss_changes_by():
    """Parts that cancel leave a loss of zero, and the rounding of its parts."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=60)
    offset = float(weights @ POINT)

    def loss(p):
        return float(weights @ p) - offset + 1e-17 * rng.normal()

    report = check(FunctionOracle(loss, lambda p: weights, POINT, TWO))
    assert abs(report.loss["total"]) < 1e-15
    assert report.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("jitter", "loss", "moved", "expected"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (1e-17, 0.0, 0.0, np.inf),
        (1e-17, 0.0, 0.1, 1e-16),
        (1e-9, -2.0, 1.0, 5e-10),
    ],
)
def test_jitter_is_a_fraction_of_the_larger_size(jitter, loss, moved, expected):
    assert determinism.relative_loss_jitter(jitter, loss, moved) == pytest.approx(expected)


# --- Gradients

LAYOUT = Layout(("a", "empty", "b", "c"), ((3,), (0,), (2, 2), ()))


def test_the_noise_of_a_gradient_is_known_per_variable():
    rng = np.random.default_rng(1)
    deviations = np.repeat([1e-3, 1e-6, 0.0], [3000, 3000, 10])
    layout = Layout(("a", "b", "c"), ((3000,), (3000,), (10,)))
    gradient = rng.normal(size=6010)
    one, other = ({"total": gradient + deviations * rng.normal(size=6010)} for _ in range(2))
    noise = determinism.gradient_noise(layout, one, [other])
    assert noise == pytest.approx(np.array([[1e-3, 1e-6, 0.0]]), rel=0.1)


def test_entries_that_are_not_finite_have_no_noise():
    one = np.array([1.0, np.nan, np.inf, 0, 0, 0, 0, 0])
    other = np.array([2.0, np.nan, np.inf, 0, 0, 0, 0, 0])
    noise = determinism.gradient_noise(LAYOUT, {"total": one}, [{"total": other}])
    assert noise.tolist() == [[pytest.approx(1 / np.sqrt(6)), 0.0, 0.0, 0.0]]


def test_the_error_bar_of_an_analytic_slope_adds_up_variances():
    noise = np.array([[0.3, 9.0, 0.1, 0.0], [0.0, 9.0, 0.2, 0.5]])
    at = EvaluationPoint(np.zeros(8), {}, np.zeros(2), np.zeros(2), gradient_noise=noise)
    along = Probe(2, np.array([2.0, 1.0, -1.0, 1.0, 1.0, 3.0]))
    expected = [np.hypot(0.6, 0.2), np.hypot(0.4, 1.5)]
    assert at.analytic_errors(along, LAYOUT) == pytest.approx(
        differences.DEVIATIONS * np.array(expected)
    )
    single = at.analytic_errors(Probe(4, np.array([-2.0])), LAYOUT)
    assert single == pytest.approx(differences.DEVIATIONS * np.array([0.2, 0.4]))


def test_a_gradient_that_repeats_has_no_error_bar():
    at = EvaluationPoint(np.zeros(8), {}, np.zeros(2), np.zeros(2))
    assert at.analytic_errors(Probe(0, np.ones(8)), LAYOUT).tolist() == [0.0, 0.0]


def test_more_evaluations_tell_the_noise_of_a_variable_that_jitters_as_a_whole():
    rng = np.random.default_rng(2)
    gradient = rng.normal(size=8)
    draws = [{"total": gradient + 1e-3 * rng.normal()} for _ in range(2000)]
    noise = determinism.gradient_noise(LAYOUT, draws[0], draws[1:])
    assert noise == pytest.approx(np.array([[1e-3, 0.0, 1e-3, 1e-3]]), rel=0.1)


@pytest.mark.parametrize(
    ("relative", "counts"), [(0.0, [2, 3, 4]), (1e-15, [2, 4, 6]), (1e-9, [6, 12, 18])]
)
def test_only_a_gradient_that_has_differed_is_asked_for_twice_again(relative, counts):
    oracle = make_oracle("network", relative)
    seen = []
    for step in range(3):
        assert check(oracle, step=step).verdict is Verdict.PASS
        seen.append(oracle.gradient_evaluations)
    assert seen == counts


def test_the_noise_of_a_gradient_is_remembered():
    oracle = make_oracle("network", 1e-9)
    check(oracle)
    assert oracle.gradient_noise.shape == (1, 4)
    at, _, _ = estimate_baseline(oracle)
    assert at.gradient_noise is oracle.gradient_noise


def test_an_entry_that_jitters_by_more_than_itself_does_not_fail():
    """One entry is a millionth of its variable's size, and the whole variable jitters alike."""
    sizes = np.array([1.0, 1.0, 1e-6, 1e-6])
    point = np.array([0.5, -0.3, 0.2, 0.7])
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def gradient(p, rng=rng):
            return 2 * sizes * p + 3e-9 * rng.normal(size=4)

        oracle = FunctionOracle(lambda p: float(sizes @ p**2), gradient, point)
        report = check(oracle, seed=seed)
        assert report.verdict is not Verdict.FAIL, report
        assert {c.verdict for c in report.comparisons if c.index in ((0,), (1,))} == {Verdict.PASS}


def test_the_error_bar_of_the_gradient_is_part_of_the_one_reported():
    estimate = differences.central(1.0, 1.1, 0.9, 0.1, 0.0, 1.0)
    wider = estimate.widen(0.5)
    assert wider.error == estimate.error + 0.5
    assert wider.truncation == estimate.truncation
    assert estimate.widen(0.0) is estimate


@pytest.mark.parametrize("is_common", [False, True], ids=["entries", "variables"])
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1.001, Verdict.FAIL)])
@pytest.mark.parametrize("relative", [1e-12, 1e-10, 1e-8])
@pytest.mark.parametrize("name", HEALTHY)
def test_entries_smaller_than_their_variable_may_jitter(name, relative, factor, verdict, is_common):
    """The last bits of a variable are those of its large entries, and more than small ones have."""
    loss, gradient, point, shapes = HEALTHY[name]
    layout = FunctionOracle(loss, gradient, point, shapes).layout
    rng = np.random.default_rng(0)

    def shaky(p):
        found = factor * gradient(p)
        for variable in range(len(layout)):
            part = found[layout.slice(variable)]
            draws = rng.normal(size=1 if is_common else len(part))
            part += relative * np.sqrt(np.mean(part**2)) * draws
        return found

    report = check(FunctionOracle(loss, shaky, point, shapes))
    assert report.verdict is verdict, report
