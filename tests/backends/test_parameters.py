"""Parameters end to end and one by one, and what holding them costs."""

import numpy as np
import pytest
import tensorflow as tf

from gradhooks.backends.common.flat import Cache, split
from gradhooks.backends.tensorflow import parameters

SHAPES = [(2, 3), (), (0, 4), (5,)]


def test_split_and_flatten_are_inverse():
    flat = np.arange(12.0)
    parts = split(flat, SHAPES)
    assert [tuple(part.shape) for part in parts] == SHAPES
    np.testing.assert_array_equal(parameters.flatten([tf.constant(part) for part in parts]), flat)


def test_kept_parts_do_not_keep_their_array_alive():
    cache, flat = Cache(), np.arange(12.0)
    flat.flags.writeable = False
    parts = parameters.split_cached(cache, flat, SHAPES)
    assert parameters.split_cached(cache, flat, SHAPES) is parts
    assert [tuple(part.shape) for part in parts] == SHAPES
    del flat
    assert len(cache) == 0
    np.testing.assert_array_equal(parameters.flatten(parts), np.arange(12.0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_flatten_keeps_every_digit(dtype):
    values = tf.cast(tf.constant([1 / 3, -2e-5, 0.0]), dtype)
    wide = "float64" if dtype == "float64" else "float32"
    flat = parameters.flatten([values, values], wide)
    assert flat.dtype == wide
    np.testing.assert_array_equal(flat, np.tile(tf.cast(values, tf.float64).numpy(), 2))


@pytest.mark.parametrize("shapes", [SHAPES, SHAPES[:1]], ids=["several", "one"])
def test_unbundle_is_the_inverse_of_bundle(shapes):
    rng = np.random.default_rng(0)
    values = [tf.constant(rng.normal(size=shape)) for shape in shapes]
    again = parameters.unbundle(parameters.bundle(values), shapes)
    for value, other in zip(values, again, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize(
    ("index", "expected"), [(1, [-0.0, 2.5, 3.0]), (-1, [-0.0, 2.0, 3.0]), (3, [-0.0, 2.0, 3.0])]
)
def test_one_entry_moves_and_the_others_stay_bit_for_bit(index, expected):
    flat = tf.constant([-0.0, 2.0, 3.0], tf.float64)
    offset = tf.constant([0.5], tf.float64)
    moved = parameters.move_entries(flat, tf.constant([index], tf.int64), offset)
    assert moved.numpy().tobytes() == np.array(expected).tobytes()


def test_several_entries_move_and_those_outside_do_not():
    flat = tf.constant([-0.0, 2.0, 3.0], tf.float64)
    indices = tf.constant([0, 2, -1, 7], tf.int64)
    moved = parameters.move_entries(flat, indices, tf.constant([0.5, 1, 4, 4], tf.float64))
    assert moved.numpy().tobytes() == np.array([0.5, 2.0, 4.0]).tobytes()


def test_nothing_moves_where_nothing_is():
    empty = tf.zeros([0], tf.float64)
    offset = tf.constant([0.5], tf.float64)
    assert parameters.move_entries(empty, tf.constant([0], tf.int64), offset).shape == (0,)


def test_a_missing_gradient_is_zero():
    rows = tf.IndexedSlices(tf.ones([1, 3]), tf.constant([1]), tf.constant([2, 3]))
    filled = parameters.fill_missing_gradients([rows, None], [(2, 3), (2,)])
    assert [f.dtype for f in filled] == [tf.float64] * 2
    np.testing.assert_array_equal(filled[0], [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(filled[1], [0, 0])
