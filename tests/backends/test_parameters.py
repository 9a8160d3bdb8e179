"""Parameters end to end and one by one, and what holding them costs."""

import numpy as np
import pytest
import tensorflow as tf

from gradhooks.backends.tensorflow import parameters

SHAPES = [(2, 3), (), (0, 4), (5,)]


def test_parted_and_flattened_are_inverse():
    flat = np.arange(12.0)
    parts = parameters.split(flat, SHAPES)
    assert [tuple(part.shape) for part in parts] == SHAPES
    np.testing.assert_array_equal(parameters.flatten([tf.constant(part) for part in parts]), flat)


def test_what_was_made_of_an_array_is_kept_as_long_as_the_array_lives():
    ended = []
    kept, flat, other = parameters.Cache(lambda: ended.append(True)), np.arange(3.0), np.ones(3)
    flat.flags.writeable = other.flags.writeable = False
    made = kept.get(flat, "list", flat.tolist)
    assert kept.get(flat, "list", lambda: "made again") is made
    assert kept.get(flat, "sum", flat.sum) == 3.0
    assert kept.get(other, "list", other.tolist) == [1.0] * 3
    assert kept.get(flat, "list", flat.tolist) == made
    assert kept._made
    assert not ended
    del flat
    assert not kept._made
    assert ended


def test_kept_parts_do_not_keep_their_array_alive():
    kept, flat = parameters.Cache(), np.arange(12.0)
    flat.flags.writeable = False
    parts = kept.parts(flat, SHAPES)
    assert kept.parts(flat, SHAPES) is parts
    assert [tuple(part.shape) for part in parts] == SHAPES
    del flat
    assert not kept._made
    np.testing.assert_array_equal(parameters.flatten(parts), np.arange(12.0))


def test_nothing_is_kept_of_what_may_be_written_to():
    kept, flat = parameters.Cache(), np.arange(3.0)
    kept.get(flat, "list", flat.tolist)
    flat[1] = -1.0
    assert kept.get(flat, "list", flat.tolist) == [0.0, -1.0, 2.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_flattened_keeps_every_digit(dtype):
    values = tf.cast(tf.constant([1 / 3, -2e-5, 0.0]), dtype)
    wide = "float64" if dtype == "float64" else "float32"
    found = parameters.flatten([values, values], wide)
    assert found.dtype == wide
    np.testing.assert_array_equal(found, np.tile(tf.cast(values, tf.float64).numpy(), 2))


@pytest.mark.parametrize("shapes", [SHAPES, SHAPES[:1]], ids=["several", "one"])
def test_unbundled_is_the_inverse_of_bundled(shapes):
    rng = np.random.default_rng(0)
    values = [tf.constant(rng.normal(size=shape)) for shape in shapes]
    again = parameters.unbundle(parameters.bundle(values), shapes)
    for value, other in zip(values, again, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize(
    ("place", "expected"), [(1, [-0.0, 2.5, 3.0]), (-1, [-0.0, 2.0, 3.0]), (3, [-0.0, 2.0, 3.0])]
)
def test_one_entry_moves_and_the_others_stay_bit_for_bit(place, expected):
    flat = tf.constant([-0.0, 2.0, 3.0], tf.float64)
    moved = parameters.with_one_moved(
        flat, tf.constant(place, tf.int64), tf.constant([0.5], tf.float64)
    )
    assert moved.numpy().tobytes() == np.array(expected).tobytes()


def test_nothing_moves_where_nothing_is():
    empty = tf.zeros([0], tf.float64)
    assert parameters.with_one_moved(
        empty, tf.constant(0, tf.int64), tf.constant([0.5], tf.float64)
    ).shape == (0,)


def test_a_missing_gradient_is_zero():
    rows = tf.IndexedSlices(tf.ones([1, 3]), tf.constant([1]), tf.constant([2, 3]))
    found = parameters.fill_missing_gradients([rows, None], [(2, 3), (2,)])
    assert [f.dtype for f in found] == [tf.float64] * 2
    np.testing.assert_array_equal(found[0], [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(found[1], [0, 0])
