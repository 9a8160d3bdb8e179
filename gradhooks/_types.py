"""Names for the types that signatures use."""

import os
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

# float64, shape (P,): one number per parameter.
Vector: TypeAlias = NDArray[np.float64]
# float64, shape (V,): one number per variable.
PerVariable: TypeAlias = NDArray[np.float64]
# float64, shape (T,): one number per loss term.
PerTerm: TypeAlias = NDArray[np.float64]
# float64, shape (N, T): one row per evaluation, one column per loss term.
Losses: TypeAlias = NDArray[np.float64]
# float64 or bool of any other shape, which the docstring names.
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

# The words that arguments take; `validation` refuses any other.
OnFailure: TypeAlias = Literal["warn", "raise", "stop", "ignore"]
PrecisionName: TypeAlias = Literal["auto", "float64", "model"]
# 0, 1 and 2, and bools, as Keras takes them.
Verbosity: TypeAlias = Literal["auto"] | int
MismatchKind: TypeAlias = Literal["blocked", "mismatch", "untrained"]


class HasLogDir(Protocol):
    """Something that has a log directory, such as `keras.callbacks.TensorBoard`."""

    log_dir: Any


# A directory on this machine.
Directory: TypeAlias = str | os.PathLike[str]
# Where logs go: a directory, or whatever says it when training begins.
LogDirectory: TypeAlias = str | os.PathLike[str] | HasLogDir

# When to check: "epoch", an int of batches, or a function of the step.
Frequency: TypeAlias = Literal["epoch"] | int | Callable[[int], bool]
# `loss_fn(model, x, y, sample_weight, training) -> scalar tensor`. Keras has no types for these.
LossFunction: TypeAlias = Callable[[Any, Any, Any, Any, bool], Any]
