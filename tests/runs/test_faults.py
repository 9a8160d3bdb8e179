"""Whatever goes wrong while training is checked.

The training goes on, untouched, and one warning says what it was.
"""

import importlib
import resource
import shutil

import keras
import numpy as np
import pytest
from keras import layers

import gradhooks
from gradhooks import Reason
from tests import models, needs
from tests.runs import training
from tests.runs.training import (
    INCONCLUSIVE,
    PASS,
    At,
    check_of,
    failing_evaluations,
    plotted,
    small,
    stored,
)

pytestmark = pytest.mark.system

STEPS = [0, 1, 2, 3, 4]


def logging_to(log_dir, **options):
    return lambda x, y: check_of(x, y, log_dir=log_dir, **options)


@pytest.mark.parametrize("after", [0, 3])
def test_the_kth_evaluation_raises(monkeypatch, tmp_path, after):
    plain = training.run(small)
    with failing_evaluations(monkeypatch, after, RuntimeError("the cable is out")):
        checked = training.run(small, logging_to(tmp_path))
    assert checked.left == plain.left
    assert len(checked.complaints) == 1
    assert "RuntimeError: the cable is out" in checked.complaints[0]
    broken = [r for r in checked.reports if r.error]
    assert checked.reports[-1] is broken[-1]
    assert all((r.verdict, r.reason) == (INCONCLUSIVE, Reason.ERROR) for r in broken)
    assert stored(tmp_path) == plotted(tmp_path) == STEPS


def test_an_interrupt_within_a_check_comes_out(monkeypatch, tmp_path):
    def interrupt(model):
        raise KeyboardInterrupt

    plain = training.run(small, others=lambda: [At(3, interrupt)])
    # Three checks take all the evaluations that they want; those of the fourth are cut short.
    calls = count_calls(monkeypatch)
    with failing_evaluations(monkeypatch, calls(3), KeyboardInterrupt()):
        checked = training.run(small, logging_to(tmp_path))
    assert isinstance(checked.error, KeyboardInterrupt)
    assert checked.left == plain.left
    assert checked.complaints == []
    assert stored(tmp_path) == plotted(tmp_path) == [0, 1, 2]


def count_calls(monkeypatch):
    """Returns a function: number of calls of the loss in the first k checks of `small`."""
    from gradhooks.checking import run
    from gradhooks.model import oracle

    calls, marks = [0], [0]
    losses, check = oracle.ModelOracle.losses, run.check
    with monkeypatch.context() as patched:

        def counted(self, *args):
            calls[0] += 1
            return losses(self, *args)

        def marked(*args):
            report = check(*args)
            marks.append(calls[0])
            return report

        patched.setattr(oracle.ModelOracle, "losses", counted)
        patched.setattr(run, "check", marked)
        training.run(small, check_of)
    return marks.__getitem__


def test_an_interrupt_in_a_notebook_and_another_fit(monkeypatch, tmp_path):
    """Interrupted within a check, a model can be trained on with the same callback."""
    model, x, y = small()
    check = check_of(x, y, log_dir=tmp_path)
    with failing_evaluations(monkeypatch, 1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, callbacks=[check])
    model.fit(x, y, verbose=0, batch_size=32, callbacks=[check])
    assert {r.verdict for r in check.reports} == {PASS}
    assert stored(tmp_path) == plotted(tmp_path) == [0, 1, 2]


def test_a_full_disk(tmp_path):
    """A limit on the size of files stands for it: what still fits is taken, the rest is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(model):
        sizes = [p.stat().st_size for p in (tmp_path / "gradcheck").iterdir()]
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(sizes) + 100, hard))

    plain = training.run(small)
    try:
        checked = training.run(small, logging_to(tmp_path), others=lambda: [At(3, fill)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checked.left == plain.left
    assert len(checked.complaints) == 1
    assert "File too large" in checked.complaints[0]
    assert str(tmp_path) in checked.complaints[0]
    assert "Training goes on" in checked.complaints[0]
    assert [r.step for r in checked.reports] == STEPS
    assert stored(tmp_path) == plotted(tmp_path) == [0, 1, 2]


def test_the_log_directory_vanishes(tmp_path):
    log_dir = tmp_path / "logs"
    checked = training.with_and_without(
        small,
        logging_to(log_dir),
        others=lambda: [At(3, lambda model: shutil.rmtree(log_dir, ignore_errors=True))],
    )
    assert [r.step for r in checked.reports] == STEPS
    assert len(checked.complaints) == 1
    assert f"{log_dir}/gradcheck has vanished" in checked.complaints[0]
    # What is found out from then on is there again, for TensorBoard too.
    assert stored(log_dir) == plotted(log_dir) == [3, 4]


def test_the_log_directory_is_replaced_by_a_file(tmp_path):
    log_dir = tmp_path / "logs"

    def replace(model):
        shutil.rmtree(log_dir, ignore_errors=True)
        log_dir.write_text("in the way")

    checked = training.with_and_without(small, logging_to(log_dir), others=lambda: [At(2, replace)])
    assert [r.step for r in checked.reports] == STEPS
    assert len(checked.complaints) == 1
    assert log_dir.read_text() == "in the way"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_loss_becomes_non_finite(tmp_path, value):
    def spoil(model):
        model.get_layer("head").bias.assign([value])

    checked = training.with_and_without(small, logging_to(tmp_path), others=lambda: [At(3, spoil)])
    assert [r.verdict for r in checked.reports] == [PASS] * 3 + [INCONCLUSIVE] * 2
    assert {r.reason for r in checked.reports[3:]} == {Reason.NON_FINITE_LOSS}
    assert len(checked.complaints) == 1
    assert "loss" in checked.complaints[0]
    assert "at step 3" in checked.complaints[0]
    assert stored(tmp_path) == plotted(tmp_path) == STEPS


class Aging(layers.Layer):
    """Does something else at every call, by a count that no Keras variable holds."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0

    def call(self, x):
        self.calls += 1
        return x * (1 + self.calls % 3)


class Tossing(layers.Layer):
    """Draws from NumPy's global generator at every call."""

    def call(self, x):
        return x * float(np.random.rand() > 0.3)


@pytest.mark.parametrize("layer", [Aging, Tossing])
@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_a_layer_that_changes_its_behaviour(layer, mode):
    checked = training.with_and_without(lambda: models.mlp(middle=[layer()], **mode))
    assert training.FAIL not in checked.verdicts
    assert len(checked.complaints) <= 1


def out_of_memory(message="OOM when allocating tensor"):
    """Returns the error by which the framework says that memory ran out."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.errors.ResourceExhaustedError(None, None, message)
    import jax

    return jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")


def test_memory_runs_out_in_a_check(monkeypatch):
    message = "OOM when allocating tensor with shape[64,1000000]"
    plain = training.run(small)
    with failing_evaluations(monkeypatch, 1, out_of_memory(message)):
        checked = training.run(small, check_of)
    assert checked.left == plain.left
    assert checked.verdicts == {INCONCLUSIVE}
    assert len(checked.complaints) == 1
    assert message in checked.complaints[0]
    assert "use a smaller batch_size for the check" in checked.complaints[0]


@needs.tensorflow("the evaluation of several points at a time")
def test_memory_suffices_for_one_evaluation_at_a_time(monkeypatch):
    from gradhooks.backends.tensorflow import losses

    evaluated, asked = losses.LossProgram.evaluate_together, []

    def alone(self, point, state, batch, probes, pairs):
        asked.append(len(pairs))
        if len(pairs) > 1:
            raise out_of_memory()
        return evaluated(self, point, state, batch, probes, pairs)

    whole = training.run(small, check_of)
    monkeypatch.setattr(losses.LossProgram, "evaluate_together", alone)
    checked = training.with_and_without(small)
    assert 1 in asked
    assert max(asked) > 1
    assert not checked.complaints
    assert checked.verdicts == {PASS}
    assert [r.relative_difference for r in checked.reports] == [
        r.relative_difference for r in whole.reports
    ]


def test_memory_runs_out_while_a_check_is_compiled(monkeypatch):
    backend = keras.backend.backend()
    gradients = importlib.import_module(f"gradhooks.backends.{backend}.gradients")
    name = {"tensorflow": "__call__", "jax": "evaluate"}[backend]

    def exhausted(*args):
        raise out_of_memory()

    plain = training.run(small)
    monkeypatch.setattr(gradients.GradientProgram, name, exhausted)
    checked = training.run(small, check_of)
    assert checked.left == plain.left
    assert checked.verdicts == {INCONCLUSIVE}
    assert len(checked.complaints) == 1
    assert "OOM" in checked.complaints[0]


def test_a_generator_that_raises_on_its_first_batch():
    """That data cannot be had is said before training starts, with the generator's own words."""

    def batches():
        raise OSError("the file is gone")
        yield

    plain = training.run(small, epochs=0)
    checked = training.run(small, lambda x, y: check_of(batches(), None))
    assert "OSError: the file is gone" in str(checked.error)
    assert isinstance(checked.error, gradhooks.BadInputError)
    assert checked.digest == plain.digest


def test_weights_are_replaced_while_training(tmp_path):
    path = tmp_path / "other.weights.h5"
    keras.utils.clear_session(free_memory=False)
    small()[0].save_weights(path)
    checked = training.with_and_without(
        small,
        others=lambda: (
            [At(2, lambda model: model.load_weights(path))],
            [At(3, lambda m: m.load_weights(path))],
        ),
    )
    assert checked.verdicts == {PASS}
    assert not checked.complaints


def test_recompiled_between_fits():
    def again(model):
        model.compile("sgd", keras.losses.MeanAbsoluteError(), metrics=["mse"])

    checked = training.with_and_without(small, between=again)
    assert checked.verdicts == {PASS}
    model, x, y = small()
    check = check_of(x, y)
    for loss in ("mse", "mae", "mse"):
        model.compile("sgd", loss)
        model.fit(x, y, verbose=0, callbacks=[check])
        assert {r.verdict for r in check.reports} == {PASS}, loss
        # An oracle traced for an earlier loss would evaluate that one.
        fresh = gradhooks.check_gradients(model, x, y, samples=4)
        assert check.reports[-1].loss["data"] == pytest.approx(fresh.loss["data"], rel=1e-12), loss


def freeze(model):
    model.get_layer("below").trainable = False


def freeze_and_compile(model):
    freeze(model)
    model.compile("adam", "mse")


def add_and_compile(model):
    model.add(layers.Dense(2, "tanh", name="added"))
    model.add(layers.Dense(1, name="last"))
    model.compile("adam", "mse")


@pytest.mark.parametrize("change", [freeze, freeze_and_compile, add_and_compile])
def test_frozen_or_added_between_fits(change):
    checked = training.with_and_without(small, between=change)
    assert checked.verdicts == {PASS}
    # What fit() has compiled before, it goes on training.
    assert ["compile the model again" in message for message in checked.complaints] == [True] * (
        change is freeze
    )
    paths = {c.path for r in checked.reports for c in r.comparisons}
    assert any("below" in p for p in paths) == (change is add_and_compile)
    assert any("added" in p for p in paths) == (change is add_and_compile)


@pytest.mark.parametrize("name", [".", "..", "a/b", "", "/tmp"])
def test_a_name_cannot_lead_out_of_the_log_directory(name):
    with pytest.raises(ValueError, match="names a directory"):
        gradhooks.GradientCheck(np.ones((2, 2)), name=name)


def test_the_comparison_can_fail():
    plain = training.run(small)
    touched = training.run(
        small, others=lambda: [At(2, lambda model: model.get_layer("head").bias.assign([0.5]))]
    )
    assert plain.left != touched.left
