"""Mistakes in a train step are named by the gradient that they predict; right steps pass."""

import pytest

import gradhooks
from gradhooks import Reason, Verdict
from tests.steps import cases

# One architecture by default, two more in the tier for systems, and two in the sweep.
ARCHITECTURES = [
    "mlp",
    *(pytest.param(name, marks=pytest.mark.system) for name in ("conv", "recurrent")),
    *(pytest.param(name, marks=pytest.mark.sweep) for name in ("two_inputs", "attention")),
]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in (1, 2))]
# Variations of other cases, which the sweep alone runs.
VARIATIONS = (
    "weights_alike",
    "no_added_losses",
    "squeezed",
    "clipped_without_penalty",
    "normalized",
    "some_scaled",
    "value_clipped_while_scaled",
    "each_clipped_while_scaled",
    "averaged_and_not_reset",
)
CASES = [
    pytest.param(name, marks=pytest.mark.sweep if name in VARIATIONS else ())
    for name in cases.CASES
]
# Builders of twins that differ; the other cases have the same.
TWINS = (
    "no_training_dropout",
    "no_training_normalization",
    "no_sample_weights",
    "no_class_weights",
    "no_penalty",
    "broadcast",
    "clipped_while_scaled",
    "second_optimizer",
    "not_reset",
    "assigned",
    "redrawn",
)


def check(case, architecture, seed, is_wrong=True):
    model, arguments = case.build(architecture, is_wrong, seed)
    return gradhooks.check_gradients(model, **arguments, samples=4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named(name, architecture, seed):
    case = cases.CASES[name]
    report = check(case, architecture, seed)
    assert report.verdict is Verdict.FAIL, report
    assert {c.reason for c in report.failures} == {Reason.UNTRAINED}, report
    sentences = {d.sentence for d in report.diagnoses}
    assert len(sentences) == 1, sentences
    sentence = sentences.pop()
    assert case.words in sentence
    assert sentence.startswith("either ") == case.is_ambiguous
    assert report.culprit.kind == "train_step"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", TWINS)
def test_its_healthy_twin_passes(name, architecture, seed):
    report = check(cases.CASES[name], architecture, seed, is_wrong=False)
    assert report.verdict is Verdict.PASS, report
    assert not report.diagnoses
