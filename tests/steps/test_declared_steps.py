"""`expect` declares a train step that changes the gradient on purpose, and nothing else."""

import pytest

import gradhooks
from gradhooks import Reason, Verdict
from tests.steps import cases

MEANT = {"*": "untrained"}


@pytest.mark.parametrize("name", ["sharpness", "clipped_together", "centralized"])
def test_a_step_that_is_meant_is_declared(name):
    model, arguments = cases.CASES[name].build("mlp")
    report = gradhooks.check_gradients(model, **arguments, samples=8, expect=MEANT)
    assert report.verdict is Verdict.PASS, report
    reasons = {c.reason for c in report.comparisons if c.term == "trained"}
    assert Reason.DECLARED in reasons
    assert not report.diagnoses


def test_a_step_that_stopped_doing_it_fails():
    model, arguments = cases.CASES["sharpness"].build("mlp", is_wrong=False)
    report = gradhooks.check_gradients(model, **arguments, samples=4, expect=MEANT)
    assert {c.reason for c in report.failures} == {Reason.UNDECLARED_MATCH}
    assert {c.term for c in report.failures} == {"trained"}


def test_a_step_that_does_it_to_some_variables_is_up_to_date():
    model, arguments = cases.CASES["no_penalty"].build("mlp")
    report = gradhooks.check_gradients(model, **arguments, samples=4, expect=MEANT)
    assert report.verdict is Verdict.PASS, report
