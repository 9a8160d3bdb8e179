"""JAX's side of the seam: the members of `gradhooks.backends.base.Backend`."""

from gradhooks.backends.common.memory import trim_memory
from gradhooks.backends.jax.casts import (
    call_with_xla,
    cast,
    from_pairs,
    intercept_casts,
    intercept_sources,
    widen_mixed_operands,
)
from gradhooks.backends.jax.containment import (
    copy_dataset,
    copy_functions,
    count_devices,
    fix_draws,
    inline_functions,
    is_chief,
    replica_context,
)
from gradhooks.backends.jax.execution import evaluate
from gradhooks.backends.jax.gradients import GradientProgram
from gradhooks.backends.jax.inspection import (
    find_narrow_operations,
    find_nondeterministic_operations,
    find_step_operations,
    find_writes,
)
from gradhooks.backends.jax.losses import LossProgram
from gradhooks.backends.jax.parts import GraphPart
from gradhooks.backends.jax.passages import find_passages
from gradhooks.backends.jax.precision import native_precision, open_float64, repair_operations
from gradhooks.backends.jax.recording import (
    CompiledStep,
    EagerStep,
    copy_storage,
    divide_gradient,
    find_written_handles,
    generator_state,
    handle_id,
    handle_ids,
    is_variable,
    make_stand_in,
    run_train_step,
    runs_eagerly,
    select_scalars,
    storage_of,
    sum_gradients,
)
from gradhooks.backends.jax.statistics import (
    add_direction,
    insert_identity,
    is_float_tensor,
    is_watchable,
    name_operations,
    summarize,
)
from gradhooks.backends.jax.tensors import (
    disassemble,
    fill_missing_gradients,
    flatten,
    is_constant,
    is_out_of_memory,
    is_ragged,
    is_symbolic,
    make_ragged,
    reassemble,
    repeat_rows,
    snapshot,
    to_pairs,
    to_tensor,
)
from gradhooks.backends.jax.tracing import Tape, differentiate, differentiate_scaled

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
