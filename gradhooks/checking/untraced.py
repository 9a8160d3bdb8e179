"""Withdraws failures of variables that training differentiates rightly.

There the check's own trace is at fault: it could not follow the variable into
the code that uses it.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.checking.optimizer import OptimizerResult
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, GradientComparison
from gradhooks.verdicts import untraced
from gradhooks.verdicts.optimizer_gradient import Recorded
from gradhooks.verdicts.untraced import Accuracy

_Some = TypeVar("_Some", DerivativeComparison, GradientComparison)


def withdraw_untraced(
    context: CheckContext,
    comparisons: list[DerivativeComparison],
    directions: Sequence[Measurement],
    result: OptimizerResult,
) -> tuple[list[DerivativeComparison], OptimizerResult, tuple[str, ...]]:
    """Withdraws the failures that only the check's own trace supports.

    Args:
        context: The `CheckContext`, with the oracle.
        comparisons: All numeric comparisons.
        directions: The `Measurement`s of directions among them.
        result: The `OptimizerResult`.

    Returns:
        The comparisons, the result, and notes.
    """
    layout = context.layout
    compiled = {layout.paths[v] for v in context.oracle.bypassed}
    right, are_directions_right = _find_right(context, comparisons, directions, result, compiled)
    paths = right | compiled
    if not paths:
        return comparisons, result, ()

    has_other_failures = any(
        c.verdict is Verdict.FAIL and c.index is not None and c.path not in paths
        for c in comparisons
    )
    # If only variables under `paths` fail, directions fail through them.
    is_any_direction = not has_other_failures and (are_directions_right or bool(compiled))
    remaining: list[DerivativeComparison] = []
    for c in comparisons:
        is_withdrawn = c.path in paths or (is_any_direction and c.index is None)
        remaining.append(_withdraw(c) if is_withdrawn else c)
    result = _withdraw_from_result(result, paths)
    # A trace that gives NaN has followed the variable; the notes of the optimizer gradient say so.
    followed = {c.path for c in comparisons if not math.isfinite(c.analytic)}
    notes = tuple(_describe(sorted(right - compiled - followed), sorted(compiled)))
    return remaining, result, notes


def _withdraw_from_result(result: OptimizerResult, paths: set[str]) -> OptimizerResult:
    comparisons: list[GradientComparison] = []
    failed: set[str] = set()
    for c in result.comparisons:
        if c.path in paths:
            c = _withdraw(c)
        if c.verdict is Verdict.FAIL:
            failed.add(c.path)
        comparisons.append(c)
    diagnoses = tuple(d for d in result.diagnoses if d.path in failed)
    cause = result.cause if failed else ""
    return dataclasses.replace(
        result, comparisons=tuple(comparisons), diagnoses=diagnoses, cause=cause
    )


def _find_right(
    context: CheckContext,
    comparisons: Sequence[DerivativeComparison],
    directions: Sequence[Measurement],
    result: OptimizerResult,
    compiled: set[str],
) -> tuple[set[str], bool]:
    """Returns the paths that training differentiates rightly, and whether directions are right."""
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL]
    gradient = result.gradient
    # What training differentiates rightly may be other code than a loss given beside the model.
    if not failed or gradient is None or context.settings.has_own_loss:
        return set(), False
    accuracy = untraced.estimate_accuracy(gradient, context.oracle.training_dtype)
    is_right: dict[str, bool] = {}
    for c in failed:
        if c.index is not None and c.term == "total":
            value = float(gradient[c.position])
            is_wrong_trace = untraced.is_trace_wrong_at(c, value, accuracy)
            is_right[c.path] = is_right.get(c.path, True) and is_wrong_trace
    right = {path for path in is_right if is_right[path]}
    are_directions_right = all(
        _is_right_along(m, gradient, accuracy) for m in directions if m.has_failed
    )
    others = {c.path for c in failed if c.index is not None} - right - compiled
    if not others and are_directions_right:
        # The directions show that the optimizer gradient is right where it differs from the trace.
        right |= {c.path for c in result.comparisons if c.verdict is Verdict.FAIL}
    return right, are_directions_right


def _is_right_along(
    measured: Measurement,
    gradient: Recorded,
    accuracy: Accuracy,
) -> bool:
    """Whether training differentiates rightly along a direction."""
    with np.errstate(invalid="ignore", over="ignore"):
        slope = measured.probe.slope_of(np.asarray(gradient, np.float64))
    return untraced.is_trace_wrong_along(
        slope, measured.analytic[0], measured.estimates[0], measured.magnitude[0], accuracy
    )


def _withdraw(comparison: _Some) -> _Some:
    if comparison.verdict is not Verdict.FAIL:
        return comparison
    if isinstance(comparison, GradientComparison):
        is_finite = math.isfinite(comparison.analytic_norm)
    else:
        is_finite = math.isfinite(comparison.analytic)
    reason = Reason.UNTRACED if is_finite else Reason.NON_FINITE_GRADIENT
    return dataclasses.replace(comparison, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _describe(right: Sequence[str], compiled: Sequence[str]) -> Iterator[str]:
    if right:
        yield (
            f"the optimizer gradient of {', '.join(right)} agrees with the numeric derivative; the "
            "check's own trace does not, for it could not follow these variables into the code "
            "that uses them"
        )
    if compiled:
        yield (
            f"{', '.join(compiled)}: read by code that was compiled before the check (a concrete "
            "function?), in which the check cannot replace their values; not checked"
        )
