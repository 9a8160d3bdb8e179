"""What could not be measured neither passes nor fails.

The corpus of `tests/corpora/unproved`.

A wrong gradient that passes here, or a right one that fails, is a release
blocker: find its cause, loosen nothing.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests.corpora.unproved import ENTRIES
from tests.corpora.unproved.building import HEALTHY
from tests.corpora.unproved.judging import allowed, check_entry

TRIALS = [pytest.param(e, f, id=f"{e.name}, times {f:g}") for e in ENTRIES for f in e.factors]


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize(("entry", "factor"), TRIALS)
def test_only_what_was_measured_passes(entry, factor):
    report = check_entry(entry, factor)
    assert report.verdict in allowed(entry, factor), report


def gradient(entry, factor):
    """What the tape says, in single precision, of all trainable parameters."""
    model, x, y, _ = entry.build(factor)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True), training=True)
    found = tape.gradient(
        loss, [v.value for v in model.trainable_variables], unconnected_gradients="zero"
    )
    return np.concatenate([tf.reshape(tf.convert_to_tensor(g), [-1]).numpy() for g in found])


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_the_factor_is_felt(entry):
    """Three times as much reaches what lies below the place, and as much as before all else."""
    right, wrong = gradient(entry, HEALTHY), gradient(entry, 3.0)
    moved = np.abs(wrong - right) > 1e-3 * np.abs(right).max()
    assert moved.any()
    np.testing.assert_allclose(wrong[moved], 3.0 * right[moved], rtol=1e-3)
