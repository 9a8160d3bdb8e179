"""The gradient that the optimizer receives beside the analytic one, for every parameter.

Both are whole vectors, one in float64, one at training precision. A difference
that the precision explains is not an error. Rounding and error are told apart by
a second point close by: there rounding is another, and an error is the same.
"""

import dataclasses
import functools
import math
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import PerVariable, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import repeated_error, roundoff

# Below this many roundoffs of the typical gradient entry, an entry is noise whatever its own size.
# A free choice: large enough that sums of unlike gradients do not fail, and far below anything
# that changes a training step.
_FLOOR = 64.0
# An error of up to this many times the effect of one roundoff on the gradient is rounding; a larger
# one is examined at other points. Calibrated by `python -m tools.calibrate_rounding float32`: 44
# times and more where a train step is wrong.
_CONDITION = 10.0
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
        return np.array([self.layout.norms(self.analytic), self.layout.norms(self.values)])

    @functools.cached_property
    def distances(self) -> PerVariable:
        """float64, shape (V,): norm of the difference for each variable."""
        return self.layout.norms(self.values - self.analytic)

    @functools.cached_property
    def is_finite(self) -> NDArray[np.bool_]:
        """bool, shape (V,): whether every recorded entry of a variable is finite."""
        parts = (self.values[self.layout.slice(v)] for v in range(len(self.layout)))
        return np.array([np.isfinite(part).all() for part in parts], bool)

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
    return [v for v in range(len(recorded.layout)) if not _is_close(recorded, v, dtype)]


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
        expected = _CONDITION * recorded.layout.norms(nearby - recorded.analytic)
        is_small = np.isfinite(expected) & (recorded.distances <= expected)
    is_rounding = recorded.is_connected & is_small
    return [v for v in variables if not is_rounding[v] or _underflows(recorded, v, dtype)]


def find_replicated(
    recorded: OptimizerGradient,
    replicate: OptimizerGradient,
    variables: Sequence[int],
    dtype: str,
) -> list[int]:
    """Returns those of some variables whose error at a nudged point is the same error.

    Args:
        recorded: The `OptimizerGradient` at the point.
        replicate: The `OptimizerGradient` at a nudged point.
        variables: Numbers of variables.
        dtype: Name of the dtype that training computes in.
    """
    failures: list[int] = []
    # The gradient may not be finite at the nudged point.
    with np.errstate(invalid="ignore", over="ignore"):
        for v in variables:
            # Which entries underflow depends on the gradient at each of the points.
            underflows = _underflows(recorded, v, dtype) and _underflows(replicate, v, dtype)
            if underflows or _is_same_error(recorded, replicate, v):
                failures.append(v)
    return failures


def compare(
    recorded: OptimizerGradient,
    noisy: Collection[int],
    dtype: str,
) -> list[GradientComparison]:
    """Returns one `GradientComparison` per variable.

    Args:
        recorded: The `OptimizerGradient`.
        noisy: Numbers of the variables whose error is not the same at nudged
            points.
        dtype: Name of the dtype that training computes in.
    """
    # A gradient that is not finite is judged, so NumPy need not warn of it.
    with np.errstate(invalid="ignore", over="ignore"):
        return [_comparison(recorded, v in noisy, v, dtype) for v in range(len(recorded.layout))]


def overall_difference(
    recorded: OptimizerGradient, comparisons: Sequence[GradientComparison]
) -> float:
    """Returns the relative difference over all variables that could be decided.

    Args:
        recorded: The `OptimizerGradient`.
        comparisons: One per variable, as of `compare`.
    """
    decided = [k for k, c in enumerate(comparisons) if c.verdict is not Verdict.INCONCLUSIVE]
    norms = np.linalg.norm(recorded.norms[:, decided], axis=1)
    distance = np.linalg.norm(recorded.distances[decided])
    return _relative((float(norms[0]), float(norms[1])), float(distance))


def _root_mean_square(entries: Recorded) -> float:
    return math.sqrt(np.mean(np.square(entries))) if len(entries) else 0.0


def _entry_floor(recorded: OptimizerGradient, dtype: str) -> float:
    return _FLOOR * roundoff.rounding(dtype) * recorded.typical_entry


def _variable_floor(
    recorded: OptimizerGradient,
    variable: int,
    dtype: str,
) -> float:
    """The norm of the rounding noise in the gradient of a variable."""
    size = max(int(recorded.layout.sizes[variable]), 1)
    return _entry_floor(recorded, dtype) * math.sqrt(size)


def _is_close(
    recorded: OptimizerGradient,
    variable: int,
    dtype: str,
) -> bool:
    if not recorded.is_finite[variable]:
        return False
    distance = recorded.distances[variable]
    if distance <= roundoff.tolerance(dtype) * recorded.norms[:, variable].sum():
        return True
    is_noise = distance <= _variable_floor(recorded, variable, dtype)
    return bool(is_noise) and not _underflows(recorded, variable, dtype)


def _underflows(
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


def _is_same_error(
    recorded: OptimizerGradient,
    replicate: OptimizerGradient,
    variable: int,
) -> bool:
    part = recorded.layout.slice(variable)
    gradients = recorded.analytic[part], replicate.analytic[part]
    errors = recorded.values[part] - gradients[0], replicate.values[part] - gradients[1]
    return repeated_error.is_same_error(errors, gradients)


def _comparison(
    recorded: OptimizerGradient,
    is_noisy: bool,
    variable: int,
    dtype: str,
) -> GradientComparison:
    layout = recorded.layout
    part = layout.slice(variable)
    analytic, values = recorded.analytic[part], recorded.values[part]
    norms = float(recorded.norms[0, variable]), float(recorded.norms[1, variable])
    distance = float(recorded.distances[variable])
    noise = _variable_floor(recorded, variable, dtype)
    explained = roundoff.tolerance(dtype) * sum(norms)

    verdict, reason = _judge(recorded, is_noisy, variable, dtype)
    is_alike = min(norms) > 0 and distance <= explained
    if verdict is Verdict.PASS and max(norms) <= noise and not is_alike:
        # Both are below the noise of the other variables' gradients.
        verdict, reason = Verdict.INCONCLUSIVE, Reason.VACUOUS

    product = float(analytic @ values)
    square = norms[0] ** 2
    is_nonzero = analytic != 0
    is_lost = np.equal(values[is_nonzero], 0)
    zeros = float(np.mean(is_lost)) if len(is_lost) else 0.0
    return GradientComparison(
        layout.paths[variable],
        analytic_norm=norms[0],
        received_norm=norms[1],
        distance=distance,
        relative_difference=_relative(norms, distance),
        verdict=verdict,
        reason=reason,
        allowed=float(max(explained, noise)),
        rounding=noise,
        position=part.start,
        cosine=product / (norms[0] * norms[1]) if all(norms) else math.nan,
        ratio=product / square if square else math.nan,
        zeros=zeros,
        dtype=dtype,
    )


def _relative(norms: tuple[float, float], distance: float) -> float:
    """The relative difference of two vectors with known norms; NaN if those are not finite."""
    if not math.isfinite(sum(norms)):
        return math.nan
    return distance / sum(norms) if any(norms) else 0.0


def _judge(
    recorded: OptimizerGradient,
    is_noisy: bool,
    variable: int,
    dtype: str,
) -> tuple[Verdict, Reason]:
    is_analytic_finite = np.isfinite(recorded.analytic[recorded.layout.slice(variable)]).all()
    if not recorded.is_finite[variable]:
        if is_analytic_finite and recorded.is_skipped:
            # The gradient overflowed, and loss scaling tries again with a smaller scale.
            return Verdict.INCONCLUSIVE, Reason.NOT_RECORDED
        return Verdict.FAIL, Reason.NON_FINITE_GRADIENT
    if _is_close(recorded, variable, dtype):
        return Verdict.PASS, Reason.AGREES
    if is_noisy:
        # A number that is not finite in float64 has no digits that rounding could lose.
        reason = Reason.ROUNDING if is_analytic_finite else Reason.NON_FINITE_GRADIENT
        return Verdict.INCONCLUSIVE, reason
    is_underflow = _underflows(recorded, variable, dtype)
    return Verdict.FAIL, Reason.UNDERFLOW if is_underflow else Reason.UNTRAINED
