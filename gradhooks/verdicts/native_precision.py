"""Whether native precision explains that training computes another loss or gradient."""

import numpy as np

from gradhooks._types import Vector
from gradhooks.numerics import departure
from gradhooks.reports.reasons import Reason
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import roundoff
from gradhooks.verdicts.optimizer_gradient import Recorded

# Two evaluations of one loss at one precision differ by less than this fraction of the effect of
# that precision. A free choice: the effect is the same in both, up to the order of sums.
_SAME = 0.1
# Fraction of a variable's lost entries that an evaluation at native precision must lose too. A free
# choice: most of them.
_SHARED = 0.5


def loss_gap(
    loss: float,
    scale: float,
    wide: float,
) -> float:
    """Returns the gap between the loss of a step and that in float64.

    Args:
        loss: The loss of the step, before or after it was multiplied by `scale`.
        scale: The loss scale.
        wide: The loss in float64.
    """
    return min(abs(loss - wide), abs(loss / scale - wide))


def loss_tolerance(
    loss: float,
    wide: float,
    dtype: str,
) -> float:
    """Returns the gap between two losses that training in a dtype explains."""
    return roundoff.tolerance(dtype) * max(abs(loss), abs(wide))


def is_rounding(gap: float, change: float) -> bool:
    """Whether a gap is rounding, given by how much roundoff in the parameters changes the loss."""
    return gap <= roundoff.CONDITION * change


def is_same_loss(
    loss: float,
    native: float,
    wide: float,
    gap: float,
    dtype: str,
) -> bool:
    """Whether the loss of a step is the one of the check at native precision.

    Args:
        loss: The loss of the step.
        native: The loss of the check, evaluated at native precision.
        wide: The loss of the check in float64.
        gap: The `loss_gap`.
        dtype: Name of the dtype that training computes in.
    """
    allowed = max(_SAME * gap, loss_tolerance(loss, wide, dtype))
    return bool(abs(native - loss) <= allowed)


def explain_gradient(
    comparison: GradientComparison,
    analytic: Vector,
    values: Recorded,
    native: Recorded,
) -> Reason:
    """Returns the reason of an optimizer gradient that is another one than the analytic gradient.

    Args:
        comparison: The comparison of the variable.
        analytic: float64, shape (K,). Gradient of the variable in float64.
        values: float, shape (K,). What the optimizer received.
        native: float, shape (K,). The gradient of the check at native precision.

    Returns:
        `UNDERFLOW` or `LOST_PRECISION` where native precision explains it, else the
        reason of the comparison.
    """
    is_lost = (analytic != 0) & (values == 0)
    if comparison.zeros > departure.LOST and np.mean(native[is_lost] == 0) >= _SHARED:
        return Reason.UNDERFLOW
    if np.linalg.norm(native - values) <= _SAME * comparison.distance:
        return Reason.LOST_PRECISION
    return comparison.reason
