"""Mistakes in a train step are named by the gradient that they predict; right steps pass."""

import pytest

import gradhooks
from gradhooks import Reason, Verdict
from tests.steps import cases

# One architecture by default, two more in the tier for systems.
OTHERS = [pytest.param(name, marks=pytest.mark.system) for name in ("conv", "two_inputs")]
# Builders of twins that differ; the other cases have the same.
TWINS = (
    "no_training_dropout",
    "no_training_normalization",
    "no_sample_weights",
    "no_class_weights",
)
TWINS += ("broadcast", "clipped_while_scaled", "not_reset", "assigned", "redrawn")


def check(case, architecture, is_wrong=True, **options):
    model, arguments = case.build(architecture, is_wrong)
    return gradhooks.check_gradients(model, **arguments, samples=4, **options)


@pytest.mark.parametrize("architecture", ["mlp", *OTHERS])
@pytest.mark.parametrize("name", cases.CASES)
def test_a_mistake_is_named(name, architecture):
    case = cases.CASES[name]
    report = check(case, architecture)
    assert report.verdict is Verdict.FAIL, report
    assert {c.reason for c in report.failures} == {Reason.UNTRAINED}, report
    sentences = {d.sentence for d in report.diagnoses}
    assert len(sentences) == 1, sentences
    assert case.words in sentences.pop()


@pytest.mark.parametrize("architecture", ["mlp", *OTHERS])
@pytest.mark.parametrize("name", TWINS)
def test_its_healthy_twin_passes(name, architecture):
    report = check(cases.CASES[name], architecture, is_wrong=False)
    assert report.verdict is Verdict.PASS, report
    assert not report.diagnoses
