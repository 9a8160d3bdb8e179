"""Measuring at one place: what it costs, the steps really taken, the noise really there."""

import math

import numpy as np
import pytest

from gradhooks.numerics import derivative, measurement, noise, sampling
from gradhooks.numerics.records import Probe, Reason, Verdict
from tests.fakes import FunctionOracle

TOLERANCE = 1e-6
WINDOWS = 2 * noise.POINTS


def surveyed(oracle, spacing=measurement.PROMOTED, is_suspect=False):
    """(place, probe, windows) along the screening probe, as a check does it."""
    point = oracle.point()
    gradients = oracle.gradients(point).terms
    scales = sampling.scales(oracle.layout, point)
    probe = sampling.screening_probe(oracle.layout, scales, gradients["total"], np.random.default_rng(0))
    place, windows = measurement.survey(oracle, point, gradients, probe, spacing, is_suspect)
    return place, probe, windows


def quadratic(size=12, **options):
    point = np.random.default_rng(1).uniform(0.5, 1.5, size)
    return FunctionOracle(lambda p: float(p @ p), lambda p: 2 * p, point, **options)


def coordinates(oracle, scale=1.0):
    return [Probe(k, np.ones(1), scale) for k in range(oracle.layout.size)]


def test_a_survey_of_a_healthy_loss_takes_two_windows():
    oracle = quadratic()
    place, _, windows = surveyed(oracle)
    assert oracle.evaluations == WINDOWS
    assert set(windows) == {measurement.PROMOTED.tiny, measurement.PROMOTED.working}
    assert place.base == pytest.approx([oracle.point() @ oracle.point()])
    assert place.jitter == 0.0


def test_two_evaluations_settle_a_healthy_probe():
    oracle = quadratic()
    place, _, _ = surveyed(oracle)
    measured = measurement.quick(oracle, place, coordinates(oracle), TOLERANCE)
    assert oracle.evaluations == WINDOWS + 2 * oracle.layout.size
    assert all(m.settled and m.judgements == ((Verdict.PASS, Reason.AGREES),) for m in measured)


def test_no_probes_cost_nothing():
    oracle = quadratic()
    place, _, _ = surveyed(oracle)
    assert measurement.quick(oracle, place, [], TOLERANCE) == []
    assert measurement.climb(oracle, place, [], TOLERANCE) == []
    assert oracle.evaluations == WINDOWS


@pytest.mark.parametrize("where", [1e6, 1234.5678, -3.7e9, 0.1, 1e-12])
def test_the_step_is_the_one_really_taken(where):
    # A loss that is the parameter itself has slope 1 exactly, if the step is what floating point made of it.
    oracle = FunctionOracle(lambda p: float(p[0]), np.ones_like, [where])
    place, _, _ = surveyed(oracle)
    probe = Probe(0, np.ones(1), max(abs(where), 0.1))
    quick = measurement.quick(oracle, place, [probe], TOLERANCE)
    for measured in (*quick, *measurement.climb(oracle, place, quick, TOLERANCE)):
        (estimate,) = measured.estimates
        assert estimate.slope == 1.0
        assert ((where + estimate.step) - (where - estimate.step)) / 2 == estimate.step


def test_every_term_is_measured_from_the_same_evaluations():
    oracle = quadratic(penalty=(lambda p: 0.25 * float(p @ p), lambda p: 0.5 * p))
    place, _, _ = surveyed(oracle)
    measured = measurement.quick(oracle, place, coordinates(oracle)[:1], TOLERANCE)[0]
    first = oracle.point()[0]
    assert measured.analytic == pytest.approx((2.5 * first, 2 * first, 0.5 * first))
    assert [e.slope for e in measured.estimates] == pytest.approx(measured.analytic, rel=1e-6)
    assert oracle.evaluations == WINDOWS + 2


def test_climbing_takes_a_ladder_around_the_first_step():
    oracle = quadratic()
    place, _, _ = surveyed(oracle)
    quick = measurement.quick(oracle, place, coordinates(oracle)[:1], TOLERANCE)
    before = oracle.evaluations
    (climbed,) = measurement.climb(oracle, place, quick, TOLERANCE)
    assert oracle.evaluations - before == climbed.estimates[0].evaluations == 2 * len(derivative.LADDER)
    assert climbed.judgements == ((Verdict.PASS, Reason.AGREES),)


def test_the_screening_probe_is_measured_from_the_survey():
    oracle = quadratic()
    place, probe, windows = surveyed(oracle)
    spacing = measurement.PROMOTED.working
    measured = measurement.from_window(place, probe, windows[spacing], spacing, (0.0,), TOLERANCE)
    assert oracle.evaluations == WINDOWS
    assert measured.estimates[0].slope == pytest.approx(probe.slope_of(2 * oracle.point()), rel=1e-7)
    assert measured.judgements[0][0] is Verdict.PASS


def test_jitter_is_the_difference_of_two_evaluations_at_one_point():
    rng = np.random.default_rng(0)
    oracle = FunctionOracle(lambda p: float(p @ p) + 1e-3 * rng.normal(), lambda p: 2 * p, np.ones(3))
    place, _, _ = surveyed(oracle)
    assert 1e-6 < place.jitter < 1e-2


def float32_loss(offset=1.0, **options):
    """A loss of many parameters that ends in float32."""
    rng = np.random.default_rng(4)
    point = rng.normal(size=60)

    def loss(p):
        return float(np.float32(offset + 0.01 * np.sum(np.tanh(p) ** 2)))

    def gradient(p):
        return 0.02 * np.tanh(p) / np.cosh(p) ** 2

    return FunctionOracle(loss, gradient, point, **options)


@pytest.mark.parametrize("is_suspect", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0, 1e4])
def test_a_float32_core_has_the_noise_of_float32(offset, is_suspect):
    place, _, _ = surveyed(float32_loss(offset), is_suspect=is_suspect)
    unit = float(np.spacing(np.float32(place.base[0])))
    # Uniform rounding has a standard deviation of 0.29 units; much less would make every error bar a lie.
    assert 0.1 * unit < place.noise[0] < 2 * unit


def test_a_float64_loss_has_the_noise_of_float64():
    place, _, _ = surveyed(quadratic())
    unit = float(np.spacing(place.base[0]))
    assert 0.4 * unit < place.noise[0] < 4 * unit


def test_corners_are_not_taken_for_noise():
    rng = np.random.default_rng(2)
    where = 1e-5 * rng.normal(size=(50, 40))

    def loss(p):
        return float(np.sum(np.maximum(p - where, 0.0)))

    point = np.zeros(40)
    oracle = FunctionOracle(loss, lambda p: np.sum(p > where, axis=0).astype(float), point)
    place, _, _ = surveyed(oracle)
    assert place.noise[0] < 1e-12


def nearly_level(slope):
    """A smooth loss whose slopes cancel along the screening probe, but for `slope`; far out it bends by little."""
    rng = np.random.default_rng(7)
    point = rng.normal(size=60)
    oracle = FunctionOracle(lambda p: 0.0, np.ones_like, point)
    along = surveyed(oracle)[1].weights
    steep = rng.normal(size=60)
    steep += along * (slope - steep @ along) / (along @ along)

    def loss(p):
        moved = p - point
        return 10.0 + float(steep @ moved) + 0.1 * float(np.sum(np.sin(moved) - moved + 0.5 * moved**2))

    return FunctionOracle(loss, lambda p: steep + 0.1 * (np.cos(p - point) - 1 + p - point), point)


@pytest.mark.parametrize("slope", [0.0, 1e-9, -1e-4, 1e-2])
def test_slopes_that_cancel_along_a_direction_are_no_standstill(slope):
    """Taken for one, a float64 loss was said to have the noise of float32, and a wrong factor of 1.0001 passed."""
    place, probe, _ = surveyed(nearly_level(slope))
    assert measurement.natural_sizes(probe, place.gradients)[0] > 1.0
    assert place.noise[0] < 1e-13


def corners_at_native_precision(digits):
    """A float32 loss made of thousands of ReLUs; each of 40 examples is rounded to so many binary digits."""
    rng = np.random.default_rng(5)
    matrix, where = rng.normal(size=(40, 60)), rng.normal(size=(40, 50))
    outward = rng.normal(size=50)

    def rounded(values):
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.round(np.ldexp(mantissa, digits)), exponent - digits)

    def loss(p):
        hidden = np.maximum((matrix @ p)[:, None] - where, 0.0)
        return float(np.mean(rounded(1.0 + 0.1 * hidden @ outward)))

    return FunctionOracle(loss, lambda p: np.ones_like(p), rng.normal(size=60))


@pytest.mark.parametrize("digits", [8, 11, 24])
def test_corners_at_native_precision_are_told_from_lost_digits(digits):
    """Noise in excess means larger steps, across hundreds of corners; too little of it would be a lie."""
    place, _, _ = surveyed(corners_at_native_precision(digits), measurement.NATIVE)
    # Uniform rounding of 40 examples of ordinary size, averaged. ReLUs that bend next to the point add to it.
    deviation = 2.0**-digits / math.sqrt(12) / math.sqrt(40)
    assert 0.3 * deviation < place.noise[0] < 30 * deviation


@pytest.mark.parametrize("factor", [1.0, 1e160, 1e-160])
def test_the_natural_size_survives_squares_that_overflow(factor):
    probe = Probe(0, np.array([3.0, 4.0]))
    assert measurement.natural_sizes(probe, {"total": factor * np.ones(2)}) == pytest.approx((5 * factor,))


def test_a_gradient_that_is_not_finite_has_no_natural_size():
    assert measurement.natural_sizes(Probe(0, np.ones(2)), {"total": np.array([1.0, math.inf])}) == (0.0,)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_surveyed_without_a_warning(value, recwarn):
    oracle = FunctionOracle(lambda p: value, lambda p: p, np.ones(3))
    place, _, _ = surveyed(oracle)
    assert not np.isfinite(place.base).any()
    assert [str(w.message) for w in recwarn] == []


def test_noise_is_a_number_where_the_loss_ends_nearby():
    """The root of a parameter that sits at the edge of its domain: finite here, NaN a step to the left."""

    def loss(p):
        return math.sqrt(p[0] - 1.0) + float(p @ p) if p[0] >= 1.0 else math.nan

    oracle = FunctionOracle(loss, lambda p: 2 * p, np.ones(3))
    place, _, _ = surveyed(oracle)
    assert np.isfinite(place.base).all()
    assert np.isfinite(place.noise).all()
