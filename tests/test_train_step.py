"""The gradient that the optimizer receives: planted defects of `train_step` are named, right ones are not accused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from tests import digest, models

MODES = {"graph": {}, "eager": {"run_eagerly": True}, "xla": {"jit_compile": True}}


class Custom(keras.Sequential):
    """A hand-written train step, right as it stands; subclasses get one thing wrong."""

    def losses_of(self, y, y_pred):
        return ops.mean(ops.square(y - y_pred)) + sum(self.losses)

    def changed(self, gradients):
        return gradients

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.losses_of(y, self(x, training=True))
        gradients = self.changed(tape.gradient(loss, self.trainable_variables))
        self.hand_on(gradients)
        return {"loss": loss}

    def hand_on(self, gradients):
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))


class WithApply(Custom):
    def hand_on(self, gradients):
        self.optimizer.apply(gradients, self.trainable_variables)


class WithState(Custom):
    """Counts its steps in a variable, and assigns to a weight after the gradient is taken."""

    def hand_on(self, gradients):
        super().hand_on(gradients)
        self.trainable_variables[0].assign_add(ops.ones_like(self.trainable_variables[0]))


class NoPenalty(Custom):
    def losses_of(self, y, y_pred):
        return ops.mean(ops.square(y - y_pred))


class Halved(Custom):
    def changed(self, gradients):
        return [g / 2 for g in gradients]


class OneDropped(Custom):
    def hand_on(self, gradients):
        pairs = list(zip(gradients, self.trainable_variables, strict=True))
        self.optimizer.apply_gradients(pairs[:2] + pairs[3:])


class Swapped(Custom):
    def changed(self, gradients):
        return [gradients[0], gradients[3], gradients[2], gradients[1], *gradients[4:]]


class ClippedByValue(Custom):
    def changed(self, gradients):
        return [ops.clip(g, -0.01, 0.01) for g in gradients]


class ClippedByNorm(Custom):
    def changed(self, gradients):
        return tf.clip_by_global_norm(gradients, 0.1)[0]


class StillScaled(Custom):
    def losses_of(self, y, y_pred):
        return 1024.0 * super().losses_of(y, y_pred)


class Stopped(Custom):
    def changed(self, gradients):
        return [ops.stop_gradient(gradients[0] * 0), *gradients[1:]]


class AppliedTwice(Custom):
    def hand_on(self, gradients):
        super().hand_on(gradients)
        super().hand_on(gradients)


def built(kind, seed=0, **mode):
    keras.utils.set_random_seed(seed)
    stack = [
        layers.Input((10,)),
        layers.Dense(8, "tanh", kernel_regularizer=keras.regularizers.L2(0.1), name="first"),
        layers.Dense(8, "tanh", name="second"),
        layers.Dense(1, name="head"),
    ]
    x, y = models.data((10,), (1,), seed)
    return models.compiled(kind(stack), optimizer="sgd", **mode), x, 5 * y


MUTANTS = [
    (NoPenalty, "drops the regularization"),
    (Halved, "0.5 times"),
    (OneDropped, "no gradient for this variable"),
    (Swapped, "swapped"),
    (ClippedByValue, "clipped by value"),
    (ClippedByNorm, "clipped to the norm 0.1"),
    (StillScaled, "loss scale"),
    (Stopped, "zeros for this variable"),
    (AppliedTwice, "applied twice"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "words"), MUTANTS, ids=[kind.__name__ for kind, _ in MUTANTS])
def test_a_wrong_train_step_is_caught_and_named(kind, words, mode):
    report = gradhooks.check_gradients(*built(kind, **MODES[mode]))
    assert report.verdict is Verdict.FAIL, report
    assert {c.term for c in report.failures} == {"trained"}, report
    assert words in report.diagnoses[0].sentence, report
    assert report.relative_difference["total"] < 1e-7


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize(("kind", "words"), MUTANTS, ids=[kind.__name__ for kind, _ in MUTANTS])
def test_it_is_caught_at_other_seeds(kind, words, seed):
    report = gradhooks.check_gradients(*built(kind, seed), seed=seed)
    assert report.verdict is Verdict.FAIL, report
    assert words in report.diagnoses[0].sentence, report


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [Custom, WithApply, WithState])
def test_a_right_train_step_is_not_accused_and_nothing_changes(kind, mode):
    model, x, y = built(kind, **MODES[mode])
    before = digest.digest(model)
    report = gradhooks.check_gradients(model, x, y)
    assert digest.digest(model) == before
    assert report.verdict is Verdict.PASS, report
    assert report.relative_difference["trained"] < 1e-4


@pytest.mark.parametrize("name", models.HEALTHY)
def test_the_default_train_step_is_not_accused(name):
    model, x, y = models.HEALTHY[name]()
    report = gradhooks.check_gradients(model, x, y)
    print(f"{name}: trained {report.relative_difference['trained']:.1e}")
    assert report.verdict is Verdict.PASS
    assert not [c for c in report.failures if c.term == "trained"]
    assert report.relative_difference["trained"] < (1e-4 if "mixed" not in name else 1e-2)


OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.SGD(gradient_accumulation_steps=3),
    "loss scale factor": lambda: keras.optimizers.SGD(loss_scale_factor=512.0),
    "dynamic loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=1024.0),
    "moving average": lambda: keras.optimizers.Adam(use_ema=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_that_scale_or_keep_gradients(name):
    model, x, y = models.mlp(optimizer=OPTIMIZERS[name]())
    for _ in range(2):
        report = gradhooks.check_gradients(model, x, y)
        assert report.verdict is Verdict.PASS, report
        assert report.relative_difference["trained"] < 1e-4
        model.fit(x, y, verbose=0)


class Remat(layers.Layer):
    """`keras.remat` around dropout: recomputed with another mask in the backward pass."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(7)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 8), name="w")

    def call(self, x):
        return keras.remat(lambda h: keras.random.dropout(ops.tanh(h), 0.5, seed=self.seeds))(x @ self.w)


def test_remat_around_dropout():
    keras.utils.set_random_seed(0)
    model = models.compiled(keras.Sequential([layers.Input((10,)), Remat(name="remat"), layers.Dense(1)]))
    report = gradhooks.check_gradients(model, *models.data((10,), (1,), 0))
    if report.verdict is Verdict.PASS:
        pytest.skip("this Keras recomputes with the mask of the forward pass")
    assert [c.path for c in report.failures] == [model.get_layer("remat").w.path]
    assert "mask" in report.diagnoses[0].sentence


def test_a_train_step_that_raises_is_a_note_not_a_crash():
    class Raises(Custom):
        def losses_of(self, y, y_pred):
            raise RuntimeError("no loss today")

    model, x, y = built(Raises)
    before = digest.digest(model)
    report = gradhooks.check_gradients(model, x, y)
    assert digest.digest(model) == before
    assert any("no loss today" in note for note in report.notes)
    assert np.isnan(report.relative_difference["trained"])
    assert not report.failures


class TwoOptimizers(Custom):
    def hand_on(self, gradients):
        self.optimizer.apply(gradients[:2], self.trainable_variables[:2])
        self.other.apply(gradients[2:], self.trainable_variables[2:])


def test_two_optimizers_are_a_sentence():
    model, x, y = built(TwoOptimizers)
    model.other = keras.optimizers.SGD()
    report = gradhooks.check_gradients(model, x, y)
    assert any("2 optimizers" in note for note in report.notes)
    assert not report.failures


def test_it_can_be_left_out():
    report = gradhooks.check_gradients(*built(Halved), train_step=False)
    assert report.verdict is Verdict.PASS
    assert "trained" not in report.relative_difference


def test_a_loss_that_lives_in_train_step_must_be_given():
    class Own(Custom):
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


def test_one_recording_and_one_gradient_per_check():
    from gradhooks import examination
    from gradhooks.model import batch, oracle, terms

    model, x, y = models.noisy()
    asked = oracle.ModelOracle(terms.Objective(model), batch.fixed_batch(x, y))
    for step in range(1, 4):
        report = examination.run(asked, examination.Settings(step=step))
        assert report.verdict is Verdict.PASS
        assert (asked.gradient_evaluations, asked._train_step.runs, asked._train_step.traces) == (step, step, 1)


def test_reasons_are_told_apart():
    report = gradhooks.check_gradients(*built(Halved))
    assert {c.reason for c in report.failures} == {Reason.UNTRAINED}
