"""Whether training differentiates rightly what the check's own trace does not.

The measured derivative decides: the trace is wrong where the optimizer gradient
agrees with it, and the analytic gradient does not.
"""

import dataclasses
import math

from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.reports.reasons import Reason
from gradhooks.reports.records import DerivativeComparison
from gradhooks.verdicts import optimizer_gradient, roundoff
from gradhooks.verdicts.optimizer_gradient import Recorded

# A blocked gradient is measured over a long distance, on which the slope itself changes by up to
# this fraction. A free choice: it separates a gradient of the right size from none at all.
_SLOPE_CHANGE = 0.3


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How far two derivatives may differ through the precision of training.

    Args:
        tolerance: Relative difference.
        floor: Rounding noise of an entry of the gradient, in loss per parameter
            unit.
    """

    tolerance: float
    floor: float

    def covers(
        self,
        one: float,
        other: float,
        error: float,
        floor: float = 0.0,
    ) -> bool:
        """Whether two derivatives agree; numbers that are not finite agree with nothing.

        Args:
            one: A derivative.
            other: Another one, same unit.
            error: Error bar of one of them.
            floor: Rounding noise of a direction's derivative.
        """
        if not math.isfinite(one) or not math.isfinite(other):
            return False
        size = self.tolerance * (abs(one) + abs(other))
        return abs(one - other) <= error + max(size, floor, self.floor)


def estimate_accuracy(gradient: Recorded, dtype: str) -> Accuracy:
    """Returns the `Accuracy` of an optimizer gradient.

    Args:
        gradient: float, shape (P,).
        dtype: Name of the dtype that training computes in.
    """
    floor = optimizer_gradient.noise_floor(gradient, dtype)
    return Accuracy(roundoff.tolerance(dtype), floor)


def is_trace_wrong_at(
    comparison: DerivativeComparison,
    value: float,
    accuracy: Accuracy,
) -> bool:
    """Whether the trace of the check is wrong at a parameter.

    Args:
        comparison: The comparison of the parameter.
        value: The parameter's entry of the optimizer gradient.
        accuracy: The `Accuracy`.
    """
    error = comparison.error
    if comparison.reason is Reason.BLOCKED:
        error += _SLOPE_CHANGE * abs(comparison.numeric)
    if not accuracy.covers(value, comparison.numeric, error):
        return False
    return not accuracy.covers(value, comparison.analytic, 0.0)


def is_trace_wrong_along(
    slope: float,
    analytic: float,
    estimate: DerivativeEstimate,
    magnitude: float,
    accuracy: Accuracy,
) -> bool:
    """Whether the trace of the check is wrong along a direction.

    Args:
        slope: The derivative that the optimizer gradient implies.
        analytic: The derivative that the trace implies.
        estimate: The `DerivativeEstimate`.
        magnitude: Size of the derivative if nothing cancelled.
        accuracy: The `Accuracy`.
    """
    floor = accuracy.tolerance * magnitude
    if not accuracy.covers(slope, estimate.slope, estimate.error, floor):
        return False
    return not accuracy.covers(slope, analytic, 0.0, floor)
