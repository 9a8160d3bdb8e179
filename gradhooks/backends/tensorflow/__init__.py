"""TensorFlow: compile the loss along lines, differentiate it, copy to the host."""

from gradhooks.backends.tensorflow.casts import cast, casts_intercepted, with_xla
from gradhooks.backends.tensorflow.datasets import dataset_copy
from gradhooks.backends.tensorflow.evaluation import Losses
from gradhooks.backends.tensorflow.gradients import Gradients, gradient
from gradhooks.backends.tensorflow.graphs import narrow_casts, writes
from gradhooks.backends.tensorflow.parameters import flattened, trim_memory
from gradhooks.backends.tensorflow.steps import (
    Step,
    assign,
    is_raw_state,
    isolated_generator,
    shadow,
    summed,
)
from gradhooks.backends.tensorflow.tensors import (
    dense_parts,
    is_constant,
    is_exhausted,
    is_ragged,
    put_together,
    snapshot,
    tensor,
)

__all__ = [
    "Gradients",
    "Losses",
    "Step",
    "assign",
    "cast",
    "casts_intercepted",
    "dataset_copy",
    "dense_parts",
    "flattened",
    "gradient",
    "is_constant",
    "is_exhausted",
    "is_ragged",
    "is_raw_state",
    "isolated_generator",
    "narrow_casts",
    "put_together",
    "shadow",
    "snapshot",
    "summed",
    "tensor",
    "trim_memory",
    "with_xla",
    "writes",
]
