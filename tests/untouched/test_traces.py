"""Functions that cache traces are unchanged by a check, and checked correctly."""

import numpy as np
import pytest

import gradhooks
from tests import variants
from tests.untouched import traces


@pytest.mark.parametrize(
    ("kind", "mode", "loop", "size"), traces.crossed(traces.TRACED, traces.LOOPS, traces.SIZES)
)
def test_every_bit_and_every_trace_is_the_same(kind, mode, loop, size):
    traces.assert_untouched(kind, mode, loop, size)


@pytest.mark.parametrize("kind", traces.TRACED, ids=str)
def test_a_healthy_network_passes_and_can_be_used_afterwards(kind):
    model = kind.healthy()
    x, y = traces.data()
    before = traces.traces(kind, model)
    traces.assert_passed(gradhooks.check_gradients(model, x, y))
    assert traces.traces(kind, model) == before
    assert np.isfinite(model(x)).all()
    start = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(x, y)
    assert not [
        v.path
        for v, s in zip(model.trainable_variables, start, strict=True)
        if np.array_equal(v, s)
    ]


@pytest.mark.parametrize(("kind", "mode"), traces.crossed(traces.TRACED))
def test_a_mutant_is_caught_and_named(kind, mode):
    traces.assert_caught(kind, gradhooks.check_gradients(kind.mutant(mode), *traces.data()))


@pytest.mark.system
@pytest.mark.parametrize("kind", [*traces.TRACED, *traces.CAPTURED], ids=str)
@pytest.mark.parametrize("mode", variants.MODES, ids=str)
def test_the_table_is_right_about_plain_training(kind, mode):
    if mode.name in kind.impossible:
        pytest.skip(kind.impossible[mode.name])
    healthy, mutant = (
        variants.train_once(make(mode), *traces.data()) for make in (kind.healthy, kind.mutant)
    )
    off = {
        path: np.linalg.norm(mutant[path] - moved) / np.linalg.norm(moved)
        for path, moved in healthy.items()
    }
    assert np.isfinite(list(off.values())).all()  # everything moves
    assert {path for path, size in off.items() if size > 1e-5} == {
        p for p in off if p.endswith(kind.wrong)
    }
