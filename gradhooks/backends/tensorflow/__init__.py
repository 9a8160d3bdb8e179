"""TensorFlow: compile the loss along lines, differentiate it, copy to the host."""

from gradhooks.backends.tensorflow.casts import (
    call_with_xla,
    cast,
    intercept_casts,
    widen_mixed_operands,
)
from gradhooks.backends.tensorflow.compiled_writes import find_written_handles
from gradhooks.backends.tensorflow.datasets import copy_dataset
from gradhooks.backends.tensorflow.functions import copy_functions, inline_functions
from gradhooks.backends.tensorflow.gradients import GradientProgram, Tape, differentiate
from gradhooks.backends.tensorflow.graphs import (
    find_narrow_operations,
    find_nondeterministic_operations,
    find_writes,
)
from gradhooks.backends.tensorflow.losses import LossProgram
from gradhooks.backends.tensorflow.pairs import from_pairs, to_pairs
from gradhooks.backends.tensorflow.parameters import fill_missing_gradients, flatten, trim_memory
from gradhooks.backends.tensorflow.randomness import fix_draws
from gradhooks.backends.tensorflow.recording import (
    CompiledStep,
    EagerStep,
    copy_storage,
    generator_state,
    is_variable,
    select_scalars,
    sum_gradients,
)
from gradhooks.backends.tensorflow.replicas import count_devices, replica_context
from gradhooks.backends.tensorflow.sources import intercept_sources
from gradhooks.backends.tensorflow.stand_ins import make_stand_in
from gradhooks.backends.tensorflow.step_operations import find_step_operations
from gradhooks.backends.tensorflow.tensor_statistics import (
    differentiate_scaled,
    evaluate_once,
    insert_identity,
    is_watchable,
    summarize,
)
from gradhooks.backends.tensorflow.tensors import (
    disassemble,
    handle_id,
    handle_ids,
    is_constant,
    is_out_of_memory,
    is_ragged,
    is_symbolic,
    reassemble,
    repeat_rows,
    snapshot,
    to_tensor,
)

__all__ = [
    "EagerStep",
    "GradientProgram",
    "LossProgram",
    "CompiledStep",
    "Tape",
    "sum_gradients",
    "replica_context",
    "cast",
    "find_nondeterministic_operations",
    "copy_functions",
    "copy_dataset",
    "disassemble",
    "evaluate_once",
    "fix_draws",
    "flatten",
    "from_pairs",
    "differentiate",
    "handle_id",
    "handle_ids",
    "inline_functions",
    "intercept_casts",
    "intercept_sources",
    "is_constant",
    "is_out_of_memory",
    "is_ragged",
    "is_symbolic",
    "is_variable",
    "is_watchable",
    "count_devices",
    "find_narrow_operations",
    "insert_identity",
    "reassemble",
    "select_scalars",
    "copy_storage",
    "differentiate_scaled",
    "snapshot",
    "find_step_operations",
    "make_stand_in",
    "generator_state",
    "summarize",
    "to_tensor",
    "repeat_rows",
    "to_pairs",
    "trim_memory",
    "widen_mixed_operands",
    "call_with_xla",
    "fill_missing_gradients",
    "find_writes",
    "find_written_handles",
]
