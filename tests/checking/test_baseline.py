"""Surveying a place: the noise really there, corners, standstills."""

import math

import numpy as np
import pytest

from gradhooks.checking import baseline, stencil
from gradhooks.numerics import noise
from gradhooks.numerics.probe import Probe, uncancelled_magnitudes
from tests.fakes import FunctionOracle, kinky, quadratic, surveyed

WINDOWS = 2 * noise.POINTS
NOWHERE = Probe(0, np.zeros(1))


def test_a_survey_of_a_healthy_loss_takes_two_windows():
    oracle = quadratic()
    place, _, windows = surveyed(oracle)
    assert oracle.evaluations == WINDOWS
    assert set(windows) == {baseline.PROMOTED.tiny, baseline.PROMOTED.working}
    assert place.base == pytest.approx([oracle.point() @ oracle.point()])
    assert place.jitter == 0.0


def test_jitter_is_the_difference_of_two_evaluations_at_one_point():
    rng = np.random.default_rng(0)
    oracle = FunctionOracle(
        lambda p: float(p @ p) + 1e-3 * rng.normal(), lambda p: 2 * p, np.ones(3)
    )
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
    # Uniform rounding has a standard deviation of 0.29 units; much less would make every error bar
    # a lie.
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
        return (
            10.0
            + float(steep @ moved)
            + 0.1 * float(np.sum(np.sin(moved) - moved + 0.5 * moved**2))
        )

    return FunctionOracle(loss, lambda p: steep + 0.1 * (np.cos(p - point) - 1 + p - point), point)


@pytest.mark.parametrize("slope", [0.0, 1e-9, -1e-4, 1e-2])
def test_slopes_that_cancel_along_a_direction_are_no_standstill(slope):
    """Taken for one, a float64 loss was said to have the noise of float32, and a wrong factor of 1.0001 passed."""
    place, probe, _ = surveyed(nearly_level(slope))
    assert uncancelled_magnitudes(probe, place.gradients)[0] > 1.0
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
    place, _, _ = surveyed(corners_at_native_precision(digits), baseline.NATIVE)
    # Uniform rounding of 40 examples of ordinary size, averaged. ReLUs that bend next to the point
    # add to it.
    deviation = 2.0**-digits / math.sqrt(12) / math.sqrt(40)
    assert 0.3 * deviation < place.noise[0] < 30 * deviation


@pytest.mark.parametrize("factor", [1.0, 1e160, 1e-160])
def test_the_natural_size_survives_squares_that_overflow(factor):
    probe = Probe(0, np.array([3.0, 4.0]))
    assert uncancelled_magnitudes(probe, {"total": factor * np.ones(2)}) == pytest.approx(
        (5 * factor,)
    )


def test_a_gradient_that_is_not_finite_has_no_natural_size():
    assert uncancelled_magnitudes(Probe(0, np.ones(2)), {"total": np.array([1.0, math.inf])}) == (
        0.0,
    )


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


def test_kinks_are_told_from_lost_digits_at_no_cost():
    oracle = kinky()
    place, _, _ = surveyed(oracle)
    assert place.has_dense_kinks
    assert place.noise[0] < 1e-12
    assert oracle.evaluations == WINDOWS


@pytest.mark.parametrize("bend", [1.5e-8, 1e-8, 6e-9])
def test_kinks_that_are_a_little_rougher_than_rounding_are_no_noise(bend):
    """Taken for noise they would make the steps larger, which would meet more of them."""
    oracle = kinky(bend=bend)
    place, _, windows = surveyed(oracle)
    spacings = baseline.PROMOTED
    tiny = noise.roughness(windows[spacings.tiny][:, 0], 2, noise.OFFSETS, has_kink=True)
    assert 10 < noise.roughness(windows[spacings.working][:, 0], 3, noise.OFFSETS) / tiny < 50
    assert place.has_dense_kinks
    assert place.noise[0] < 2 * tiny


@pytest.mark.parametrize("make", [quadratic, float32_loss])
@pytest.mark.parametrize("is_suspect", [True, False])
def test_neither_a_smooth_loss_nor_lost_digits_are_taken_for_kinks(make, is_suspect):
    assert not surveyed(make(), is_suspect=is_suspect)[0].has_dense_kinks


@pytest.mark.parametrize("share", [1.0, 0.1, 1e-2, 1e-3])
def test_a_part_with_few_digits_is_not_taken_for_kinks(share):
    """Most of the loss follows the gradient at a tiny distance, the rest stands still there."""
    part = float32_loss()
    oracle = FunctionOracle(
        lambda p: 0.01 * float(np.sum(p**2)) + share * part.losses(p, [NOWHERE], [(0, 0.0)])[0, 0],
        lambda p: 0.02 * p + share * part.gradients(p).terms["total"],
        part.point(),
    )
    place, _, _ = surveyed(oracle)
    unit = share * float(np.spacing(np.float32(1.0)))
    assert not place.has_dense_kinks
    assert 0.1 * unit < place.noise[0] < 2 * unit


@pytest.mark.parametrize("offset", [0.0, 0.1, 1.0, 10.0, 100.0])
def test_rounding_hides_no_part_with_few_digits(offset):
    """The larger the loss, the less is seen at a tiny distance; then the look further out decides."""
    part, smooth = float32_loss(), 0.02
    # This much of the slope stands still.
    share = 3 * stencil._VISIBLE * smooth * np.linalg.norm(part.point())
    share /= np.linalg.norm(part.gradients(part.point()).terms["total"])
    oracle = FunctionOracle(
        lambda p: (
            offset
            + 0.5 * smooth * float(np.sum(p**2))
            + share * part.losses(p, [NOWHERE], [(0, 0.0)])[0, 0]
        ),
        lambda p: smooth * p + share * part.gradients(p).terms["total"],
        part.point(),
    )
    place, _, _ = surveyed(oracle)
    assert not place.has_dense_kinks


@pytest.mark.parametrize(("offset", "further"), [(0.0, 0), (1e4, 0), (2e4, 0), (1e5, noise.POINTS)])
def test_kinks_are_told_from_lost_digits_where_rounding_is_coarser_too(offset, further):
    """A loss of 20,000 takes all points of the window to know the slope well enough, one of 100,000 another window."""
    bends = kinky()
    oracle = FunctionOracle(
        lambda p: offset + 0.1 * bends.losses(p, [NOWHERE], [(0, 0.0)])[0, 0],
        lambda p: 0.1 * bends.gradients(p).terms["total"],
        bends.point(),
    )
    place, _, _ = surveyed(oracle)
    assert place.has_dense_kinks
    assert oracle.evaluations == WINDOWS + further
