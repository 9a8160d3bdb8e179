"""A report on a mutant names the layer, loss or regularizer that holds the defect.

By default a quick case of every sort; `python -m pytest -m sweep` takes every mutant, and
`python -m tools.localization --corpora` prints what is named. A healthy place that is
named blocks a release.
"""

import re

import pytest

from tests.corpora import culprits, judging, mutants

CASES = [*mutants.CASES, *mutants.TRAIN_STEPS]
# One of each sort of defect and of each way in which its place is found.
QUICK = (
    "kernel_wrong_sign",
    "kernel_zero",
    "input_gradient_halved",
    "one_of_two_outputs",
    "subclassed_output",
    "detached_branch",
    "hard_gate",
    "recurrent_kernel_factor",
    "second_output_half",
    "divergence_half",
    "l2_half",
    "activity_of_an_activation",
    "tied_autoencoder",
    "power_of_zero",
    "step_halves",
)
# Planted factors: what a sentence says of the size of the error must be true, and no other
# mutant may be said to have a factor.
FACTORS = {
    "kernel_twice_too_large": 2.0,
    "kernel_half": 0.5,
    "kernel_off_by_a_thousandth": 1.001,
    "kernel_off_by_1e_4": 1.0001,
    "kernel_wrong_sign": -1.0,
    "kernel_zero": 0.0,
    "kernel_over_batch": 1 / 16,
    "bias_only": 1.1,
    "input_gradient_halved": 0.5,
    "output_gradient_off": 0.9,
    "one_of_two_outputs": 0.3,
    "reversal_nobody_declared": -1.0,
    "subclassed_output": 1.25,
    "mixed_float16_factor": 1.05,
    "mixed_bfloat16_sign": -1.0,
    "mixed_bfloat16_one_percent": 1.01,
    "float64_off_by_1e_4": 1.0001,
    "stop_gradient": 0.0,
    "convolution_bias_averaged": 1 / 64,
    "average_pool_as_sum": 4.0,
    "recurrent_kernel_factor": 1.2,
    "between_two_gru": 0.8,
    "squared_error_half": 0.5,
    "sum_for_mean": 4.0,
    "second_output_half": 0.5,
    "l2_half": 0.5,
    "l2_faint_wrong_sign": -1.0,
    "l2_of_a_bias": 1.5,
    "orthogonality_half": 0.5,
    "convolution_l2_off": 1.05,
    "embedding_l2_half": 0.5,
    "activity_half": 0.5,
    "activity_of_an_activation": 0.5,
    "gamma_only": 1.3,
    "gamma_in_a_transformer": 0.5,
    "attention_scale_forgotten": 2.0,
    "off_by_1e_4_among_kinks": 1.0001,
    "one_percent_under_25_norms": 1.01,
    "doubled_under_30_norms": 2.0,
    "one_percent_before_20_iterations": 1.01,
}
TIMES = re.compile(r"it is (-?[0-9.e+-]+) times the right one, along every direction")
OFF_BY = re.compile(r"off by ([0-9.e+-]+) of its size")


def by_tier():
    """Every mutant; those that are not quick are for the sweep."""
    for case in CASES:
        marks = () if case.name in QUICK else pytest.mark.sweep
        yield pytest.param(case, id=case.name, marks=marks)


def words_of(culprit):
    """Returns words that the sentence on a culprit must have: what it is, and where."""
    if culprit.kind == "train_step":
        return ["`train_step`"]
    if culprit.kind == "loss":
        return [f"the loss `{culprit.path}`"]
    if culprit.kind == "regularizer":
        return ["regularizer", culprit.path]
    return [f"`{culprit.path}`"]


def assert_sentence_is_true(case, culprit):
    """Compares the words of a sentence with the record, and with what was planted."""
    text = " ".join((culprit.sentence, *culprit.evidence))
    for word in words_of(culprit):
        assert word in culprit.sentence
    assert ("regularizer" in culprit.sentence) == (culprit.kind == "regularizer")
    assert culprit.source in ("", *culprit.sentence.replace("(", " ").replace(")", " ").split())
    sizes = [float(size) for size in OFF_BY.findall(text)]
    assert all(0 < size <= 1 for size in sizes)
    factor = FACTORS.get(case.name)
    for times in TIMES.findall(text):
        assert factor is not None
        assert float(times) == pytest.approx(factor, rel=0.02)
    if factor is None:
        return
    assert ("wrong sign" in text or "opposite sign" in text) == (factor < 0)
    assert ("nothing is let through" in text) == (factor == 0)
    if factor > 0:
        truth = abs(factor - 1) / (factor + 1)
        # Two digits are said.
        assert sizes
        assert sizes == pytest.approx([truth] * len(sizes), rel=0.06)


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("case", list(by_tier()))
def test_the_place_of_a_defect_is_named(case):
    report, (model, *_) = judging.check_case_with_model(case, 0)
    said = culprits.describe(case, report, model)
    assert culprits.judge(case, report, model) == culprits.RIGHT, f"{said}\n{report}"
    if report.culprit is not None:
        assert_sentence_is_true(case, report.culprit)


def test_planted_factors_belong_to_cases():
    assert {*QUICK, *FACTORS} <= {case.name for case in CASES}
