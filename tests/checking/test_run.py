"""Whole checks of plain functions: what passes, fails or stays undecided, and what it costs."""

import dataclasses
import math
import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradhooks
from gradhooks.checking import localize, resolve, run
from gradhooks.checking.measurement import Measurement
from gradhooks.checking.settings import THRESHOLDS, Settings
from gradhooks.numerics import noise
from gradhooks.numerics.coordinates import draw_coordinates
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING
from tests import dice
from tests.corpora import corpus
from tests.corpora.mutants import planted
from tests.fakes import FunctionOracle

# Every check looks along the screening direction through two windows and twice at the point itself.
SURVEY = 2 * noise.POINTS
SHAPES = ((8, 16), (16,), (16, 4), (4,))
SIZE = sum(math.prod(s) for s in SHAPES)


def check(oracle, **options):
    return run.check(oracle, Settings(**options))


def per_probe(report):
    """Evaluations for each sampled parameter, besides the survey's."""
    return (report.evaluations - SURVEY) / min(report.samples, report.coverage.parameters_total)


# --- Losses with gradients written by hand


class Network:
    """Regression by one hidden layer of tanh; `v0` to `v3` are kernel, bias, kernel, bias."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.x, self.y = rng.normal(size=(16, 8)), rng.normal(size=(16, 4))
        self.point = 0.3 * rng.normal(size=SIZE)

    def forward(self, point):
        """(kernel of the head, hidden units, residuals)."""
        below, bias, above, last = self.parts(point)
        hidden = np.tanh(self.x @ below + bias)
        return above, hidden, hidden @ above + last - self.y

    def parts(self, point):
        pieces = np.split(point, np.cumsum([math.prod(s) for s in SHAPES])[:-1])
        return [p.reshape(s) for p, s in zip(pieces, SHAPES, strict=True)]

    def loss(self, point):
        return float(np.mean(self.forward(point)[-1] ** 2))

    def gradient(self, point):
        above, hidden, residual = self.forward(point)
        outer = 2 * residual / residual.size
        inner = (outer @ above.T) * (1 - hidden**2)
        parts = self.x.T @ inner, inner.sum(0), hidden.T @ outer, outer.sum(0)
        return np.concatenate([p.ravel() for p in parts])

    def oracle(self, gradient=None, **options):
        return FunctionOracle(self.loss, gradient or self.gradient, self.point, SHAPES, **options)


def variable(number):
    """Where a variable of the network lies."""
    borders = np.cumsum([0, *(math.prod(s) for s in SHAPES)])
    return slice(borders[number], borders[number + 1])


def spoiled(gradient, where, change):
    """A gradient with `change` applied to a part of it."""

    def wrong(point):
        found = gradient(point).copy()
        found[where] = change(found[where])
        return found

    return wrong


def ridge(strength, factor=1.0):
    """Half a squared norm as a penalty, its gradient off by a factor."""
    return (lambda p: 0.5 * strength * float(p @ p)), (lambda p: factor * strength * p)


RNG = np.random.default_rng(3)
WEIGHTS, POINT = RNG.normal(size=60), RNG.normal(size=60)
FEATURES = RNG.normal(size=(40, 60)) / 6
LABELS = np.sign(RNG.normal(size=40))
TWO = ((6, 9), (6,))


def logistic_regression(p):
    return float(np.mean(np.log1p(np.exp(-LABELS * (FEATURES @ p)))))


def logistic_gradient(p):
    return FEATURES.T @ (-LABELS / (1 + np.exp(LABELS * (FEATURES @ p)))) / len(LABELS)


def softmax(p):
    shares = np.exp(p - p.max())
    return shares / shares.sum()


def cross_entropy(p):
    return -float(np.log(softmax(p)[5]))


def squares(factor=1.0, offset=0.0):
    return (lambda p: offset + factor * float(p @ p)), (lambda p: 2 * factor * p)


def exponentials(p):
    return float(np.sum(np.exp(p)))


HEALTHY = [
    ("network", Network().oracle()),
    ("network with penalty", Network(1).oracle(penalty=ridge(1e-3))),
    ("network with faint penalty", Network(2).oracle(penalty=ridge(1e-9))),
    ("linear", FunctionOracle(lambda p: float(WEIGHTS @ p), lambda p: WEIGHTS, POINT, TWO)),
    ("quadratic", FunctionOracle(*squares(), POINT, TWO)),
    (
        "sines",
        FunctionOracle(
            lambda p: float(WEIGHTS @ np.sin(p)), lambda p: WEIGHTS * np.cos(p), POINT, TWO
        ),
    ),
    ("logistic regression", FunctionOracle(logistic_regression, logistic_gradient, POINT, TWO)),
    ("cross-entropy", FunctionOracle(cross_entropy, lambda p: softmax(p) - np.eye(60)[5], POINT)),
    ("huge", FunctionOracle(*squares(1e12), POINT, TWO)),
    ("tiny", FunctionOracle(*squares(1e-12), POINT, TWO)),
    ("offset", FunctionOracle(*squares(offset=1e3), POINT, TWO)),
    ("scalar variables", FunctionOracle(exponentials, np.exp, [0.1, -0.4, 0.7], ((), (), ()))),
    ("empty variable", FunctionOracle(exponentials, np.exp, POINT, ((0, 3), (60,), (0,)))),
    (
        "uneven sizes",
        FunctionOracle(*squares(), POINT * np.repeat([1e-2, 1e2], 30), ((30,), (30,))),
    ),
]


@pytest.mark.parametrize(("name", "oracle"), HEALTHY, ids=[h[0] for h in HEALTHY])
def test_a_right_gradient_passes_at_two_evaluations_a_probe(name, oracle):
    report = check(oracle, seed=1)
    print(f"{name}: {per_probe(report):.2f} evaluations a probe, {report.relative_difference}")
    assert (report.verdict, report.reason) == (Verdict.PASS, Reason.AGREES)
    assert 2 <= per_probe(report) <= 3
    assert report.relative_difference["total"] < 1e-7
    assert not report.failures
    assert not report.diagnoses


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_right_gradients_pass_at_any_seed(seed):
    assert (
        check(Network(seed).oracle(penalty=ridge(1e-4)), seed=seed, step=seed).verdict
        is Verdict.PASS
    )


def test_a_report_says_what_was_compared():
    report = check(Network().oracle(penalty=ridge(1e-3)), samples=16, seed=1, step=40, name="own")
    assert {(c.term, c.index is None) for c in report.comparisons} == {
        (t, d) for t in ("total", "data", "penalty") for d in (True, False)
    }
    assert len(report.comparisons) == 3 * (16 + 1)
    assert report.loss["total"] == pytest.approx(report.loss["data"] + report.loss["penalty"])
    assert report.coverage.parameters == 16
    assert (report.coverage.variables, report.coverage.variables_total) == (4, 4)
    assert (report.seed, report.step, report.samples, report.name) == (1, 40, 16, "own")
    assert (report.threshold, report.jitter, report.precision.level) == (1e-7, 0.0, "float64")
    assert 0 < report.precision.noise < 1e-15


def test_without_a_penalty_data_is_the_total():
    difference = check(Network().oracle()).relative_difference
    assert difference["data"] == difference["total"] > 0
    assert difference["penalty"] == 0.0


@pytest.mark.parametrize("level", THRESHOLDS)
def test_the_threshold_belongs_to_the_precision(level):
    assert check(Network().oracle(level=level)).threshold == THRESHOLDS[level]
    assert check(Network().oracle(level=level), threshold=0.125).threshold == 0.125


# --- Wrong gradients

FACTORS = [1.0001, 2.0, 0.5, -1.0, 1.5]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("factor", FACTORS)
def test_a_wrong_factor_in_one_variable_fails_and_is_named(factor, number):
    network = Network()
    report = check(
        network.oracle(spoiled(network.gradient, variable(number), lambda g: factor * g))
    )
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.MISMATCH)
    assert {c.path for c in report.failures} <= {f"v{number}", EVERYTHING}
    (found,) = report.diagnoses
    assert (found.path, found.is_leading) == (f"v{number}", True)
    assert found.sentence.startswith(f"the gradient is {factor:.6g} times the true one")


def test_a_zero_gradient_under_a_loss_that_moves_is_blocked():
    network = Network()
    report = check(network.oracle(spoiled(network.gradient, variable(1), lambda g: 0 * g)))
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.BLOCKED)
    assert {c.reason for c in report.failures if c.path == "v1"} == {Reason.BLOCKED}
    assert "blocked" in report.diagnoses[0].sentence


def test_a_gradient_that_moves_under_a_loss_that_does_not():
    # A straight-through estimator that nobody declared.
    report = check(FunctionOracle(lambda p: float(np.sum(np.round(p))), np.ones_like, POINT, TWO))
    assert report.verdict is Verdict.FAIL
    assert "straight-through" in report.diagnoses[0].sentence


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_fails(value):
    network = Network()
    report = check(network.oracle(spoiled(network.gradient, variable(2), lambda g: g * value)))
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.NON_FINITE_GRADIENT)
    assert report.diagnoses[0].path == "v2"
    assert math.isnan(report.relative_difference["total"])


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_a_wrong_penalty_is_seen_under_a_hundredfold_data_gradient(factor):
    network = Network()
    size = np.linalg.norm(network.gradient(network.point)) / np.linalg.norm(network.point)
    report = check(network.oracle(penalty=ridge(size / 100, factor)))
    assert report.verdict is Verdict.FAIL
    assert {c.verdict for c in report.comparisons if c.term == "data"} == {Verdict.PASS}
    assert {c.verdict for c in report.comparisons if c.term == "penalty"} == {Verdict.FAIL}
    assert report.relative_difference["penalty"] > 0.3
    assert report.relative_difference["data"] < 1e-7
    assert all("only the penalty is wrong" in d.sentence for d in report.diagnoses)


def test_a_right_penalty_does_not_hide_a_wrong_data_gradient():
    network = Network()
    oracle = network.oracle(
        spoiled(network.gradient, variable(2), lambda g: 1.01 * g), penalty=ridge(100.0)
    )
    report = check(oracle)
    assert report.verdict is Verdict.FAIL
    assert {c.verdict for c in report.comparisons if c.term == "penalty"} == {Verdict.PASS}
    assert report.diagnoses[0].sentence.endswith(
        "the penalty is right: look at the layers and the loss"
    )


# Ten variables; the first alone holds 4096 entries, and 32 samples hit a given one of them once in
# 150 checks.
_STILL = Probe(0, np.zeros(1))
TEN = ((64, 64), *[(8, 8)] * 9)
MANY = sum(math.prod(s) for s in TEN)


def large(wrong, factor):
    rng = np.random.default_rng(8)
    weights, point = rng.normal(size=MANY), rng.normal(size=MANY)

    def gradient(p):
        slopes = weights * np.cos(p)
        slopes[wrong] *= factor
        return slopes

    return FunctionOracle(lambda p: float(weights @ np.sin(p)), gradient, point, TEN)


@pytest.mark.parametrize("factor", [2.0, 0.0, -1.0])
@pytest.mark.parametrize("wrong", [0, 1234, 2049, 4095])
def test_one_wrong_entry_among_4096_is_caught_by_screening_and_named_by_bisection(wrong, factor):
    oracle = large(wrong, factor)
    assert wrong not in draw_coordinates(oracle.layout, 32, 0, 0)
    report = check(oracle)
    label = oracle.layout.label(wrong)
    assert report.verdict is Verdict.FAIL
    assert {c.label for c in report.failures} == {EVERYTHING, label}
    assert (report.diagnoses[0].path, report.diagnoses[0].is_leading) == ("v0", True)
    assert report.trail[0].startswith("10 variables from v0 to v9")
    assert report.trail[-1].startswith(label)


@pytest.mark.parametrize("wrong", [(0, 1), (5, 6, 7), tuple(range(40, 48))])
def test_errors_that_add_up_to_zero_are_seen_by_screening(wrong):
    """As in the bias before a softmax, or a column of a kernel before a normalization."""
    error = np.random.default_rng(len(wrong)).normal(size=len(wrong))
    error -= error.mean()
    right = large(0, 1.0)

    def gradient(p):
        slopes = right.gradients(p).terms["total"].copy()
        slopes[list(wrong)] += error
        return slopes

    for seed in range(12):
        oracle = FunctionOracle(
            lambda p: float(right.losses(p, [_STILL], [(0, 0.0)])[0, 0]),
            gradient,
            right.point(),
            TEN,
        )
        assert check(oracle, seed=seed).verdict is Verdict.FAIL


def test_a_wrong_variable_above_the_sampled_ones_is_searched_for():
    """Samples find that the first variable is wrong; the single wrong entry above is the bug."""
    right = large(0, 1.0)

    def gradient(p):
        slopes = right.gradients(p).terms["total"].copy()
        slopes[:4096] *= 3.0
        slopes[4096 + 7] *= 2.0
        return slopes

    oracle = FunctionOracle(
        lambda p: float(right.losses(p, [_STILL], [(0, 0.0)])[0, 0]), gradient, right.point(), TEN
    )
    report = check(oracle)
    assert [(d.path, d.is_leading) for d in report.diagnoses] == [("v1", True), ("v0", False)]
    assert report.trail[-1].startswith("v1[0, 7]")


class Blurred:
    """A `CheckContext` that decides parameters by their variable, and no direction."""

    declared = excused = frozenset()
    threshold = 1e-6

    def __init__(self, outcomes):
        """Per variable: F (wrong), P (right) or ? (nothing can be said)."""
        self.layout = Layout(tuple(f"v{k}" for k in range(len(outcomes))), ((3,),) * len(outcomes))
        self.baseline = SimpleNamespace(gradients={"total": np.ones(self.layout.size)})
        self.screening = Probe(0, np.ones(self.layout.size))
        self.outcomes, self.asked = outcomes, []

    def coordinate(self, position):
        return Probe(position, np.ones(1))

    def measured(self, probe):
        outcome = (
            "?" if len(probe.weights) > 1 else self.outcomes[self.layout.variable_of(probe.start)]
        )
        self.asked += [self.layout.variable_of(probe.start)] * probe.is_coordinate
        judgement = {
            "F": (Verdict.FAIL, Reason.MISMATCH),
            "P": (Verdict.PASS, Reason.AGREES),
            "?": (Verdict.INCONCLUSIVE, Reason.NOISE),
        }[outcome]
        return Measurement(probe, (1.0,), (), (0.0,), False, (judgement,))

    def is_declared(self, measured):
        return False

    def is_excused(self, measured):
        return False


# (the variables, which are sampled, the last wrong one found, how many are asked at most)
BLURRED = [
    ("F" * 40 + "P" * 60, (0, 99), 39, 7),
    ("F" * 99 + "P", (0, 99), 98, 7),
    ("F" + "P" * 99, (0, 99), 0, 7),
    ("F" * 100, (0,), 99, 7),
    ("F" * 40 + "?" * 3 + "P" * 57, (0, 99), 39, 10),
    ("F" * 40 + "P" * 60, (39, 40), 39, 0),
    ("F" + "?" * 98 + "P", (0, 99), 0, 10),
]


@pytest.mark.parametrize(("outcomes", "sampled", "last", "most"), BLURRED, ids=range(len(BLURRED)))
def test_where_directions_show_nothing_single_parameters_are_measured(
    outcomes, sampled, last, most, monkeypatch
):
    def measure_probes(context, probes, magnitudes=None):
        return [context.measured(p) for p in probes]

    monkeypatch.setattr(resolve, "measure_probes", measure_probes)
    blurred = Blurred(outcomes)
    coordinates = measure_probes(blurred, [blurred.coordinate(3 * v) for v in sampled])
    blurred.asked.clear()
    found, trail = localize.find_last_wrong_variable(blurred, coordinates, [])
    failed = [m.probe.start // 3 for m in (*coordinates, *found) if m.has_failed]
    assert max(failed) == last
    assert len(blurred.asked) == len(found) == len(trail) <= most
    assert all("by itself" in line for line in trail)


def test_a_failing_sample_needs_no_search():
    network = Network()
    report = check(network.oracle(spoiled(network.gradient, variable(0), lambda g: 2 * g)))
    assert report.trail == ()


# --- Losses without a derivative to compare with


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_inconclusive(value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        report = check(FunctionOracle(lambda p: value, np.ones_like, POINT, TWO))
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NON_FINITE_LOSS)
    assert report.comparisons == ()
    assert report.evaluations == SURVEY
    assert math.isnan(report.relative_difference["total"])


@pytest.mark.parametrize("jitter", [1e-13, 1e-9, 1e-3])
def test_a_loss_that_jitters_by_more_than_the_threshold_is_inconclusive(jitter):
    rng = np.random.default_rng(0)
    loss, gradient = squares(1e-9)
    report = check(FunctionOracle(lambda p: loss(p) + jitter * rng.normal(), gradient, POINT, TWO))
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_DETERMINISTIC)
    assert 0.01 * jitter < report.jitter < 10 * jitter


@pytest.mark.parametrize("jitter", [1e-4, 1e-2, 1.0])
def test_a_gradient_that_jitters_is_inconclusive(jitter):
    rng = np.random.default_rng(0)
    network = Network()
    shaky = spoiled(
        network.gradient, variable(2), lambda g: g * (1 + jitter * rng.normal(size=g.shape))
    )
    report = check(network.oracle(shaky))
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_DETERMINISTIC)
    (note,) = report.notes
    assert note.startswith("the gradient changes between two evaluations at the same point: v2 by ")
    assert report.comparisons == ()


def test_the_last_bits_of_a_gradient_may_differ():
    rng = np.random.default_rng(0)
    network = Network()
    threaded = spoiled(
        network.gradient, slice(None), lambda g: g * (1 + 1e-15 * rng.normal(size=g.shape))
    )
    assert check(network.oracle(threaded)).verdict is Verdict.PASS


def test_only_the_first_check_asks_for_the_gradient_twice():
    oracle = Network().oracle()
    counts = []
    for step in range(3):
        check(oracle, step=step)
        counts.append(oracle.gradient_evaluations)
    assert counts == [2, 3, 4]


def test_a_layer_whose_gradient_is_drawn_anew_each_time_is_named():
    """The loss is the same twice; only the backward pass rolls dice."""
    rng = corpus.seeded(0)

    def shaky(upstream):
        return upstream * (1 + 0.1 * keras.ops.cast(dice.draw_like(upstream), upstream.dtype))

    model = corpus.sequential(
        (6,),
        planted.Dense(5, on_kernel=planted.identity(shaky), name="shaky"),
        planted.Dense(2, name="head"),
    )
    x, y = corpus.features(rng, 8, 6), corpus.features(rng, 8, 2)
    report = gradhooks.check_gradients(model, x, y, train_step=False)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_DETERMINISTIC)
    assert "shaky/kernel" in report.notes[0]
    assert report.jitter == 0.0


def test_where_nothing_has_any_influence_nothing_was_sampled():
    report = check(FunctionOracle(lambda p: 3.0, np.zeros_like, POINT, TWO))
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NOTHING_SAMPLED)
    assert len(report.vacuous) == len(report.comparisons) == 33


def hinge(size, at=0.0):
    """A weighted sum of ReLUs with kinks `at` the point, and the usual subgradient zero there."""
    weights = np.random.default_rng(6).normal(size=size)

    def loss(p):
        return float(weights @ np.maximum(p, at))

    def gradient(p):
        return weights * (p > at)

    return loss, gradient


def test_relus_at_exactly_zero_do_not_fail_and_are_replaced():
    report = check(FunctionOracle(*hinge(60), np.zeros(60), TWO))
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.KINK)
    assert not report.failures
    assert not report.diagnoses
    assert report.replaced > 0
    assert report.coverage.parameters == 0


def test_two_kinks_that_cancel_at_exactly_zero_do_not_fail():
    """`relu(p) - relu(-p)` is `p`, but its gradient at zero is zero: both subgradients are zero.

    No step size shows a kink; only evaluating the loss next to the exact zero does.
    """
    weights = 1.0 + np.arange(60.0)
    oracle = FunctionOracle(
        lambda p: float(weights @ p), lambda p: weights * (p != 0), np.zeros(60), TWO
    )
    report = check(oracle)
    assert not report.failures
    assert {c.reason for c in report.comparisons} == {Reason.ONLY_HERE}
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.ONLY_HERE)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("number", range(4))
def test_a_replicate_with_a_wide_error_bar_withdraws_no_failure(number, seed):
    """At the perturbed point the loss has few digits, so the error bar is wider than the gap."""
    network = Network(seed)

    def loss(p):
        is_here = np.linalg.norm(p - network.point) < 1e-3
        return network.loss(p) + (0.0 if is_here else 1e-5 * math.sin(1e9 * float(np.sum(p))))

    wrong = spoiled(network.gradient, variable(number), lambda g: 1.0001 * g)
    report = check(FunctionOracle(loss, wrong, network.point, SHAPES), seed=seed)
    assert report.verdict is Verdict.FAIL
    assert report.diagnoses[0].path == f"v{number}"


def test_kinks_make_room_for_others_of_their_variable():
    # A third of the parameters sits on its corner, the others are a step away from it.
    point = np.where(np.arange(60) % 3 == 0, 0.0, 0.7)
    report = check(FunctionOracle(*hinge(60), point, TWO), samples=16)
    sampled = [c for c in report.comparisons if c.index is not None]
    assert report.verdict is Verdict.PASS
    assert report.replaced > 0
    assert len(sampled) == 16
    assert sum(c.verdict is Verdict.PASS for c in sampled) >= 14


@pytest.mark.parametrize("samples", [4, 6, 12, 18])
def test_no_parameter_is_compared_twice(samples):
    # Few parameters and all of them on kinks: replacements compete for what is left.
    report = check(FunctionOracle(*hinge(20), np.zeros(20), ((4, 4), (4,))), samples=samples)
    labels = [c.label for c in report.comparisons if c.index is not None]
    assert len(labels) == samples
    assert len(set(labels)) == samples


def with_silent_half(function, gradient=np.zeros_like):
    """A loss whose first variable has no gradient here, beside a healthy one."""
    point = np.random.default_rng(0).uniform(0.5, 1.5, 12)

    def loss(p):
        return function(p[:6], point[:6]) + float(p[6:] @ p[6:])

    def whole(p):
        return np.concatenate([gradient(p[:6] - point[:6]), 2 * p[6:]])

    return FunctionOracle(loss, whole, point, ((2, 3), (6,)))


def test_a_staircase_behind_which_no_gradient_comes_is_blocked():
    # Flat around the point, so that both derivatives agree on zero.
    report = check(with_silent_half(lambda p, _: float(np.round(3 * p).sum())))
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.BLOCKED)
    assert {c.path for c in report.failures} == {"v0"}
    assert "blocked" in report.diagnoses[0].sentence


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", [0.3, 1.5])
def test_units_that_are_off_for_now_do_not_fail(distance, seed):
    oracle = with_silent_half(
        lambda p, here: float(np.maximum(p - here - distance, 0).sum()),
        lambda move: (move > distance).astype(float),
    )
    report = check(oracle, seed=seed)
    assert report.verdict is Verdict.PASS
    assert not report.failures


def test_a_variable_that_no_loss_reaches_is_noted():
    report = check(with_silent_half(lambda p, _: 0.0))
    assert report.verdict is Verdict.PASS
    assert [n.startswith("no loss reaches v0") for n in report.notes] == [True]


def beside_a_healthy_one(count, reaching):
    """A loss with silent variables of two numbers, each multiplied by a factor that is zero.

    The factor is itself a product of numbers that are zero.

    Args:
        count: Number of silent variables.
        reaching: Number of factors; without one, no loss reaches the variables.
    """
    silent = 2 * count
    point = np.concatenate(
        [np.random.default_rng(0).uniform(0.5, 1.5, silent + 3), np.zeros(reaching)]
    )

    def parts(p):
        return p[:silent], p[silent : silent + 3], p[silent + 3 :]

    def loss(p):
        hidden, healthy, factors = parts(p)
        return float(healthy @ healthy + np.prod(factors) * np.sum(np.sin(hidden)) * bool(reaching))

    def gradient(p):
        hidden, healthy, factors = parts(p)
        others = [np.prod(np.delete(factors, k)) for k in range(reaching)]
        of_hidden = np.prod(factors) * np.cos(hidden) * bool(reaching)
        return np.concatenate([of_hidden, 2 * healthy, np.array(others) * np.sum(np.sin(hidden))])

    return FunctionOracle(loss, gradient, point, ((2,),) * count + ((3,),) + ((1,),) * reaching)


TIMES_ZERO = (
    "times zero for now: {} (a zero-initialized layer above, or units that are off?); nearby {}"
)
UNREACHED = "no loss reaches {}: moving {} changes nothing, and {} zero, here and nearby"


@pytest.mark.parametrize(
    ("count", "reaching", "notes"),
    [
        (1, 0, [UNREACHED.format("v0", "it", "its gradient is")]),
        (2, 0, [UNREACHED.format("v0, v1", "them", "their gradients are")]),
        (5, 0, [UNREACHED.format("v0, v1, v2 and 2 more", "them", "their gradients are")]),
        (1, 1, [TIMES_ZERO.format("v0", "it has a gradient")]),
        (2, 1, [TIMES_ZERO.format("v0, v1", "they have gradients")]),
        (2, 2, [TIMES_ZERO.format("v0, v1, v3 and 1 more", "they have gradients")]),
        (30, 1, [TIMES_ZERO.format("v0, v1, v2 and 27 more", "they have gradients")]),
        (
            18,
            0,
            [
                UNREACHED.format("v0, v1, v2 and 13 more", "them", "their gradients are"),
                "not moved, since there are too many without a gradient: v16, v17; "
                "no loss may reach them",
            ],
        ),
    ],
)
def test_unreached_variables_differ_from_variables_times_zero(count, reaching, notes):
    report = check(beside_a_healthy_one(count, reaching))
    assert report.verdict is Verdict.PASS
    assert report.notes == tuple(notes)


def test_both_kinds_have_a_line_each():
    both = beside_a_healthy_one(2, 1)
    cut_off = FunctionOracle(
        lambda p: both._parts[0][0](p[1:]),
        lambda p: np.concatenate([[0.0], both._parts[0][1](p[1:])]),
        np.concatenate([[1.0], both.point()]),
        ((1,), (2,), (2,), (3,), (1,)),
    )
    first, second = check(cut_off).notes
    assert first.startswith("times zero for now: v1, v2 (")
    assert second.startswith("no loss reaches v0: ")


def test_a_gradient_that_is_not_finite_nearby_says_nothing_about_what_reaches_what():
    oracle = with_silent_half(
        lambda p, _: 0.0, lambda move: np.where(move.any(), math.nan, 0 * move)
    )
    assert not check(oracle).notes


@pytest.mark.parametrize("distance", [1e-6, 1e-4, 1e-2])
def test_a_wrong_gradient_next_to_kinks_still_fails(distance):
    def loss(p):
        return float(np.sum(np.abs(p - POINT + distance)) + np.sum(np.sin(p)))

    def gradient(p):
        return 2 * (np.sign(p - POINT + distance) + np.cos(p))

    assert check(FunctionOracle(loss, gradient, POINT, TWO)).verdict is Verdict.FAIL


def test_a_loss_that_ends_next_to_the_point_leaves_that_parameter_open():
    """A root at the edge of its domain: the loss is finite here and NaN a step to the left."""

    def loss(p):
        return math.sqrt(p[0]) + float(p[1:] @ p[1:]) if p[0] >= 0 else math.nan

    def gradient(p):
        return np.concatenate([[0.5 / math.sqrt(p[0]) if p[0] > 0 else 0.0], 2 * p[1:]])

    report = check(FunctionOracle(loss, gradient, np.concatenate([[0.0], POINT]), ((1,), (60,))))
    assert not report.failures
    reasons = {c.path: c.reason for c in report.comparisons if c.index is not None}
    assert reasons == {"v0": Reason.NON_FINITE_LOSS, "v1": Reason.AGREES}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_that_ends_in_float32_does_not_fail(offset, is_known, seed):
    """The loss is a staircase; with a large offset its steps are wider than all distances."""
    matrix = np.random.default_rng(seed).normal(size=(60, 60)) / 8

    def loss(p):
        return float(np.float32(offset + 0.01 * np.sum(np.tanh(matrix @ p) ** 2)))

    def gradient(p):
        return 0.02 * matrix.T @ (np.tanh(matrix @ p) / np.cosh(matrix @ p) ** 2)

    operations = ("cast",) if is_known else ()
    report = check(
        FunctionOracle(loss, gradient, POINT, TWO, narrow_operations=operations), seed=seed
    )
    assert not report.failures


def silent_beside_steep(p):
    return np.concatenate([200 * p[:54], np.zeros(6)])


@pytest.mark.parametrize(
    ("loss", "gradient", "judged"),
    [
        (lambda p: 100 * float(p[:54] @ p[:54]), silent_beside_steep, Verdict.PASS),
        (lambda p: float(p @ p), lambda p: np.full(60, math.inf), Verdict.FAIL),
        (
            lambda p: 1e301 * float(np.tanh(p).sum()),
            lambda p: 1e301 / np.cosh(p) ** 2,
            Verdict.PASS,
        ),
        (
            lambda p: 1e301 * float(np.tanh(p).sum()),
            lambda p: -1e301 / np.cosh(p) ** 2,
            Verdict.FAIL,
        ),
        (lambda p: math.inf, np.ones_like, Verdict.INCONCLUSIVE),
        (lambda p: math.nan, np.ones_like, Verdict.INCONCLUSIVE),
    ],
    ids=[
        "silent variable",
        "infinite gradient",
        "huge",
        "huge and wrong",
        "infinite loss",
        "NaN loss",
    ],
)
def test_numpy_warns_of_nothing_in_a_check(loss, gradient, judged):
    # Whoever turns warnings into errors must not lose training to a check.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check(FunctionOracle(loss, gradient, POINT, TWO)).verdict is judged


# --- One check among many


def test_the_same_seed_and_step_give_the_same_report():
    network = Network()
    reports = [
        check(
            network.oracle(spoiled(network.gradient, variable(2), lambda g: 2 * g)), seed=5, step=9
        )
        for _ in range(2)
    ]
    first, second = (dataclasses.replace(r, seconds=0.0).to_json() for r in reports)
    assert first == second


@pytest.mark.parametrize(("seed", "step"), [(6, 9), (5, 10)])
def test_another_seed_or_step_looks_elsewhere(seed, step):
    labels = [
        {c.label for c in check(Network().oracle(), seed=s, step=t).comparisons}
        for s, t in ((5, 9), (seed, step))
    ]
    assert labels[0] != labels[1]


def test_coverage_accumulates_over_the_checks_of_a_run():
    oracle, seen, shares = Network().oracle(), frozenset(), []
    for check_index in range(6):
        report = check(
            oracle, samples=2, step=100 * check_index, check_index=check_index, seen=seen
        )
        seen |= {
            c.position
            for c in report.comparisons
            if c.index is not None and c.verdict is Verdict.PASS
        }
        assert report.coverage.parameters == len(seen)
        shares.append(report.coverage.share)
    assert shares[:2] == [0.5, 1.0]
    assert 2 < len(seen) <= 12


def test_what_earlier_checks_saw_counts():
    report = check(Network().oracle(), samples=4, seen=frozenset(range(128)))
    assert report.coverage.parameters > 128


def test_each_check_counts_its_own_evaluations():
    oracle = Network().oracle()
    first, second = check(oracle), check(oracle)
    assert first.evaluations > second.evaluations  # which knows the noise
    assert first.evaluations + second.evaluations == oracle.evaluations
    assert first.seconds > 0


def test_samples_of_everything_look_at_every_parameter():
    report = check(Network().oracle(), samples=SIZE)
    assert report.coverage.parameters == report.coverage.parameters_total == SIZE


def test_the_oracle_is_asked_at_its_own_point_and_left_alone():
    oracle = Network().oracle()
    before = oracle.point()
    check(oracle)
    assert np.array_equal(oracle.point(), before)
