"""Compares the optimizer gradient with the analytic one, variable by variable."""

import math
from collections.abc import Collection, Sequence

import numpy as np

from gradhooks.numerics import vectors
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import roundoff
from gradhooks.verdicts.optimizer_gradient import (
    OptimizerGradient,
    is_close,
    underflows,
    variable_floor,
)


def compare(
    recorded: OptimizerGradient,
    noisy: Collection[int],
    dtype: str,
) -> list[GradientComparison]:
    """Returns one `GradientComparison` per variable.

    Args:
        recorded: The `OptimizerGradient`.
        noisy: Numbers of the variables whose error is not the same at perturbed
            points.
        dtype: Name of the dtype that training computes in.
    """
    # A gradient that is not finite is judged, so NumPy need not warn of it.
    with np.errstate(invalid="ignore", over="ignore"):
        comparisons: list[GradientComparison] = []
        for variable in range(len(recorded.layout)):
            is_noisy = variable in noisy
            comparisons.append(_compare_variable(recorded, is_noisy, variable, dtype))
        return comparisons


def overall_difference(
    recorded: OptimizerGradient, comparisons: Sequence[GradientComparison]
) -> float:
    """Returns the relative difference over all variables that could be decided.

    Args:
        recorded: The `OptimizerGradient`.
        comparisons: One per variable, as of `compare`.
    """
    decided: list[int] = []
    for variable, c in enumerate(comparisons):
        if c.verdict is not Verdict.INCONCLUSIVE:
            decided.append(variable)
    norms = np.linalg.norm(recorded.norms[:, decided], axis=1)
    distance = np.linalg.norm(recorded.distances[decided])
    return _relative((float(norms[0]), float(norms[1])), float(distance))


def _compare_variable(
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
    noise = variable_floor(recorded, variable, dtype)
    explained = roundoff.tolerance(dtype) * sum(norms)

    verdict, reason = _judge(recorded, is_noisy, variable, dtype)
    is_alike = min(norms) > 0 and distance <= explained
    if verdict is Verdict.PASS and max(norms) <= noise and not is_alike:
        # Both are below the noise of the other variables' gradients.
        verdict, reason = Verdict.INCONCLUSIVE, Reason.VACUOUS

    product = vectors.dot(analytic, values)
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
    if is_close(recorded, variable, dtype):
        return Verdict.PASS, Reason.AGREES
    if is_noisy:
        # A number that is not finite in float64 has no digits that rounding could lose.
        reason = Reason.ROUNDING if is_analytic_finite else Reason.NON_FINITE_GRADIENT
        return Verdict.INCONCLUSIVE, reason
    is_underflow = underflows(recorded, variable, dtype)
    return Verdict.FAIL, Reason.UNDERFLOW if is_underflow else Reason.UNTRAINED
