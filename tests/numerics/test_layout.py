"""Flat index <-> variable and multi-index: two inverse functions and a label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.numerics.layout import Layout, unique_paths
from gradhooks.reports.text import list_names

# Scalars, empty variables and variables of length one are the edge cases.
SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=6).map(
    tuple
)


def layout_of(shapes):
    return Layout(tuple(f"v{k}" for k in range(len(shapes))), shapes)


DENSE = Layout(
    ("dense/kernel", "dense/bias", "gain", "nothing", "last"), ((2, 3), (3,), (), (0, 4), (1,))
)


@pytest.mark.parametrize(
    ("position", "located", "label"),
    [
        (0, (0, (0, 0)), "dense/kernel[0, 0]"),
        (4, (0, (1, 1)), "dense/kernel[1, 1]"),
        (5, (0, (1, 2)), "dense/kernel[1, 2]"),
        (6, (1, (0,)), "dense/bias[0]"),
        (8, (1, (2,)), "dense/bias[2]"),
        (9, (2, ()), "gain[()]"),
        (10, (4, (0,)), "last[0]"),
    ],
)
def test_where_a_position_lies(position, located, label):
    assert (DENSE.locate(position), DENSE.label(position)) == (located, label)


@pytest.mark.parametrize(
    ("count", "listed"),
    [(1, "v0"), (3, "v0, v1, v2"), (4, "v0, v1, v2 and 1 more"), (12, "v0, v1, v2 and 9 more")],
)
def test_paths_in_a_row(count, listed):
    assert list_names([f"v{k}" for k in range(count)]) == listed


def test_sizes_offsets_and_slices():
    assert DENSE.sizes.tolist() == [6, 3, 1, 0, 1]
    assert DENSE.offsets.tolist() == [0, 6, 9, 10, 10, 11]
    assert (DENSE.size, len(DENSE)) == (11, 5)
    assert [DENSE.slice(v) for v in range(5)] == [
        slice(0, 6),
        slice(6, 9),
        slice(9, 10),
        slice(10, 10),
        slice(10, 11),
    ]


@given(SHAPES)
def test_locating_and_indexing_are_inverse(shapes):
    layout = layout_of(shapes)
    arrays = [
        np.arange(layout.slice(v).start, layout.slice(v).stop).reshape(shape)
        for v, shape in enumerate(shapes)
    ]
    for position in range(layout.size):
        variable, index = layout.locate(position)
        assert arrays[variable][index] == position
        assert layout.variable_of(position) == variable


@given(SHAPES)
def test_labels_name_one_parameter_each(shapes):
    layout = layout_of(shapes)
    assert len({layout.label(p) for p in range(layout.size)}) == layout.size


@given(SHAPES)
def test_slices_tile_the_vector(shapes):
    layout = layout_of(shapes)
    vector = np.arange(layout.size)
    assert (
        np.concatenate([vector[layout.slice(v)] for v in range(len(layout))]).tolist()
        == vector.tolist()
    )


@pytest.mark.parametrize("position", [-1, 11, 1000])
def test_outside_the_vector_there_is_nothing(position):
    with pytest.raises(
        IndexError, match=f"(?s)must.*Received: position={position}.*Expected 0 <= position < 11"
    ):
        DENSE.locate(position)


def test_norms_are_taken_per_variable():
    vector = np.array([3.0, 4.0, 0, 0, 0, 0, 0, -5.0, 12.0, -2.0, 7.0])
    assert DENSE.norms(vector).tolist() == [5.0, 13.0, 2.0, 0.0, 7.0]


def test_repeated_paths_are_numbered():
    assert unique_paths(["a/w", "a/w", "b/w", "a/w"]) == ("a/w", "a/w#2", "b/w", "a/w#3")


@given(st.lists(st.sampled_from(["a", "b", "c"])))
def test_unique_paths_are_unique(paths):
    unique = unique_paths(paths)
    assert len(set(unique)) == len(paths)
    assert [u.split("#")[0] for u in unique] == paths
