"""TensorFlow's side of the seam: the members of `gradhooks.backends.base.Backend`."""

from gradhooks.backends.common.memory import trim_memory
from gradhooks.backends.tensorflow.casts import (
    call_with_xla,
    cast,
    intercept_casts,
    widen_mixed_operands,
)
from gradhooks.backends.tensorflow.compiled_writes import find_written_handles
from gradhooks.backends.tensorflow.datasets import copy_dataset
from gradhooks.backends.tensorflow.execution import evaluate
from gradhooks.backends.tensorflow.functions import copy_functions, inline_functions
from gradhooks.backends.tensorflow.gradients import GradientProgram, Tape, differentiate
from gradhooks.backends.tensorflow.graphs import (
    find_narrow_operations,
    find_nondeterministic_operations,
    find_writes,
    name_operations,
)
from gradhooks.backends.tensorflow.losses import LossProgram
from gradhooks.backends.tensorflow.pairs import from_pairs, to_pairs
from gradhooks.backends.tensorflow.parameters import fill_missing_gradients, flatten
from gradhooks.backends.tensorflow.parts import GraphPart
from gradhooks.backends.tensorflow.passages import find_passages
from gradhooks.backends.tensorflow.precision import native_precision, open_float64
from gradhooks.backends.tensorflow.randomness import fix_draws
from gradhooks.backends.tensorflow.recording import (
    CompiledStep,
    EagerStep,
    copy_storage,
    divide_gradient,
    generator_state,
    is_variable,
    run_train_step,
    runs_eagerly,
    select_scalars,
    storage_of,
    sum_gradients,
)
from gradhooks.backends.tensorflow.repairs import repair_operations
from gradhooks.backends.tensorflow.replicas import count_devices, is_chief, replica_context
from gradhooks.backends.tensorflow.sources import intercept_sources
from gradhooks.backends.tensorflow.stand_ins import make_stand_in
from gradhooks.backends.tensorflow.step_operations import find_step_operations
from gradhooks.backends.tensorflow.tensor_statistics import (
    add_direction,
    differentiate_scaled,
    insert_identity,
    is_float_tensor,
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
    make_ragged,
    reassemble,
    repeat_rows,
    snapshot,
    to_tensor,
)

# In the groups of the protocol.
__all__ = [  # noqa: RUF022
    # Tensors.
    "disassemble",
    "flatten",
    "from_pairs",
    "is_constant",
    "is_ragged",
    "is_symbolic",
    "make_ragged",
    "reassemble",
    "repeat_rows",
    "snapshot",
    "to_pairs",
    "to_tensor",
    # The compiled loss and its gradients.
    "GradientProgram",
    "GraphPart",
    "LossProgram",
    "Tape",
    "differentiate",
    "evaluate",
    "fill_missing_gradients",
    "make_stand_in",
    # What a trace does.
    "find_narrow_operations",
    "find_nondeterministic_operations",
    "find_passages",
    "find_step_operations",
    "find_writes",
    # A trace at float64.
    "call_with_xla",
    "cast",
    "intercept_casts",
    "intercept_sources",
    "native_precision",
    "open_float64",
    "repair_operations",
    "widen_mixed_operands",
    # Random numbers, and functions of the user's.
    "copy_functions",
    "fix_draws",
    "inline_functions",
    # Values inside a trace.
    "differentiate_scaled",
    "add_direction",
    "insert_identity",
    "is_float_tensor",
    "is_watchable",
    "name_operations",
    "summarize",
    # The compiled train step.
    "CompiledStep",
    "EagerStep",
    "copy_storage",
    "divide_gradient",
    "find_written_handles",
    "generator_state",
    "handle_id",
    "handle_ids",
    "is_variable",
    "run_train_step",
    "runs_eagerly",
    "select_scalars",
    "storage_of",
    "sum_gradients",
    # Data, devices and memory.
    "copy_dataset",
    "count_devices",
    "is_chief",
    "is_out_of_memory",
    "replica_context",
    "trim_memory",
]
