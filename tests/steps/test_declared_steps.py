"""`expect` declares a train step that changes the gradient on purpose, and nothing else."""

import pytest
import tensorflow as tf

import gradhooks
from gradhooks import Reason, Verdict
from tests.steps import cases, train_steps

MEANT = {"*": "untrained"}


@pytest.mark.parametrize("name", ["sharpness", "clipped_together", "centralized"])
def test_a_step_that_is_meant_is_declared(name):
    model, arguments = cases.CASES[name].build("mlp")
    report = gradhooks.check_gradients(model, **arguments, samples=8, expect=MEANT)
    assert report.verdict is Verdict.PASS, report
    reasons = {c.reason for c in report.comparisons if c.term == "trained"}
    assert Reason.DECLARED in reasons
    assert not report.diagnoses


@pytest.mark.parametrize(
    "change",
    [
        lambda gradients: gradients,
        lambda gradients: [tf.clip_by_value(g, -1e3, 1e3) for g in gradients],
        lambda gradients: [tf.clip_by_norm(g, 1e3) for g in gradients],
        lambda gradients: tf.clip_by_global_norm(gradients, 1e3)[0],
    ],
    ids=["nothing", "by value", "by norm", "together"],
)
def test_a_step_that_has_nothing_to_do_is_noted_and_does_not_fail(change):
    class Idle(train_steps.Step):
        def changed(self, gradients):
            return change(gradients)

    model, arguments = cases.Case(Idle, "").build("mlp")
    report = gradhooks.check_gradients(model, **arguments, samples=4, expect=MEANT)
    assert report.verdict is Verdict.PASS, report
    (note,) = [note for note in report.notes if "does nothing here" in note]
    assert note.startswith("expect={'*': 'untrained'}")


def test_a_step_that_does_it_to_some_variables_is_up_to_date():
    model, arguments = cases.CASES["no_penalty"].build("mlp")
    report = gradhooks.check_gradients(model, **arguments, samples=4, expect=MEANT)
    assert report.verdict is Verdict.PASS, report
