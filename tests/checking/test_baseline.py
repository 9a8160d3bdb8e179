"""The baseline of a point: its noise level, kinks, and losses that stand still."""

import math

import numpy as np
import pytest

from gradhooks.checking import baseline, stencil
from gradhooks.numerics import noise
from gradhooks.numerics.probe import Probe, uncancelled_magnitudes
from tests.fakes import FunctionOracle, dense_kinks, estimate_baseline, quadratic

STENCIL_EVALUATIONS = 2 * noise.POINTS
NOWHERE = Probe(0, np.zeros(1))


def test_the_baseline_of_a_smooth_loss_takes_two_stencils():
    oracle = quadratic()
    at, _, stencils = estimate_baseline(oracle)
    assert oracle.evaluations == STENCIL_EVALUATIONS
    assert set(stencils) == {baseline.PROMOTED.tiny, baseline.PROMOTED.working}
    assert at.base == pytest.approx([oracle.point() @ oracle.point()])
    assert at.jitter == 0.0


def test_jitter_is_the_difference_of_two_evaluations_at_one_point():
    rng = np.random.default_rng(0)
    oracle = FunctionOracle(
        lambda p: float(p @ p) + 1e-3 * rng.normal(), lambda p: 2 * p, np.ones(3)
    )
    at, _, _ = estimate_baseline(oracle)
    assert 1e-6 < at.jitter < 1e-2


def float32_loss(offset=1.0, **options):
    """A loss of many parameters that ends in float32."""
    rng = np.random.default_rng(4)
    point = rng.normal(size=60)

    def loss(p):
        return float(np.float32(offset + 0.01 * np.sum(np.tanh(p) ** 2)))

    def gradient(p):
        return 0.02 * np.tanh(p) / np.cosh(p) ** 2

    return FunctionOracle(loss, gradient, point, **options)


@pytest.mark.parametrize("may_lose_digits", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0, 1e4])
def test_a_float32_core_has_the_noise_of_float32(offset, may_lose_digits):
    at, _, _ = estimate_baseline(float32_loss(offset), may_lose_digits=may_lose_digits)
    unit = float(np.spacing(np.float32(at.base[0])))
    # Uniform rounding has a standard deviation of 0.29 units. A smaller estimate would make the
    # error bars too narrow.
    assert 0.1 * unit < at.noise[0] < 2 * unit


def test_a_float64_loss_has_the_noise_of_float64():
    at, _, _ = estimate_baseline(quadratic())
    unit = float(np.spacing(at.base[0]))
    assert 0.4 * unit < at.noise[0] < 4 * unit


def test_kinks_are_not_taken_for_noise():
    rng = np.random.default_rng(2)
    where = 1e-5 * rng.normal(size=(50, 40))

    def loss(p):
        return float(np.sum(np.maximum(p - where, 0.0)))

    point = np.zeros(40)
    oracle = FunctionOracle(loss, lambda p: np.sum(p > where, axis=0).astype(float), point)
    at, _, _ = estimate_baseline(oracle)
    assert at.noise[0] < 1e-12


def nearly_level(slope, claimed=0.0, size=10.0):
    """A smooth loss whose slopes cancel along the screening probe, except for `slope`.

    Args:
        slope: What is left of them.
        claimed: What a wrong gradient adds along the probe.
        size: The loss at the point.
    """
    rng = np.random.default_rng(7)
    point = rng.normal(size=60)
    oracle = FunctionOracle(lambda p: 0.0, np.ones_like, point)
    along = estimate_baseline(oracle)[1].weights
    steep = rng.normal(size=60)
    steep += along * (slope - steep @ along) / (along @ along)

    def loss(p):
        moved = p - point
        return (
            size
            + float(steep @ moved)
            + 0.1 * float(np.sum(np.sin(moved) - moved + 0.5 * moved**2))
        )

    wrong = steep + along * claimed / (along @ along)

    def gradient(p):
        return wrong + 0.1 * (np.cos(p - point) - 1 + p - point)

    return FunctionOracle(loss, gradient, point)


@pytest.mark.parametrize("slope", [0.0, 1e-9, -1e-4, 1e-2])
def test_a_loss_whose_slopes_cancel_is_not_stationary(slope):
    """Otherwise a float64 loss gets the noise of float32, and a wrong factor of 1.0001 passes."""
    at, probe, _ = estimate_baseline(nearly_level(slope))
    assert uncancelled_magnitudes(probe, at.gradients)[0] > 1.0
    assert at.noise[0] < 1e-13


@pytest.mark.parametrize("size", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("claimed", [-0.3, 0.1, 1.0])
@pytest.mark.parametrize("slope", [1e-9, 1e-4, -1e-3])
def test_nor_is_one_whose_gradient_is_wrong(slope, claimed, size):
    """It moves, only otherwise than the gradient says; with noise it could hide where that is."""
    at, _, _ = estimate_baseline(nearly_level(slope, claimed, size))
    assert at.noise[0] < 1e-14 * size


def make_native_kinks(digits):
    """A float32 loss of thousands of ReLUs, each of 40 examples rounded to some binary digits."""
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
def test_kinks_at_native_precision_are_distinguished_from_lost_digits(digits):
    """An estimate too large enlarges the steps, across kinks; one too small, narrows error bars."""
    at, _, _ = estimate_baseline(make_native_kinks(digits), baseline.NATIVE)
    # Uniform rounding of 40 examples of size one, averaged; ReLUs with a kink near the point add to
    # it.
    deviation = 2.0**-digits / math.sqrt(12) / math.sqrt(40)
    assert 0.3 * deviation < at.noise[0] < 30 * deviation


@pytest.mark.parametrize("factor", [1.0, 1e160, 1e-160])
def test_the_magnitude_survives_squares_that_overflow(factor):
    probe = Probe(0, np.array([3.0, 4.0]))
    assert uncancelled_magnitudes(probe, {"total": factor * np.ones(2)}) == pytest.approx(
        (5 * factor,)
    )


def test_a_gradient_that_is_not_finite_has_no_magnitude():
    assert uncancelled_magnitudes(Probe(0, np.ones(2)), {"total": np.array([1.0, math.inf])}) == (
        0.0,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_gives_no_warning(value, recwarn):
    oracle = FunctionOracle(lambda p: value, lambda p: p, np.ones(3))
    at, _, _ = estimate_baseline(oracle)
    assert not np.isfinite(at.base).any()
    assert [str(w.message) for w in recwarn] == []


def test_noise_is_a_number_where_the_loss_ends_nearby():
    """The root of a parameter at the edge of its domain: finite here, NaN a step to the left."""

    def loss(p):
        return math.sqrt(p[0] - 1.0) + float(p @ p) if p[0] >= 1.0 else math.nan

    oracle = FunctionOracle(loss, lambda p: 2 * p, np.ones(3))
    at, _, _ = estimate_baseline(oracle)
    assert np.isfinite(at.base).all()
    assert np.isfinite(at.noise).all()


def test_kinks_are_distinguished_from_lost_digits_at_no_cost():
    oracle = dense_kinks()
    at, _, _ = estimate_baseline(oracle)
    assert at.has_dense_kinks
    assert at.noise[0] < 1e-12
    assert oracle.evaluations == STENCIL_EVALUATIONS


@pytest.mark.parametrize("bend", [1.5e-8, 1e-8, 6e-9])
def test_kinks_that_are_a_little_rougher_than_rounding_are_no_noise(bend):
    """Taken for noise they would enlarge the steps, which would cross more of them."""
    oracle = dense_kinks(bend=bend)
    at, _, stencils = estimate_baseline(oracle)
    spacings = baseline.PROMOTED
    tiny = noise.roughness(stencils[spacings.tiny][:, 0], 2, noise.OFFSETS, has_kink=True)
    assert 10 < noise.roughness(stencils[spacings.working][:, 0], 3, noise.OFFSETS) / tiny < 100
    assert at.has_dense_kinks
    assert at.noise[0] < 2 * tiny


@pytest.mark.parametrize("make", [quadratic, float32_loss])
@pytest.mark.parametrize("may_lose_digits", [True, False])
def test_neither_a_smooth_loss_nor_lost_digits_are_taken_for_kinks(make, may_lose_digits):
    assert not estimate_baseline(make(), may_lose_digits=may_lose_digits)[0].has_dense_kinks


@pytest.mark.parametrize("share", [1.0, 0.1, 1e-2, 1e-3])
def test_a_part_with_few_digits_is_not_taken_for_kinks(share):
    """Most of the loss follows the gradient at a tiny distance, the rest stands still there."""
    part = float32_loss()
    oracle = FunctionOracle(
        lambda p: 0.01 * float(np.sum(p**2)) + share * part.losses(p, [NOWHERE], [(0, 0.0)])[0, 0],
        lambda p: 0.02 * p + share * part.gradients(p).terms["total"],
        part.point(),
    )
    at, _, _ = estimate_baseline(oracle)
    unit = share * float(np.spacing(np.float32(1.0)))
    assert not at.has_dense_kinks
    assert 0.1 * unit < at.noise[0] < 2 * unit


@pytest.mark.parametrize("offset", [0.0, 0.1, 1.0, 10.0, 100.0])
def test_rounding_hides_no_part_with_few_digits(offset):
    """The larger the loss, the less a tiny stencil shows; then a wider one decides."""
    part, smooth = float32_loss(), 0.02
    # This fraction of the slope belongs to the part that stands still.
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
    at, _, _ = estimate_baseline(oracle)
    assert not at.has_dense_kinks


@pytest.mark.parametrize(("offset", "further"), [(0.0, 0), (1e4, 0), (2e4, 0), (1e5, noise.POINTS)])
def test_kinks_are_distinguished_from_lost_digits_of_a_large_loss(offset, further):
    """A loss of 20,000 needs all points of the stencil for its slope, one of 1e5 another one."""
    bends = dense_kinks()
    oracle = FunctionOracle(
        lambda p: offset + 0.1 * bends.losses(p, [NOWHERE], [(0, 0.0)])[0, 0],
        lambda p: 0.1 * bends.gradients(p).terms["total"],
        bends.point(),
    )
    at, _, _ = estimate_baseline(oracle)
    assert at.has_dense_kinks
    assert oracle.evaluations == STENCIL_EVALUATIONS + further
