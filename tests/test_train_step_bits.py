"""Recording `train_step` at every step leaves training the same, bit for bit."""

import keras
import pytest

import gradhooks
from tests import digest, variants
from tests.corpora.controls import train_steps as right_steps
from tests.corpora.mutants import train_steps as wrong_steps
from tests.corpora.mutants.train_steps import regression

pytestmark = pytest.mark.system

# What makes a step assign, keep, scale or recompute something: the right ones and those that are
# not.
KINDS = [
    *right_steps.STEPS,
    right_steps.TwoOptimizers,
    wrong_steps.AccumulatedTwice,
    wrong_steps.Stopped,
]


def with_optimizer(name):
    return lambda: regression(keras.Sequential, 0, optimizer=right_steps.OPTIMIZERS[name]())


BUILDS = {
    **{kind.__name__: (lambda kind=kind: regression(kind, 0)) for kind in KINDS},
    **{name: with_optimizer(name) for name in right_steps.OPTIMIZERS},
    "recomputed": lambda: wrong_steps.recomputed(0),
    "mixed_float16": lambda: wrong_steps.unscaled(0),
    "stateful": lambda: right_steps.stateful(0),
    "embedded": lambda: right_steps.embedded(0),
}


def trained(name, mode, is_checked):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    model, x, y = BUILDS[name]()
    model.run_eagerly, model.jit_compile = mode.is_eager, mode.is_xla
    check = gradhooks.GradientCheck(x, y, freq=1, samples=2, on_failure="ignore")
    # A stateful layer needs the batch size it was built for.
    rows = 8 if name in ("stateful", "embedded") else 16
    callbacks = [check] if is_checked else []
    history = model.fit(
        x, y, epochs=2, batch_size=rows, shuffle=False, verbose=0, callbacks=callbacks
    ).history
    others = [v.numpy() for o in getattr(model, "others", {}).values() for v in o.variables]
    states = [v.numpy() for layer in model.layers for v in getattr(layer, "states", None) or ()]
    history = {key: value for key, value in history.items() if not key.startswith("gradcheck")}
    return (
        digest.digest(model),
        [array.tobytes() for array in [*others, *states]],
        history,
        check.reports,
    )


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(m, marks=[] if m.name == "graph" else [pytest.mark.sweep])
        for m in variants.MODES
    ],
    ids=str,
)
def test_every_bit_is_the_same(name, mode):
    *plain, _ = trained(name, mode, is_checked=False)
    *checked, reports = trained(name, mode, is_checked=True)
    assert checked == plain
    assert len(reports) > 2
    assert not [r.error for r in reports if r.error]
    recorded = [
        r for r in reports if any(c.term == "trained" and c.path != "*" for c in r.comparisons)
    ]
    assert len(recorded) == (0 if name == "TwoOptimizers" else len(reports))
