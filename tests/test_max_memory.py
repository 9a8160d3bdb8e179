"""`max_memory` makes evaluations run one at a time, changes no number, and says so."""

import numpy as np
import pytest

import gradhooks
from gradhooks.backends.common.memory import Needs
from gradhooks.model import batch as batches
from gradhooks.model import objective, oracle
from gradhooks.numerics.probe import Probe
from tests import models


def make_oracle(build, max_memory):
    model, x, y = build()
    batch = batches.take_batch(x, y, None, None, 32)
    return oracle.ModelOracle(objective.Objective(model), batch, max_memory=max_memory)


def note_of(report):
    return [note for note in report.notes if "max_memory" in note]


@pytest.mark.parametrize("build", [models.mlp, models.noisy], ids=["dense", "with a penalty"])
def test_no_number_depends_on_it(build):
    free, limited = make_oracle(build, None), make_oracle(build, 1)
    assert limited._compilation.losses.is_heavy
    assert not free._compilation.losses.is_heavy
    point = free.point()
    rng = np.random.default_rng(0)
    probes = [
        Probe(3, np.ones(1)),
        Probe(1, rng.normal(size=3), 1.0, np.array([1, 5, 8])),
        Probe(0, rng.normal(size=free.layout.size)),
    ]
    for some in ([probes[0]], probes[:2], probes[2:]):
        pairs = [(k, sign * 1e-3) for k in range(len(some)) for sign in (1, -1)]
        found, expected = (o.losses(point, some, pairs) for o in (limited, free))
        np.testing.assert_array_equal(found, expected)
    for term, gradient in free.gradients(point).terms.items():
        np.testing.assert_array_equal(limited.gradients(point).terms[term], gradient)


def test_the_report_says_what_it_takes():
    model, x, y = models.mlp()
    needs = make_oracle(models.mlp, None)._compilation.losses.needs
    assert needs.least < needs.usual

    def check(max_memory):
        return gradhooks.check_gradients(model, x, y, max_memory=max_memory)

    assert not note_of(check(None))
    assert not note_of(check(needs.usual))
    (one_at_a_time,) = note_of(check(needs.least))
    assert f"max_memory={needs.least}" in one_at_a_time
    assert "batch_size" not in one_at_a_time
    report = check(needs.least - 1)
    assert report.verdict is gradhooks.Verdict.PASS
    assert "take fewer examples (batch_size)" in note_of(report)[0]


def test_it_holds_for_the_callback_and_for_the_trace_behind_a_failure():
    model, x, y = models.mlp()
    check = gradhooks.GradientCheck(x, y, max_memory=1, freq=1)
    model.fit(x, y, epochs=1, steps_per_epoch=2, verbose=0, callbacks=[check])
    assert all(note_of(report) for report in check.reports)
    assert check._checker.oracle.tapped().oracle._compilation.losses.is_heavy


def test_the_needs_count_every_copy():
    needs = Needs(parameters=100, largest=60, activations=30, terms=3)
    assert needs.usual == 100 * (1 + 1 + 3) + 2 * (100 + 30)
    assert needs.least == 100 * (1 + 1 + 3) + (60 + 30)
    assert Needs(100, 10, 30, 3).least == 500 + 2 * 30


@pytest.mark.parametrize("value", [0, -1, 1e9, "2 GB", True])
def test_anything_but_a_number_of_bytes_is_refused(value):
    with pytest.raises(gradhooks.BadInputError, match=r"max_memory=2 \* 10\*\*9"):
        gradhooks.GradientCheck(np.ones((2, 2)), max_memory=value)
