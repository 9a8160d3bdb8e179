"""What is said of the faults whose place is looked for is true of them, each by itself."""

import pytest

from tests.localization import judging
from tests.localization.cases import CASES

# What must be said, by beginnings of names; of the rest of `NOTHING`, nothing can be told.
SAID = {
    "activation_factor": "1.5 times",
    "activation_sign": "opposite sign",
    "activation_negative": "only where the input is negative",
    "pooling_shifted": "shifted by 1 along axis 1",
    "normalization_fixed": "mean and variance over the last axis",
    "kernel_factor": "1.3 times",
    "kernel_transposed": "axes 0 and 1 exchanged (transposed)",
    "bias_sign": "opposite sign",
    "bias_unit": "only at entry [1]",
    "kernel_unit": "only at index 1 of axis 1",
    "gamma_factor": "0.5 times",
    "inputs_factor": "0.7 times",
    "inputs_unit": "only in unit 1",
    "inputs_reversed": "in reverse order",
    "output_factor": "1.2 times",
    "nested_sequential": "1.5 times",
    "nested_two_deep_mlp": "opposite sign",
    "time_distributed_dense_recurrent": "0.8 times",
    "time_distributed_frames": "1.4 times",
    "second_call_only": "first call is right, and it is wrong from the second call on",
    "both_calls": "",
    "branch_of_two": "1.5 times",
    "merge_sum_mlp": "only towards float input 2 of 2",
    "call_of_an_instance_mlp": "0.7 times",
    "call_of_model_mlp": "1.5 times",
    "call_after_the_last_mlp": "opposite sign",
    "call_of_layer_mlp": "1.5 times",
    "loss_function_mlp": "0.5 times",
    "loss_object_mlp": "2 times",
    "loss_of_an_output_mlp": "0.5 times",
    "loss_fn_mlp": "0.75 times",
    "kernel_regularizer_mlp": "0.5 times",
    "bias_regularizer_mlp": "1.5 times",
}
NOTHING = (
    "activation_term",
    "pooling_maximum",
    "pooling_time",
    "kernel_axis",
    "own_activation",
    "time_distributed_activation",
    "bidirectional",
    "second_reader_mlp",
    "first_reader_mlp",
    "compute_loss_mlp",
    "activity_regularizer_mlp",
    "added_loss_mlp",
    "stop_gradient_mlp",
    "rounding_mlp",
    "one_hot_mlp",
    "nan_norm_mlp",
    "nan_entropy_mlp",
    "merge_concatenation",
)
# Words of what may not be said where nothing is known; the numbers of a weight may be.
CLAIMS = ("the right one", "it is wrong", "missing", "handed on", "nothing is let", "transpose")
READ = [case for case in CASES if case.name.startswith((*SAID, *NOTHING))]


@pytest.mark.sweep
@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("case", READ, ids=str)
def test_what_is_said_of_a_fault_is_true(case):
    place = judging.check(case, 0).report.culprit
    assert place is not None
    expected = [words for name, words in SAID.items() if case.name.startswith(name)]
    if expected:
        assert expected[0] in place.finding
    else:
        assert not any(words in place.finding for words in CLAIMS)
