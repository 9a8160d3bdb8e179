"""The gradient that the optimizer receives: defects of `train_step` fail, right ones pass.

`tests/corpora/test_corpora.py` runs the same cases as they stand; here, apart from the
default run, they run in every mode, and what is said about them is read.
"""

import contextlib
import math

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.verdicts import optimizer_gradient
from gradhooks.verdicts.replication import Vote
from gradhooks.verdicts.roundoff import DIRECTIONS
from tests import digest, models, needs, variants
from tests.corpora import judging, mutants
from tests.corpora.controls import chaos
from tests.corpora.controls import train_steps as right_steps
from tests.corpora.mutants import planted, train_steps

# One seed and the graph by default, the others in the sweep.
MODES = [
    pytest.param(m, id=str(m), marks=[] if m.name == "graph" else [pytest.mark.sweep])
    for m in variants.MODES
]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 5))]
# What the first diagnosis must say about each defect.
WORDS = {
    "step_without_penalty": "drops the regularization",
    "step_halves": "0.5 times",
    "step_drops_a_variable": "no gradient for this variable",
    "step_swaps_two": "swapped",
    "step_clips_by_value": "clipped by value",
    "step_clips_by_norm": "clipped to the norm 0.1",
    "step_clips_each_norm": "clipped to the norm 0.01",
    "step_keeps_the_loss_scale": "loss scale",
    "step_stops_the_gradient": "stop_gradient",
    "step_zeroes_a_variable": "zeros for this variable",
    "step_applies_the_accumulated_twice": "applied twice",
    "step_too_large_among_rounding": "passes on 1.05",
    "recomputed_dropout": "mask",
    "underflow_unscaled": "use loss scaling",
    "underflow_in_layers": "use loss scaling",
}
# What only TensorFlow can get wrong.
OF_TENSORFLOW = ("recomputed_dropout",)


# Words for what may be wrong with a train step, and those that may be said beside a mutant's own.
CAUSES = (
    "drops the regularization", "adds the regularization", "times the gradient", "no gradient for",
    "swapped", "clipped by value", "clipped to the norm", "loss scale", "stop_gradient",
    "zeros for", "mask", "use loss scaling", "training=", "weights", "broadcast", "sharpness",
    "not reset", "momentum", "centralized", "optimizers, each", "assigns", "add_loss",
    "decay", "either ",
)  # fmt: skip
BESIDE = {
    "step_halves": {"times the gradient"},
    "step_drops_a_variable": {"stop_gradient"},
    "step_clips_by_norm": {"times the gradient"},
    "step_keeps_the_loss_scale": {"times the gradient"},
    "step_stops_the_gradient": {"no gradient for"},
    "step_zeroes_a_variable": {"stop_gradient"},
    "step_applies_the_accumulated_twice": {"times the gradient"},
    "step_too_large_among_rounding": {"times the gradient"},
}


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=str)


def test_every_defect_has_its_words():
    is_tensorflow = keras.backend.backend() == "tensorflow"
    of_this_backend = [name for name in WORDS if is_tensorflow or name not in OF_TENSORFLOW]
    assert of_this_backend == [case.name for case in mutants.TRAIN_STEPS]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
@named(mutants.TRAIN_STEPS)
@pytest.mark.usefixtures("unoptimized")
@pytest.mark.system
def test_a_wrong_train_step_is_caught_and_named(case, mode, seed):
    report = judging.check_case(mode.of(case), seed)
    assert report.verdict is Verdict.FAIL, report
    assert {c.term for c in report.failures} == {"trained"}, report
    assert judging.is_named(case, report), report
    assert WORDS[case.name] in report.diagnoses[0].sentence, report
    for diagnosis in report.diagnoses:
        said = {words for words in CAUSES if words in diagnosis.sentence}
        own = {words for words in CAUSES if words in WORDS[case.name]}
        own |= {words for words in CAUSES if WORDS[case.name] in words}
        assert said <= own | BESIDE.get(case.name, set()), diagnosis
    assert report.relative_difference["total"] < 1e-7


@pytest.mark.parametrize("mode", MODES)
@named(right_steps.OWN)
@pytest.mark.sweep
def test_a_right_train_step_does_not_fail_and_nothing_changes(case, mode):
    keras.utils.clear_session(free_memory=False)
    model, x, y = mode.of(case).build(0)
    states = [v for layer in model.layers for v in getattr(layer, "states", None) or ()]
    values = [v.numpy() for v in states]
    before = digest.digest(model)
    report = gradhooks.check_gradients(model, x, y)
    assert digest.digest(model) == before
    assert all(np.array_equal(v.numpy(), value) for v, value in zip(states, values, strict=True))
    assert report.verdict is Verdict.PASS, report
    received = report.relative_difference["trained"]
    if case.name == "two_optimizers":
        assert math.isnan(received)
    else:
        assert received < (1e-2 if "float16" in case.name else 1e-4)


@pytest.mark.sweep
@named(mutants.TRAIN_STEPS)
def test_the_defects_are_there(case):
    """Without any recording: one step of training moves the wrong variable elsewhere."""
    moved = []
    for twin in (contextlib.nullcontext, planted.healthy):
        keras.utils.clear_session(free_memory=False)
        with twin():
            model, x, y = case.build(0)
        # A rate that is not lost in the digits of the weights.
        model.optimizer.learning_rate = 1e4 if "underflow" in case.name else 0.01
        moved.append(variants.train_once(model, x, y))
    wrong, right = moved
    gaps = {
        path: np.linalg.norm(wrong[path] - right[path])
        / (np.linalg.norm(wrong[path]) + np.linalg.norm(right[path]))
        for path in wrong
    }
    assert max(gap for path, gap in gaps.items() if case.culprit in path) > 0.01, gaps


def test_two_optimizers_are_a_sentence():
    model, x, y = regression(right_steps.TwoOptimizers)
    was_built = model.others["rest"].built
    report = gradhooks.check_gradients(model, x, y)
    assert any("2 optimizers" in note for note in report.notes)
    (comparison,) = (c for c in report.comparisons if c.term == "trained")
    assert (comparison.verdict, comparison.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_RECORDED)
    assert gradhooks.CheckReport.from_json(report.to_json()).to_json() == report.to_json()
    assert "not_recorded" in str(report)
    assert model.others["rest"].built == was_built
    model.fit(x, y, verbose=0)


def regression(kind, seed=0):
    return train_steps.regression(kind, seed)


@pytest.mark.system
@pytest.mark.parametrize("name", right_steps.OPTIMIZERS)
def test_optimizers_that_scale_or_keep_gradients_go_on_to_do_so(name):
    model, x, y = models.mlp(optimizer=right_steps.OPTIMIZERS[name]())
    for _ in range(2):
        report = gradhooks.check_gradients(model, x, y)
        assert report.verdict is Verdict.PASS, report
        assert report.relative_difference["trained"] < 1e-4
        model.fit(x, y, verbose=0)


class Remat(layers.Layer):
    """`keras.remat` around dropout; without it where `around` hands its function on."""

    def __init__(self, around=keras.remat, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(7)
        self.around = around

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 8), name="w")

    def call(self, x):
        return self.around(lambda h: keras.random.dropout(ops.tanh(h), 0.5, seed=self.seeds))(
            x @ self.w
        )


def remat_model(around, seed, **mode):
    keras.utils.set_random_seed(seed)
    stack = [layers.Input((10,)), Remat(around, name="remat"), layers.Dense(1, name="head")]
    return models.compiled(keras.Sequential(stack), **mode)


def first_gradient(around):
    """Returns the gradient of the first weight without a check, to see how Keras recomputes."""
    model, (x, y) = remat_model(around, 0), models.data((10,), (1,), 0)
    return GRADIENTS[keras.backend.backend()](model, model.get_layer("remat").w, x, y)


def gradient_on_tensorflow(model, weight, x, y):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = ops.mean(ops.square(y - model(x, training=True)))
    return tape.gradient(loss, weight.value).numpy()


def gradient_on_jax(model, weight, x, y):
    import jax

    def loss_of(value):
        with keras.StatelessScope([(weight, value)]):
            return ops.mean(ops.square(y - model(x, training=True)))

    return np.asarray(jax.grad(loss_of)(weight.value))


GRADIENTS = {"tensorflow": gradient_on_tensorflow, "jax": gradient_on_jax}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
def test_remat_around_dropout(mode, seed):
    plain, recomputed = first_gradient(lambda function: function), first_gradient(keras.remat)
    is_wrong = np.linalg.norm(plain - recomputed) > 1e-3 * np.linalg.norm(plain)
    model = remat_model(keras.remat, seed, run_eagerly=mode.is_eager, jit_compile=mode.is_xla)
    report = gradhooks.check_gradients(model, *models.data((10,), (1,), seed), seed=seed)
    if is_wrong:
        assert [c.path for c in report.failures] == [model.get_layer("remat").w.path]
        assert "mask" in report.diagnoses[0].sentence
    else:
        assert report.verdict is Verdict.PASS, report


def test_a_train_step_that_raises_is_a_note_not_a_crash():
    class Raises(train_steps.Custom):
        def losses_of(self, y, y_pred):
            raise RuntimeError("no loss today\nand many more lines")

    model, x, y = regression(Raises)
    before = digest.digest(model)
    report = gradhooks.check_gradients(model, x, y)
    assert digest.digest(model) == before
    (note,) = report.notes
    assert "no loss today" in note
    assert "lines" not in note
    assert np.isnan(report.relative_difference["trained"])
    assert not report.failures


def test_it_can_be_left_out():
    report = gradhooks.check_gradients(*regression(train_steps.Halved), train_step=False)
    assert report.verdict is Verdict.PASS
    assert "trained" not in report.relative_difference


def test_a_loss_that_lives_in_train_step_must_be_given():
    class Own(train_steps.Custom):
        pass

    keras.utils.set_random_seed(0)
    model = Own([layers.Input((10,)), layers.Dense(1)])
    model.compile("sgd")
    x, y = models.data((10,), (1,), 0)
    with pytest.raises(ValueError, match="loss_fn"):
        gradhooks.check_gradients(model, x, y)

    def loss_fn(model, x, y, sample_weight, training):
        return ops.mean(ops.square(y - model(x, training=training)))

    report = gradhooks.check_gradients(model, x, y, loss_fn=loss_fn)
    assert report.verdict is Verdict.PASS, report
    assert report.relative_difference["trained"] < 1e-4


def asked_of(model, x, y):
    from gradhooks.model import batch, objective, oracle

    return oracle.ModelOracle(objective.Objective(model), batch.take_batch(x, y))


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("mixed_bfloat16", "float32"),
        ("float32", "float32"),
        pytest.param(
            "float64", "float64", marks=needs.tensorflow("training in float64 by default")
        ),
    ],
)
def test_a_recording_keeps_every_digit_and_no_more(policy, kept):
    with variants.dtype_policy(policy):
        recording = asked_of(*models.mlp()).record()
    assert recording.gradient.dtype == kept
    assert recording.received.all()


def test_one_recording_and_one_gradient_per_check():
    from gradhooks.checking import run
    from gradhooks.checking.settings import Settings

    asked = asked_of(*models.noisy())
    counts = []
    for step in range(1, 4):
        report = run.check(asked, Settings(step=step))
        assert report.verdict is Verdict.PASS
        counts.append((asked.gradient_evaluations, asked._train_step.runs))
        assert asked._train_step.traces == 1
    # The first check may ask for the float64 gradient twice, to see whether it jitters; every other
    # asks once.
    assert counts[0][0] <= 2
    assert np.diff(counts, axis=0).tolist() == [[1, 1], [1, 1]]
    assert counts[0][1] == 1


def test_reasons_are_distinguished():
    report = gradhooks.check_gradients(*regression(train_steps.Halved))
    assert {c.reason for c in report.failures} == {Reason.UNTRAINED}


def test_overflow_in_float16_is_not_recorded_and_does_not_fail():
    with variants.dtype_policy("mixed_float16"):
        model, x, y = regression(keras.Sequential)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=2.0**24
    )
    model.compile(optimizer, "mse")
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is Verdict.PASS, report
    lost = [c for c in report.comparisons if c.reason is Reason.NOT_RECORDED]
    assert lost
    assert all(c.verdict is Verdict.INCONCLUSIVE for c in lost)


def test_replicates_are_taken_until_no_variable_disagrees(monkeypatch):
    """Roundoff costs a gradient, a replicate elsewhere a recording as well."""
    asked = []

    def roundoff(dropped):
        return lambda recorded, nearby, variables, dtype: (
            asked.append("roundoff") or variables[dropped:]
        )

    def elsewhere(answer):
        return lambda recorded, replicate, variable, dtype: asked.append(variable) or answer

    monkeypatch.setattr(optimizer_gradient, "find_disagreeing", lambda recorded, dtype: [0, 1])
    monkeypatch.setattr(optimizer_gradient, "find_beyond_rounding", roundoff(1))
    monkeypatch.setattr(optimizer_gradient, "vote", elsewhere(Vote.CONTRADICTED))
    assert gradhooks.check_gradients(*models.mlp()).verdict is Verdict.PASS
    assert asked == ["roundoff", "roundoff"]
    asked.clear()
    monkeypatch.setattr(optimizer_gradient, "find_beyond_rounding", roundoff(0))
    gradhooks.check_gradients(*models.mlp())
    assert asked == ["roundoff"] * DIRECTIONS + [0, 1]  # one replicate, which contradicts both
    asked.clear()
    monkeypatch.setattr(optimizer_gradient, "vote", elsewhere(Vote.REPEATED))
    gradhooks.check_gradients(*models.mlp())
    assert asked == ["roundoff"] * DIRECTIONS + [0, 1] * 2


def test_rounding_that_a_network_multiplies_is_reported_and_keeps_no_check_from_passing():
    """At some points over half of the variables differ more than float32 usually explains."""
    reports = [
        gradhooks.check_gradients(*chaos.normalized(25, 16, 6)(seed), seed=seed)
        for seed in range(4)
    ]
    assert [r.verdict for r in reports] == [Verdict.PASS] * 4
    rounded = [[c for c in r.comparisons if c.reason is Reason.ROUNDING] for r in reports]
    assert max(map(len, rounded)) > 26
    for report, found in zip(reports, rounded, strict=True):
        assert all(c.term == "trained" and c.verdict is Verdict.INCONCLUSIVE for c in found)
        assert [
            note.split(" of ")[0] for note in report.notes if "rounding in float32" in note
        ] == [
            f"what the optimizer receives differs from the gradient in float64 in {len(found)}"
        ] * bool(found)
