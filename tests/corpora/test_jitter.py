"""Jitter of the loss and the gradient changes no verdict on either corpus, up to the threshold.

Ten cases of each kind by default; `python -m pytest -m sweep` takes every case.
"""

import pytest

from tests import frameworks
from tests.corpora import controls, jitter, mutants

WRONG = [*mutants.CASES, *mutants.TRAIN_STEPS]
HEALTHY = [*controls.CASES, *controls.TWINS]

# Quick ones, of as many kinds as there are.
FACTORS = (
    "kernel_twice_too_large",
    "kernel_off_by_a_thousandth",
    "float64_off_by_1e_4",
    "kernel_half",
    "kernel_wrong_sign",
    "kernel_over_batch",
    "mixed_float16_factor",
    "squared_error_half",
    "l2_half",
    "one_weight_of_512",
)
OTHERS = (
    "mixed_float16_blocked",
    "stop_gradient",
    "argmax",
    "straight_through_rounding",
    "norm_of_zero",
    "divided_by_zero",
    "penalty_detached",
    "logarithm_behind_where",
    "step_halves",
    "attention_mask_forgotten",
)
RIGHT = (
    "tanh_mlp",
    "dense",
    "mixed_float16_mlp",
    "bfloat16_mlp",
    "fixed_float32_constant",
    "constant_loss",
    "relu_network",
    "dropout",
    "huge_loss",
    "l2_faint",
)


def named(cases, names):
    """The cases of these names; on other backends than TensorFlow those that exist there."""
    by_name = {case.name: case for case in cases}
    if frameworks.BACKEND != "tensorflow":
        names = [name for name in names if name in by_name]
    return [pytest.param(by_name[name], id=name) for name in names]


def swept(cases):
    return [pytest.param(case, id=case.name, marks=pytest.mark.sweep) for case in cases]


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("case", named(WRONG, FACTORS + OTHERS) + named(HEALTHY, RIGHT))
def test_jitter_changes_no_verdict(case):
    assert not jitter.find_wrong(case, jitter.check_at_levels(case))


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("case", swept(WRONG + HEALTHY))
def test_jitter_changes_no_verdict_on_any_case(case):
    assert not jitter.find_wrong(case, jitter.check_at_levels(case))
