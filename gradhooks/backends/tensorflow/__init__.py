"""TensorFlow: compile the loss along lines, differentiate it, copy to the host."""

from gradhooks.backends.tensorflow.casts import cast, casts_intercepted, mixtures_widened, with_xla
from gradhooks.backends.tensorflow.compiled import written_by
from gradhooks.backends.tensorflow.datasets import dataset_copy
from gradhooks.backends.tensorflow.evaluation import Losses
from gradhooks.backends.tensorflow.functions import copied_functions, inlined_functions
from gradhooks.backends.tensorflow.gradients import Gradients, Tape, gradient
from gradhooks.backends.tensorflow.graphs import chance, narrow_operations, writes
from gradhooks.backends.tensorflow.pairs import paired, unpaired
from gradhooks.backends.tensorflow.parameters import flattened, trim_memory, without_gaps
from gradhooks.backends.tensorflow.randomness import fixed_draws
from gradhooks.backends.tensorflow.replicas import as_replica, local_devices
from gradhooks.backends.tensorflow.sources import sources_intercepted
from gradhooks.backends.tensorflow.staircases import staircases
from gradhooks.backends.tensorflow.standins import stand_in
from gradhooks.backends.tensorflow.steps import (
    EagerStep,
    Step,
    is_variable,
    scalars,
    shadow,
    state_of_generator,
    summed,
)
from gradhooks.backends.tensorflow.tensors import (
    dense_parts,
    handle_id,
    handle_ids,
    is_constant,
    is_exhausted,
    is_ragged,
    is_symbolic,
    put_together,
    snapshot,
    tensor,
    tiled,
)
from gradhooks.backends.tensorflow.watching import (
    evaluated,
    is_watchable,
    passed_on,
    slopes,
    summary,
)

__all__ = [
    "EagerStep",
    "Gradients",
    "Losses",
    "Step",
    "Tape",
    "as_replica",
    "cast",
    "casts_intercepted",
    "chance",
    "copied_functions",
    "dataset_copy",
    "dense_parts",
    "evaluated",
    "fixed_draws",
    "flattened",
    "gradient",
    "handle_id",
    "handle_ids",
    "inlined_functions",
    "is_constant",
    "is_exhausted",
    "is_ragged",
    "is_symbolic",
    "is_variable",
    "is_watchable",
    "local_devices",
    "mixtures_widened",
    "narrow_operations",
    "paired",
    "passed_on",
    "put_together",
    "scalars",
    "shadow",
    "slopes",
    "snapshot",
    "sources_intercepted",
    "staircases",
    "stand_in",
    "state_of_generator",
    "summary",
    "summed",
    "tensor",
    "tiled",
    "trim_memory",
    "unpaired",
    "with_xla",
    "without_gaps",
    "writes",
    "written_by",
]
