"""TensorFlow: compile the loss along lines, differentiate it, copy to the host."""

from gradhooks.backends.tensorflow.casts import cast, intercept_casts, widen_mixtures, with_xla
from gradhooks.backends.tensorflow.compiled import writes_of
from gradhooks.backends.tensorflow.datasets import dataset_copy
from gradhooks.backends.tensorflow.evaluation import Losses
from gradhooks.backends.tensorflow.functions import copy_functions, inline_functions
from gradhooks.backends.tensorflow.gradients import GradientProgram, Tape, gradient
from gradhooks.backends.tensorflow.graphs import chance, narrow_operations, writes
from gradhooks.backends.tensorflow.pairs import from_pairs, to_pairs
from gradhooks.backends.tensorflow.parameters import flatten, trim_memory, without_gaps
from gradhooks.backends.tensorflow.randomness import fix_draws
from gradhooks.backends.tensorflow.replicas import as_replica, local_devices
from gradhooks.backends.tensorflow.sources import intercept_sources
from gradhooks.backends.tensorflow.staircases import staircases
from gradhooks.backends.tensorflow.standins import stand_in
from gradhooks.backends.tensorflow.steps import (
    EagerStep,
    Step,
    add_slices,
    is_variable,
    scalars,
    shadow,
    state_of_generator,
)
from gradhooks.backends.tensorflow.tensors import (
    dense_parts,
    handle_id,
    handle_ids,
    is_constant,
    is_exhausted,
    is_ragged,
    is_symbolic,
    reassemble,
    snapshot,
    tensor,
    tile,
)
from gradhooks.backends.tensorflow.watching import (
    evaluate_calls,
    is_watchable,
    pass_on,
    slopes,
    summary,
)

__all__ = [
    "EagerStep",
    "GradientProgram",
    "Losses",
    "Step",
    "Tape",
    "add_slices",
    "as_replica",
    "cast",
    "chance",
    "copy_functions",
    "dataset_copy",
    "dense_parts",
    "evaluate_calls",
    "fix_draws",
    "flatten",
    "from_pairs",
    "gradient",
    "handle_id",
    "handle_ids",
    "inline_functions",
    "intercept_casts",
    "intercept_sources",
    "is_constant",
    "is_exhausted",
    "is_ragged",
    "is_symbolic",
    "is_variable",
    "is_watchable",
    "local_devices",
    "narrow_operations",
    "pass_on",
    "reassemble",
    "scalars",
    "shadow",
    "slopes",
    "snapshot",
    "staircases",
    "stand_in",
    "state_of_generator",
    "summary",
    "tensor",
    "tile",
    "to_pairs",
    "trim_memory",
    "widen_mixtures",
    "with_xla",
    "without_gaps",
    "writes",
    "writes_of",
]
