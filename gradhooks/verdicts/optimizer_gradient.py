"""The gradient that the optimizer receives, and what rounding explains in it.

It is a whole vector at training precision, and so is the analytic gradient in
float64. A difference that the precision explains is not an error. A second point
close by separates rounding from errors: only an error is the same there.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import PerVariable, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.verdicts import roundoff
from gradhooks.verdicts.replication import Error, Vote, is_same_error

# Below this many roundoffs of the typical gradient entry, an entry is noise whatever its own size.
# A free choice: large enough that sums of unlike gradients do not fail, and far below anything
# that changes a training step.
_FLOOR = 64.0
# Fraction of zeros, in half precision, from which a difference is called underflow. A free choice:
# it names the reason of a failure and decides about none that has fewer zeros.
_ZEROS = 0.02
# Entries that underflow are smaller than this. Derived: half of the smallest float16, 2**-25, in a
# sum of 1024 of them.
_LARGEST_LOST = 1024 * 2.0**-25

# The gradient as it was recorded: float32 or float64, shape (P,).
Recorded: TypeAlias = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class OptimizerGradient:
    """One recorded gradient beside the analytic one.

    Args:
        layout: The `Layout`.
        analytic: float64, shape (P,). Gradient of the total loss, float64.
        values: float32 or float64, shape (P,). What the optimizer received,
            unscaled.
        is_connected: bool, shape (V,). Whether a gradient came for the variable.
        is_skipped: Whether loss scaling leaves out a step that is not finite.
    """

    layout: Layout
    analytic: Vector
    values: Recorded
    is_connected: NDArray[np.bool_]
    is_skipped: bool = False

    # Needed again for every variable, and as long as the model: computed once.

    @functools.cached_property
    def norms(self) -> NDArray[np.float64]:
        """float64, shape (2, V): norms of both gradients per variable, the analytic one first."""
        analytic_norms = self.layout.norms(self.analytic)
        received_norms = self.layout.norms(self.values)
        return np.array([analytic_norms, received_norms])

    @functools.cached_property
    def distances(self) -> PerVariable:
        """float64, shape (V,): norm of the difference for each variable."""
        return self.layout.norms(self.values - self.analytic)

    @functools.cached_property
    def is_finite(self) -> NDArray[np.bool_]:
        """bool, shape (V,): whether every recorded entry of a variable is finite."""
        is_finite = np.zeros(len(self.layout), bool)
        for variable in range(len(self.layout)):
            part = self.values[self.layout.slice(variable)]
            is_finite[variable] = np.isfinite(part).all()
        return is_finite

    @functools.cached_property
    def typical_entry(self) -> float:
        """Root mean square of the analytic gradient."""
        return _root_mean_square(self.analytic)


def noise_floor(gradient: Recorded, dtype: str) -> float:
    """Returns the root mean square of the rounding noise in an entry of a gradient.

    Args:
        gradient: float, shape (P,).
        dtype: Name of the dtype that training computes in.
    """
    return _FLOOR * roundoff.rounding(dtype) * _root_mean_square(gradient)


def find_disagreeing(recorded: OptimizerGradient, dtype: str) -> list[int]:
    """Returns the numbers of the variables that differ by more than the precision explains."""
    disagreeing: list[int] = []
    for variable in range(len(recorded.layout)):
        if not is_close(recorded, variable, dtype):
            disagreeing.append(variable)
    return disagreeing


def find_beyond_rounding(
    recorded: OptimizerGradient,
    nearby: Vector,
    variables: Sequence[int],
    dtype: str,
) -> list[int]:
    """Returns those of some variables whose error is larger than rounding makes it.

    Rounding acts like a change of the parameters by one roundoff. Where that
    changes the gradient itself, training cannot be expected to compute it any
    better (the condition number of the problem, as in N. J. Higham, "Accuracy
    and Stability of Numerical Algorithms", section 1.6).

    Args:
        recorded: The `OptimizerGradient` at the point.
        nearby: float64, shape (P,). The analytic gradient one roundoff away.
        variables: Numbers of variables.
        dtype: Name of the dtype that training computes in.
    """
    # The gradient nearby may not be finite.
    with np.errstate(invalid="ignore", over="ignore"):
        expected = roundoff.CONDITION * recorded.layout.norms(nearby - recorded.analytic)
        is_small = np.isfinite(expected) & (recorded.distances <= expected)
    is_rounding = recorded.is_connected & is_small
    beyond: list[int] = []
    for variable in variables:
        if not is_rounding[variable] or underflows(recorded, variable, dtype):
            beyond.append(variable)
    return beyond


def vote(
    recorded: OptimizerGradient,
    replicate: OptimizerGradient,
    variable: int,
    dtype: str,
) -> Vote:
    """Returns what the recorded gradient of a variable at a perturbed point says of its error.

    Args:
        recorded: The `OptimizerGradient` at the point.
        replicate: The `OptimizerGradient` at the perturbed point.
        variable: Number of the variable.
        dtype: Name of the dtype that training computes in.
    """
    # The gradient may not be finite at the perturbed point.
    with np.errstate(invalid="ignore", over="ignore"):
        # Which entries underflow depends on the gradient at each of the points.
        if underflows(recorded, variable, dtype) and underflows(replicate, variable, dtype):
            return Vote.REPEATED
        if is_same_error(_error(recorded, variable), _error(replicate, variable)):
            return Vote.REPEATED
    return Vote.CONTRADICTED


def _root_mean_square(entries: Recorded) -> float:
    if not len(entries):
        return 0.0
    mean_square = np.mean(np.square(entries))
    return math.sqrt(mean_square)


def _entry_floor(recorded: OptimizerGradient, dtype: str) -> float:
    return _FLOOR * roundoff.rounding(dtype) * recorded.typical_entry


def variable_floor(
    recorded: OptimizerGradient,
    variable: int,
    dtype: str,
) -> float:
    """The norm of the rounding noise in the gradient of a variable."""
    size = max(int(recorded.layout.sizes[variable]), 1)
    return _entry_floor(recorded, dtype) * math.sqrt(size)


def is_close(
    recorded: OptimizerGradient,
    variable: int,
    dtype: str,
) -> bool:
    """Whether the gradients of a variable differ by no more than the precision explains."""
    if not recorded.is_finite[variable]:
        return False
    distance = recorded.distances[variable]
    if distance <= roundoff.tolerance(dtype) * recorded.norms[:, variable].sum():
        return True
    is_noise = distance <= variable_floor(recorded, variable, dtype)
    return bool(is_noise) and not underflows(recorded, variable, dtype)


def underflows(
    recorded: OptimizerGradient,
    variable: int,
    dtype: str,
) -> bool:
    """Whether entries became zero that float16 cannot hold, and float32 can.

    Underflow is no noise, however small the variable's gradient beside the
    others': it loses the same entries at every point, and an optimizer such as
    Adam scales up what is left.
    """
    if dtype != "float16" or not recorded.is_connected[variable]:
        return False
    part = recorded.layout.slice(variable)
    analytic = recorded.analytic[part]
    is_kept_by_float32 = np.abs(analytic) > _entry_floor(recorded, "float32")
    is_lost = is_kept_by_float32 & (recorded.values[part] == 0)
    if np.sum(is_lost) <= _ZEROS * len(analytic):
        return False
    largest = _LARGEST_LOST
    rest = analytic[is_kept_by_float32 & ~is_lost]
    if len(rest):
        largest = min(largest, _root_mean_square(rest))
    return _root_mean_square(analytic[is_lost]) <= largest


def _error(recorded: OptimizerGradient, variable: int) -> Error:
    part = recorded.layout.slice(variable)
    reference = recorded.analytic[part]
    return Error(recorded.values[part] - reference, reference)
