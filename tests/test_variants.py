"""No control fails because of the precision or the compiler that it is trained with.

`tests/corpora/test_corpora.py` runs every control as it stands. Here each is trained
with XLA and in half precision, with the loss scaling that Keras adds. Run
`python -m pytest -m sweep tests/test_variants.py`.
"""

import math

import keras
import numpy as np
import pytest

from gradhooks import Verdict
from tests import variants
from tests.corpora import controls, judging
from tools import tally

SMALL = [case for case in controls.CASES if not case.large and not case.name.startswith("twin_of_")]

# What TensorFlow says where its kernel for the gradient of a grouped convolution in float16 is the
# one that cannot do it: which kernel is taken depends on the processor.
MISSING_KERNEL = "filter_size does not have enough elements"

# These failed once, each for a reason of its own, and run every time: noise drawn at another dtype,
# a loss that does not see the logits behind a cast, layers without operations in half precision,
# state that Keras does not list, rounding that stays the same all around.
FAILED_ONCE = {
    ("mixed_float16", "stochastic_depth"),
    ("mixed_float16", "alpha_dropout"),
    ("mixed_float16", "saturated_softmax"),
    ("mixed_float16", "pooling_in_three_dimensions"),
    ("mixed_float16", "conv2d_grouped_strided"),
    ("mixed_float16", "stateful_lstm"),
    ("mixed_float16", "tiny_loss"),
    ("mixed_bfloat16_xla", "saturated_softmax"),
    ("xla", "two_optimizers"),
}


def combinations():
    for variant in variants.OTHERS:
        for case in SMALL:
            always = (variant.name, case.name) in FAILED_ONCE
            yield pytest.param(
                variant, case, id=f"{variant}-{case}", marks=[] if always else [pytest.mark.sweep]
            )


@pytest.mark.parametrize(("variant", "case"), list(combinations()))
def test_a_control_fails_in_no_variant(variant, case):
    try:
        report, examined = judging.check_case_with_model(variant.of(case), 0)
    except variants.NotPossibleError as error:
        pytest.skip(str(error))
    if (case.name, variant.policy) in variants.LOST:
        assert {c.term for c in report.failures} == {"trained"}, report
        assert is_lost(case, variant)
        return
    ok = report.verdict is not Verdict.FAIL
    tally.note(variant.name, case, 0, report, examined[0], ok)
    assert ok, f"{case.note}\n{report}"
    if math.isnan(report.relative_difference.get("trained", math.nan)):
        # A gradient may stay unrecorded where Keras itself cannot train the model so, or where
        # there is none to record.
        assert any("could not be recorded" in note for note in report.notes), report
        if any(MISSING_KERNEL in note for note in report.notes):
            pytest.skip("this processor has no kernel for grouped convolutions in float16")
        assert case.name == "two_optimizers" or variants.own_failure(*examined) is not None, report


def is_lost(case, variant):
    """Whether a step of training, without any check, goes elsewhere than in float32."""
    moved = []
    for build in (case.build, variant.of(case).build):
        keras.utils.clear_session(free_memory=False)
        model, *batch = build(0)
        model.optimizer.learning_rate = 1e12 if case.name == "tiny_loss" else 0.01
        moved.append(
            np.concatenate(
                [change.ravel() for change in variants.train_once(model, *batch).values()]
            )
        )
    return np.linalg.norm(moved[1] - moved[0]) > 0.5 * np.linalg.norm(moved[0])
