"""Which parameters are drawn: stratified, distinct, and a function of seed and step alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
