"""Variables, read and written by raw operations."""

import numpy as np
import pytest
import tensorflow as tf

from gradhooks.backends.tensorflow import tensors

WRITES = {
    "assign": lambda v: v.assign(tf.zeros_like(v)),
    "assign_add": lambda v: v.assign_add(tf.ones_like(v)),
    "rows": lambda v: v.scatter_update(tf.IndexedSlices(tf.zeros((1, 2)), tf.constant([1]))),
    "optimizer": lambda v: tf.raw_ops.ResourceApplyGradientDescent(
        var=v.handle, alpha=tf.constant(1.0), delta=tf.ones_like(v)
    ),
}


def plain():
    return tf.Variable(np.arange(6, dtype="float32").reshape(3, 2))


def mirrored():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        return plain()


# Outside of a replica, a mirrored variable takes whole values only.
CASES = [(plain, name) for name in WRITES] + [(mirrored, "assign"), (mirrored, "assign_add")]


@pytest.mark.parametrize(
    "is_first", [True, False], ids=["read before anything", "read after a write"]
)
@pytest.mark.parametrize(
    ("make", "name"), CASES, ids=[f"{make.__name__}-{name}" for make, name in CASES]
)
def test_a_later_write_does_not_change_what_was_read(make, name, is_first):
    variable = make()
    if not is_first:
        WRITES[name](variable)
    before = variable.numpy().copy()
    seen = tensors.read(variable)
    WRITES[name](variable)
    np.testing.assert_array_equal(seen, before)
    if is_first:
        assert not np.array_equal(variable.numpy(), before)


@pytest.mark.parametrize("make", [plain, mirrored])
def test_a_written_value_is_read_again_and_shares_nothing_with_its_source(make):
    source, target = make(), make()
    source.assign_add(tf.ones_like(source))
    tensors.write(target, tensors.read(source))
    np.testing.assert_array_equal(tensors.read(target), np.arange(6).reshape(3, 2) + 1)
    target.assign_add(tf.ones_like(target))
    np.testing.assert_array_equal(tensors.read(source), np.arange(6).reshape(3, 2) + 1)
