"""The noise level of a loss, estimated and distinguished from kinks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.numerics import noise

CENTRED = np.arange(noise.POINTS) - noise.POINTS // 2

SMOOTH = [
    ("constant", lambda t: np.ones_like(t)),
    ("line", lambda t: 3.0 - 2.0 * t),
    ("sine", lambda t: np.sin(1.0 + t)),
    ("exponential", lambda t: np.exp(t)),
    ("logistic", lambda t: 1 / (1 + np.exp(-t))),
]


def ratios(function, draw, count=2000):
    """Estimated over true standard deviation, for draws of white noise on a smooth function."""
    clean = function(1e-4 * CENTRED)
    return (
        np.array(
            [noise.roughness(clean + 1e-6 * draw(np.random.default_rng(k))) for k in range(count)]
        )
        / 1e-6
    )


@pytest.mark.parametrize(("name", "function"), SMOOTH, ids=[name for name, _ in SMOOTH])
def test_the_standard_deviation_is_right_in_the_root_mean_square(name, function):
    found = ratios(function, lambda rng: rng.standard_normal(noise.POINTS))
    assert math.sqrt(np.mean(found**2)) == pytest.approx(1.0, abs=0.15), name


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("normal", lambda rng: rng.standard_normal(noise.POINTS)),
        ("uniform", lambda rng: rng.uniform(-math.sqrt(3), math.sqrt(3), noise.POINTS)),
    ],
    ids=["normal", "uniform"],
)
def test_white_noise_is_recovered_within_a_factor_of_two(name, draw):
    found = ratios(np.sin, draw)
    share = np.mean((found > 0.5) & (found < 2.0))
    print(
        f"{name}: {share:.3f} of draws within a factor 2; "
        f"1 % quantile {np.quantile(found, 0.01):.2f}"
    )
    assert share >= 0.95


@given(st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_roughness_scales_with_the_values(factor, seed):
    values = np.random.default_rng(seed).standard_normal(noise.POINTS)
    assert noise.roughness(factor * values) == pytest.approx(
        factor * noise.roughness(values), rel=1e-9
    )


INTEGERS = st.integers(-1000, 1000)


@given(INTEGERS, INTEGERS, INTEGERS, st.integers(0, 20))
def test_a_quadratic_has_no_roughness(a, b, c, exponent):
    values = np.polyval([a, b, c], CENTRED * 2.0**-exponent)
    # Only the rounding of the projection itself is left.
    assert noise.roughness(values) <= 8 * np.finfo(float).eps * np.ptp(values)


def test_a_smooth_function_at_a_tiny_distance_shows_its_rounding_only():
    for k in range(50):
        x = np.random.default_rng(k).normal()
        assert noise.roughness(np.exp(np.sin(x + 1e-9 * CENTRED))) < 4 * np.finfo(float).eps


@pytest.mark.parametrize(
    ("value", "least"),
    [
        (1.0, 2.0**-53),
        (-1.0, 2.0**-53),
        (1e10, 2.0**-20),
        (0.0, 0.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
    ],
)
def test_the_floor_is_half_a_unit_in_the_last_place(value, least):
    assert noise.rounding_floor(value) == pytest.approx(least, rel=0.2)


OFFSETS = np.array(noise.OFFSETS)


def roughness_at_both_spacings(function, spacing):
    """Residuals of a cubic, at the offsets that a check uses."""
    return [
        noise.roughness(function(s * OFFSETS), 3, noise.OFFSETS) for s in (spacing, 16 * spacing)
    ]


def test_the_offsets_are_symmetric_at_the_ends_and_uneven_between():
    assert len(noise.OFFSETS) == noise.POINTS
    assert noise.OFFSETS[0] == -noise.OFFSETS[-1]
    assert noise.OFFSETS[noise.POINTS // 2] == 0.0
    gaps = np.diff(noise.OFFSETS)
    assert gaps.min() > 0
    assert len(set(gaps.round(6))) == len(gaps)


@given(INTEGERS, INTEGERS, INTEGERS, INTEGERS)
def test_a_cubic_has_no_residuals_at_uneven_offsets(a, b, c, d):
    values = np.polyval([a, b, c, d], OFFSETS)
    assert (
        noise.roughness(values, 3, noise.OFFSETS) <= 16 * np.finfo(float).eps * np.abs(values).max()
    )


def test_a_staircase_of_the_spacing_shows_at_uneven_offsets_only():
    # A staircase sampled at its own period is a straight line.
    assert noise.roughness(np.floor(CENTRED + 0.5)) < 1e-12
    assert noise.roughness(np.floor(OFFSETS + 0.5), 3, noise.OFFSETS) > 0.1


def rounded(rng):
    """A smooth function, rounded to float32."""
    x = rng.normal()
    smooth = [np.sin, np.exp, np.tanh, np.square, lambda u: 1 / (1 + u * u)][rng.integers(5)]
    return lambda t: np.float32(smooth(x + t)).astype(np.float64)


def hinged(count):
    """Piecewise linear functions with kinks spread over the wide stencil, as many ReLUs give."""

    def make(rng):
        where, jump = rng.uniform(-64 * SPACING, 64 * SPACING, count), rng.normal(size=count)
        where[0] = rng.uniform(-4 * SPACING, 4 * SPACING)  # one is seen at the working distance
        return lambda t: 1.0 + t + np.maximum(t[:, None] - where, 0) @ jump

    return make


SPACING = 2.5e-6


def share_called_staircase(make, count=1000):
    pairs = [
        roughness_at_both_spacings(make(np.random.default_rng(k)), SPACING) for k in range(count)
    ]
    seen = [noise.is_staircase(*p) for p in pairs if p[0] > 0]
    assert len(seen) > count // 2
    return np.mean(seen)


def test_a_function_rounded_to_float32_is_a_staircase():
    share = share_called_staircase(rounded)
    print(f"float32: {share:.3f} called staircases")
    assert share >= 0.9


@pytest.mark.parametrize("count", [1, 2, 5, 50, 1000])
def test_a_piecewise_linear_function_is_none(count):
    share = share_called_staircase(hinged(count))
    print(f"{count} kinks: {share:.3f} called staircases")
    assert share <= 0.05


@pytest.mark.parametrize(
    ("working", "wide", "answer"), [(0.0, 0.0, False), (1.0, 1.0, True), (1.0, 16.0, False)]
)
def test_a_staircase_needs_roughness_that_does_not_grow(working, wide, answer):
    assert noise.is_staircase(working, wide) is answer


@pytest.mark.parametrize(
    ("rough", "value", "answer"),
    [
        (3e-8, 1.0, True),
        (3e-8, -1.0, True),
        (3e-6, 100.0, True),
        (1e-2, 1.0, False),  # real steps
        (0.0, 1.0, False),
        (3e-8, 0.0, False),
    ],
)
def test_float32_leaves_roughness_of_its_own_size(rough, value, answer):
    assert bool(noise.is_float32(rough, value)) is answer


@pytest.mark.parametrize("opening", [0.0, 1e-3, 1.0, 1e6])
def test_a_kink_at_the_point_itself_is_no_noise(opening):
    """Fresh biases and zero layers sit exactly on a kink."""
    rng, offsets = np.random.default_rng(0), np.array(noise.OFFSETS)
    values = opening * np.abs(offsets) + 2.0 * offsets + 1e-9 * rng.normal(size=noise.POINTS)
    assert 1e-10 < noise.roughness(values, 2, noise.OFFSETS, has_kink=True) < 1e-8
    assert opening == 0.0 or noise.roughness(values, 2, noise.OFFSETS) > 0.1 * opening


@pytest.mark.parametrize("factor", [1e-200, 1.0, 1e200])
def test_roughness_survives_squares_that_overflow(factor):
    values = np.random.default_rng(1).normal(size=noise.POINTS)
    assert noise.roughness(factor * values) == pytest.approx(factor * noise.roughness(values))
