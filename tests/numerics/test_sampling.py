"""Which parameters are drawn: stratified, distinct, and a function of seed and step alone."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradhooks.numerics import sampling
from gradhooks.numerics.coordinates import draw_coordinates, draw_neighbours, draw_replacement
from gradhooks.numerics.layout import Layout

SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=2).map(tuple), min_size=1, max_size=9).map(
    tuple
)
SEEDS = st.integers(0, 2**31)
LAYOUT = Layout(("a", "b", "c", "d"), ((20, 30), (30,), (30, 4), (4,)))


def layout_of(shapes):
    return Layout(tuple(f"v{k}" for k in range(len(shapes))), shapes)


def filled(layout):
    return set(np.flatnonzero(layout.sizes).tolist())


def variables(layout, positions):
    return {layout.variable_of(p) for p in positions}


@given(SHAPES, st.integers(0, 40), SEEDS, SEEDS)
def test_draws_are_distinct_ascending_and_as_many_as_asked_for(shapes, samples, seed, step):
    layout = layout_of(shapes)
    drawn = draw_coordinates(layout, samples, seed, step)
    assert len(drawn) == min(samples, layout.size)
    assert (np.diff(drawn) > 0).all()
    assert all(0 <= p < layout.size for p in drawn)


@given(SHAPES, SEEDS, SEEDS, st.integers(0, 20))
def test_every_variable_gets_one_while_the_samples_last(shapes, seed, step, more):
    layout = layout_of(shapes)
    drawn = draw_coordinates(layout, len(filled(layout)) + more, seed, step)
    assert variables(layout, drawn) == filled(layout)


@given(SHAPES, SEEDS, st.integers(0, 1000), st.data())
def test_with_fewer_samples_successive_checks_cover_all_variables(shapes, seed, first_check, data):
    layout = layout_of(shapes)
    if not filled(layout):
        return
    samples = data.draw(st.integers(1, len(filled(layout))))
    checks = math.ceil(len(filled(layout)) / samples)
    drawn = [
        draw_coordinates(layout, samples, seed, 100 * t, t)
        for t in range(first_check, first_check + checks)
    ]
    assert set().union(*(variables(layout, d) for d in drawn)) == filled(layout)


def test_the_step_is_the_check_index_where_none_is_given():
    assert np.array_equal(draw_coordinates(LAYOUT, 2, 5, 3), draw_coordinates(LAYOUT, 2, 5, 3, 3))


def test_draws_depend_on_seed_and_step_only():
    first = draw_coordinates(LAYOUT, 16, 7, 11)
    np.random.seed(0)
    draw_coordinates(LAYOUT, 16, 7, 12)
    before = np.random.get_state()[1].tolist()
    assert np.array_equal(draw_coordinates(LAYOUT, 16, 7, 11), first)
    assert np.random.get_state()[1].tolist() == before


def gradient_where(layout, reached):
    gradient = np.zeros(layout.size)
    gradient[reached] = 1.0
    return gradient


def test_rows_in_use_are_drawn_before_those_without_a_gradient():
    layout = Layout(("table", "kernel"), ((5000, 4), (8,)))
    rows = np.concatenate([np.arange(4 * r, 4 * r + 4) for r in (17, 300, 4100)])
    gradient = gradient_where(layout, [*rows, *range(20000, 20008)])
    drawn = draw_coordinates(layout, 16, 3, 1, gradient=gradient)
    in_table = drawn[drawn < 20000]
    assert len(drawn) == 16
    assert np.sum(gradient[in_table] != 0) >= 6
    # Parameters without a gradient are drawn now and then: the zero may be wrong.
    others = [draw_coordinates(layout, 16, 3, step, gradient=gradient) for step in range(20)]
    assert any((gradient[d] == 0).any() for d in others)


@given(SEEDS, st.integers(1, 40), st.integers(0, 30), st.integers(0, 30))
def test_dead_variables_take_few_samples(seed, samples, dead, live):
    layout = Layout(tuple(f"v{k}" for k in range(dead + live)), ((3, 2),) * (dead + live))
    gradient = gradient_where(layout, slice(6 * dead, None))
    drawn = draw_coordinates(layout, samples, seed, 0, gradient=gradient)
    assert len(drawn) == min(samples, layout.size)
    of_dead = np.sum(drawn < 6 * dead)
    assert len(variables(layout, drawn[drawn >= 6 * dead])) >= min(
        live, samples - max(samples // 4, samples - live)
    )
    if live and 4 * samples < 6 * live:
        assert of_dead <= samples // 4 + 0.5 * samples


@given(st.integers(1, 9), SEEDS)
def test_successive_checks_cover_live_and_dead_variables(samples, seed):
    layout = Layout(tuple(f"v{k}" for k in range(12)), ((2,),) * 12)
    gradient = gradient_where(layout, slice(8, None))
    drawn = [draw_coordinates(layout, samples, seed, t, t, gradient) for t in range(12)]
    assert variables(layout, np.concatenate(drawn)) >= set(range(4, 12))


def test_a_gradient_that_is_not_finite_counts_as_one():
    layout = Layout(("a", "b"), ((4,), (4,)))
    gradient = np.array([0, 0, 0, np.nan, 0, 0, 0, 0.0])
    assert 3 in draw_coordinates(layout, 2, 0, 0, gradient=gradient)


def test_no_gradient_anywhere_leaves_the_draw_as_it_is():
    layout, nothing = LAYOUT, np.zeros(LAYOUT.size)
    assert len(draw_coordinates(layout, 16, 7, 11, gradient=nothing)) == 16
    assert variables(layout, draw_coordinates(layout, 4, 7, 11, gradient=nothing)) == {
        0,
        1,
        2,
        3,
    }


@pytest.mark.parametrize(("seed", "step"), [(8, 11), (7, 12)])
def test_another_seed_or_step_draws_others(seed, step):
    assert not np.array_equal(
        draw_coordinates(LAYOUT, 16, seed, step),
        draw_coordinates(LAYOUT, 16, 7, 11),
    )


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


def test_large_variables_get_the_rest():
    counts = np.zeros(len(LAYOUT))
    for step in range(200):
        for position in draw_coordinates(LAYOUT, 32, 0, step):
            counts[LAYOUT.variable_of(position)] += 1
    # Each of the four variables has one of the 32; the other 28 are uniform over all parameters.
    expected = 200 * (1 + 28 * LAYOUT.sizes / LAYOUT.size)
    np.testing.assert_allclose(counts, expected, rtol=0.2)


def test_a_replacement_is_a_new_parameter():
    rng = np.random.default_rng(0)
    drawn = {draw_replacement(LAYOUT, 1, {600, 601, 602}, rng) for _ in range(300)}
    assert drawn == set(range(603, 630))


def test_where_all_are_taken_there_is_no_replacement():
    assert draw_replacement(LAYOUT, 3, set(range(750, 754)), np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("shapes", "position"),
    [(((6, 7),), 17), (((3,), (2, 4, 5)), 20), (((9,),), 4), (((2, 2), (8, 8)), 40)],
)
def test_neighbours_lie_in_the_same_variable_unit_and_row(shapes, position):
    layout = layout_of(shapes)
    variable, index = layout.locate(position)
    found = [
        draw_neighbours(layout, position, {position}, np.random.default_rng(seed), count=8)
        for seed in range(5)
    ]
    for drawn in found:
        assert drawn == sorted(set(drawn) - {position})
        located = [layout.locate(p) for p in drawn]
        assert {v for v, _ in located} == {variable}
    indices = [layout.locate(p)[1] for drawn in found for p in drawn]
    if len(index) > 1:
        assert any(p[-1] == index[-1] and p[0] != index[0] for p in indices)
        assert any(p[0] == index[0] and p[-1] != index[-1] for p in indices)
        assert any(p[0] != index[0] and p[-1] != index[-1] for p in indices)


def test_a_scalar_has_no_neighbours():
    assert draw_neighbours(layout_of(((), (3,))), 0, {0}, np.random.default_rng(0)) == []


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
    assert shares.max() <= np.quantile(undamped[felt], 0.25) * (1 + 1e-12)


def test_the_screening_probe_moves_every_parameter_by_its_variables_measure():
    probe = screening([0.5, 0.1, 2.0, 1.0], np.ones(LAYOUT.size))
    assert (probe.start, probe.stop) == (0, LAYOUT.size)
    for v in range(len(LAYOUT)):
        sizes = np.abs(probe.weights[LAYOUT.slice(v)])
        assert sizes.min() == sizes.max() > 0


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
    assert (np.abs(probe.weights[LAYOUT.slice(2)]) == 1).all()


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_without_a_usable_gradient_every_variable_moves_by_its_scale(value):
    scales = np.array([0.5, 0.1, 2.0, 1.0])
    probe = screening(scales, np.full(LAYOUT.size, value))
    assert np.array_equal(np.abs(probe.weights), np.repeat(scales, LAYOUT.sizes))


def test_variables_left_out_do_not_move():
    weights = screening(np.ones(4), np.ones(LAYOUT.size), left_out={1, 3}).weights
    assert [bool(weights[LAYOUT.slice(v)].any()) for v in range(4)] == [True, False, True, False]


def test_along_its_gradient_a_variable_moves_as_far_as_with_random_signs():
    gradient = np.random.default_rng(3).normal(size=LAYOUT.size)
    rng = np.random.default_rng(0)
    aligned = sampling.variable_probe(LAYOUT, 2, 0.7, gradient, rng, aligned=True)
    signs = sampling.variable_probe(LAYOUT, 2, 0.7, gradient, rng, aligned=False)
    assert np.linalg.norm(aligned.weights) == pytest.approx(math.sqrt(120))
    assert set(signs.weights) == {-1.0, 1.0}
    assert aligned.start == signs.start == 630
    assert aligned.length_scale == signs.length_scale == 0.7
    part = gradient[630:750]
    assert aligned.slope_of(gradient) == pytest.approx(math.sqrt(120) * np.linalg.norm(part))


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_without_a_usable_gradient_alignment_gives_way_to_signs(value):
    probe = sampling.variable_probe(
        LAYOUT, 3, 1.0, np.full(LAYOUT.size, value), np.random.default_rng(0), aligned=True
    )
    assert set(probe.weights) <= {-1.0, 1.0}


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
