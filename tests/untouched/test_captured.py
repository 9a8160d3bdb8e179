"""Layers that find variables by identity or resource: tapes, recomputation, own gradients."""

import keras
import pytest

import gradhooks
from gradhooks.testing import assert_gradients
from tests.untouched import traces

LAYERS = [kind for kind in traces.CAPTURED if kind.layer]


@pytest.mark.parametrize(
    ("kind", "mode", "loop", "size"), traces.crossed(traces.CAPTURED, traces.LOOPS, traces.SIZES)
)
def test_every_bit_is_the_same_and_all_of_it_passes(kind, mode, loop, size):
    traces.assert_untouched(kind, mode, loop, size)


@pytest.mark.parametrize(("kind", "mode"), traces.crossed(traces.CAPTURED))
def test_a_mutant_is_caught_and_named(kind, mode):
    traces.assert_caught(kind, gradhooks.check_gradients(kind.mutant(mode), *traces.data()))


@pytest.mark.parametrize("kind", LAYERS, ids=str)
def test_a_layer_alone_passes(kind):
    keras.utils.set_random_seed(3)
    report = assert_gradients(kind.layer(1.0), traces.data()[0])
    assert report.precision.level == "float64"


@pytest.mark.parametrize("kind", LAYERS, ids=str)
def test_a_layer_alone_is_caught_and_named(kind):
    keras.utils.set_random_seed(3)
    with pytest.raises(AssertionError, match=kind.wrong[-1]) as caught:
        assert_gradients(kind.layer(kind.factor), traces.data()[0])
    assert "mismatch" in str(caught.value)
    assert "blocked" not in str(caught.value)
