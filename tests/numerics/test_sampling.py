"""Random streams, and the probes along which derivatives are measured."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradhooks.numerics import sampling
from gradhooks.numerics.layout import Layout

SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=2).map(tuple), min_size=1, max_size=9).map(
    tuple
)
SEEDS = st.integers(0, 2**31)
LAYOUT = Layout(("a", "b", "c", "d"), ((20, 30), (30,), (30, 4), (4,)))


def layout_of(shapes):
    return Layout(tuple(f"v{k}" for k in range(len(shapes))), shapes)


def test_streams_of_one_check_differ():
    drawn = [
        sampling.generator(1, 2, stream, k).random() for stream in sampling.Stream for k in range(3)
    ]
    assert len({*drawn}) == 3 * len(sampling.Stream)


def test_a_replicate_is_not_the_first_of_another_seed():
    one = sampling.generator(0, 2, sampling.Stream.REPLICATE, 1).standard_normal(4)
    assert not np.array_equal(
        one, sampling.generator(1, 2, sampling.Stream.REPLICATE).standard_normal(4)
    )


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([3.0, -3.0], 3.0),
        ([0.0, 0.0], sampling.DEFAULT_SCALE),
        ([1e-12, 1e-12], 1e-12),
        ([3.0, 4.0], math.sqrt(12.5)),
    ],
)
def test_scales_are_the_root_mean_square(values, scale):
    found = sampling.variable_scales(Layout(("v", "empty"), ((2,), (0,))), np.array(values))
    assert found == pytest.approx([scale, sampling.DEFAULT_SCALE], rel=1e-12)


@pytest.mark.parametrize(("variable_scale", "scale"), [(2.0, 2.0), (1e-5, sampling.DEFAULT_SCALE)])
def test_a_coordinate_is_one_unit_weight(variable_scale, scale):
    probe = sampling.coordinate_probe(np.int64(5), variable_scale)
    assert (probe.start, probe.weights.tolist(), probe.length_scale, probe.is_coordinate) == (
        5,
        [1.0],
        scale,
        True,
    )


def screening(scales, gradient, seed=0, left_out=()):
    return sampling.screening_probe(
        LAYOUT, np.asarray(scales), gradient, np.random.default_rng(seed), left_out
    )


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (1e4, 1, 1, 1e-4), (1e-6, 1, 1e3, 1e6), (1e-4, 1e-4, 1, 1)]
)
def test_no_variable_dominates_the_screening_probe(sizes):
    scales = np.array([0.5, 0.1, 2.0, 1.0])
    gradient = np.random.default_rng(1).normal(size=LAYOUT.size) * np.repeat(sizes, LAYOUT.sizes)
    shares = LAYOUT.norms(screening(scales, gradient).weights * gradient)
    undamped = scales * LAYOUT.norms(gradient)
    felt = undamped > 1e-9 * undamped.max()
    assert (shares[felt] > 0).all()
    assert shares.max() <= 1.5 * np.quantile(undamped[felt], 0.25) * (1 + 1e-12)


def test_the_screening_probe_moves_every_parameter_by_about_its_variables_measure():
    probe = screening([0.5, 0.1, 2.0, 1.0], np.ones(LAYOUT.size))
    assert (probe.start, probe.stop) == (0, LAYOUT.size)
    for v in range(len(LAYOUT)):
        sizes = np.abs(probe.weights[LAYOUT.slice(v)])
        assert 0 < sizes.max() <= 3 * sizes.min()


def hidden_error(shape):
    """An error of size 1 that adds up to zero over the last axis."""
    error = np.random.default_rng(len(shape)).normal(size=shape)
    error -= error.mean(-1, keepdims=True)
    return error.ravel() / np.linalg.norm(error)


@pytest.mark.parametrize("shape", [(2,), (3,), (8,), (5, 2), (3, 3), (4, 8)])
def test_an_error_that_adds_up_to_zero_is_seen(shape):
    """A bias before a softmax, a kernel whose columns or rows a normalization centres."""
    error = hidden_error(shape)
    layout = layout_of([shape, (30, 30)])
    gradient = np.random.default_rng(1).normal(size=layout.size)
    seen = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        screened = sampling.screening_probe(layout, np.ones(2), gradient, rng)
        single = sampling.variable_probe(layout, 0, 1.0, gradient, rng, aligned=False)
        for weights in (screened.weights[: error.size], single.weights):
            seen.append(abs(weights @ error) / np.abs(weights).mean())
    # No direction sees all errors; a size of 1/1000 is met with about that probability.
    assert np.mean(np.array(seen) < 1e-3) < 5e-3


def test_the_signs_of_the_screening_probe_are_balanced():
    signs = np.sign(screening(np.ones(4), np.ones(LAYOUT.size)).weights)
    assert abs(signs.mean()) < 4 / math.sqrt(LAYOUT.size)


@given(
    arrays.arrays(
        np.float64, LAYOUT.size, elements=st.floats(-1e100, 1e100), fill=st.floats(-1, 1)
    ),
    st.sets(st.sampled_from([0.0, math.nan, math.inf, -math.inf])),
    SEEDS,
)
def test_the_screening_probe_is_finite_whatever_the_gradient(gradient, intruders, seed):
    for k, value in enumerate(sorted(intruders, key=str)):
        gradient[LAYOUT.slice(k)] = value
    weights = screening([0.5, 0.1, 2.0, 1.0], gradient, seed).weights
    assert np.isfinite(weights).all()
    assert (weights != 0).all()


def test_a_variable_without_gradient_warns_of_nothing():
    gradient = np.full(LAYOUT.size, 100.0)
    gradient[LAYOUT.slice(2)] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = screening(np.ones(4), gradient)
    sizes = np.abs(probe.weights[LAYOUT.slice(2)])
    assert sizes.min() >= 0.5
    assert sizes.max() <= 1.5


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_without_a_usable_gradient_every_variable_moves_by_its_scale(value):
    scales = np.array([0.5, 0.1, 2.0, 1.0])
    probe = screening(scales, np.full(LAYOUT.size, value))
    relative = np.abs(probe.weights) / np.repeat(scales, LAYOUT.sizes)
    assert relative.min() >= 0.5
    assert relative.max() <= 1.5


def test_variables_left_out_do_not_move():
    weights = screening(np.ones(4), np.ones(LAYOUT.size), left_out={1, 3}).weights
    assert [bool(weights[LAYOUT.slice(v)].any()) for v in range(4)] == [True, False, True, False]


def test_along_its_gradient_a_variable_moves_about_as_far_as_at_random():
    gradient = np.random.default_rng(3).normal(size=LAYOUT.size)
    rng = np.random.default_rng(0)
    aligned = sampling.variable_probe(LAYOUT, 2, 0.7, gradient, rng, aligned=True)
    random = sampling.variable_probe(LAYOUT, 2, 0.7, gradient, rng, aligned=False)
    assert np.linalg.norm(aligned.weights) == pytest.approx(math.sqrt(120))
    assert np.linalg.norm(random.weights) == pytest.approx(math.sqrt(120), rel=0.2)
    assert aligned.start == random.start == 630
    assert aligned.length_scale == random.length_scale == 0.7
    part = gradient[630:750]
    assert aligned.slope_of(gradient) == pytest.approx(math.sqrt(120) * np.linalg.norm(part))


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_without_a_usable_gradient_alignment_gives_way_to_chance(value):
    probe = sampling.variable_probe(
        LAYOUT, 3, 1.0, np.full(LAYOUT.size, value), np.random.default_rng(0), aligned=True
    )
    sizes = np.abs(probe.weights)
    assert len(set(sizes)) == len(sizes)
    assert 0.5 <= sizes.min() <= sizes.max() <= 1.5


def test_a_variable_probe_leaves_the_gradient_alone():
    gradient = np.ones(LAYOUT.size)
    sampling.variable_probe(LAYOUT, 1, 1.0, gradient, np.random.default_rng(0), aligned=True)
    assert (gradient == 1).all()


def test_a_nudge_is_in_units_of_each_scale():
    point, scales = np.zeros(LAYOUT.size), np.array([1.0, 10.0, 100.0, 1000.0])
    moved = sampling.nudge(LAYOUT, point, scales, np.random.default_rng(1), 1e-2)
    assert np.array_equal(
        moved, sampling.nudge(LAYOUT, point, scales, np.random.default_rng(1), 1e-2)
    )
    assert (moved != 0).all()
    assert (point == 0).all()
    spread = LAYOUT.norms(moved) / np.sqrt(LAYOUT.sizes)
    np.testing.assert_allclose(spread[:3], 1e-2 * scales[:3], rtol=0.4)
