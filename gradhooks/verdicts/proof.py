"""What a check has proved: which variables a measurement confirms, and which remain undecided.

Agreement of two gradients that were both computed by backpropagation proves
neither of them, so the optimizer gradient has no part in any of this.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np

from gradhooks._types import Vector
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, Comparison, DerivativeComparison
from gradhooks.verdicts import roundoff


def zero_levels(gradients: Mapping[str, Vector], dtype: str) -> dict[str, float]:
    """Returns, per term, the size up to which an analytic entry may be a rounded zero.

    Args:
        gradients: Per term name, float64, shape (P,).
        dtype: Name of the float dtype in which the gradient was computed.

    Returns:
        Dict of floats by term name, in units of the gradient.
    """
    fraction = roundoff.zero_tolerance(dtype)
    levels: dict[str, float] = {}
    for term, gradient in gradients.items():
        levels[term] = fraction * _largest_finite(gradient)
    return levels


def _largest_finite(gradient: Vector) -> float:
    # Without vectors as large as the model, as long as all is finite.
    highest, lowest = np.max(gradient, initial=0.0), np.min(gradient, initial=0.0)
    if not (np.isfinite(highest) and np.isfinite(lowest)):
        finite = gradient[np.isfinite(gradient)]
        highest, lowest = np.max(finite, initial=0.0), np.min(finite, initial=0.0)
    return float(max(highest, -lowest))


def withdraw_false_zeros(
    comparisons: Sequence[DerivativeComparison], levels: Mapping[str, float]
) -> list[DerivativeComparison]:
    """Returns the comparisons, vacuous only where the analytic derivative is zero as well.

    An error bar wider than both derivatives hides a wrong one as well as a right
    one, so such a comparison is one of noise.

    Args:
        comparisons: The measured comparisons of a check.
        levels: The levels of `zero_levels`. The derivative along a direction is
            compared with the same level as that of a parameter.
    """
    result: list[DerivativeComparison] = []
    for c in comparisons:
        is_vacuous = c.reason is Reason.VACUOUS and c.term in levels
        if is_vacuous and abs(c.analytic) > levels[c.term]:
            c = dataclasses.replace(c, reason=Reason.NOISE)
        result.append(c)
    return result


def is_numeric(comparison: Comparison) -> TypeGuard[DerivativeComparison]:
    """Whether a comparison is of a measured derivative, and not of two gradients."""
    return isinstance(comparison, DerivativeComparison)


def paths_with_proof(comparisons: Sequence[Comparison]) -> set[str]:
    """Returns the paths of the variables that a passing measurement of the total loss confirms."""
    paths: set[str] = set()
    for c in comparisons:
        if _is_proof(c):
            paths.add(c.path)
    return paths


def positions_with_proof(comparisons: Sequence[Comparison]) -> set[int]:
    """Returns the flat indices of the parameters that passed.

    A direction along one variable counts as the first parameter of the variable.
    """
    positions: set[int] = set()
    for c in comparisons:
        if _is_proof(c) and c.path != EVERYTHING:
            positions.add(c.position)
    return positions


def paths_without_proof(comparisons: Sequence[Comparison]) -> list[str]:
    """Returns the paths of the variables that have a derivative, and no measurement that decides.

    Variables with a failure are not among them.
    """
    undecided: set[str] = set()
    decided = {EVERYTHING, *paths_with_proof(comparisons)}
    for c in comparisons:
        if c.verdict is Verdict.FAIL:
            decided.add(c.path)
        elif c.term == "total" and _is_undecided(c):
            undecided.add(c.path)
    return sorted(undecided - decided)


def paths_hidden_by_noise(comparisons: Sequence[Comparison]) -> list[str]:
    """Returns the `paths_without_proof` where noise hides a derivative of some size.

    A derivative below the float32 rounding of the largest one does not count:
    any sum with that one would round it away.
    """
    without_proof = set(paths_without_proof(comparisons))
    largest_by_path: dict[str, float] = {}
    noisy: set[str] = set()
    for c in comparisons:
        if not is_numeric(c) or c.term != "total":
            continue
        if c.path != EVERYTHING and math.isfinite(c.analytic):
            former = largest_by_path.get(c.path, 0.0)
            largest_by_path[c.path] = max(former, abs(c.analytic))
        if c.reason is Reason.NOISE and c.path in without_proof:
            noisy.add(c.path)

    largest = max(largest_by_path.values(), default=0.0)
    level = largest * roundoff.rounding("float32")
    hidden: list[str] = []
    for path in noisy:
        if largest_by_path.get(path, 0.0) > level:
            hidden.append(path)
    return sorted(hidden)


def find_undecided(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Returns the undecided comparisons that count.

    A derivative below its error bar does not if another measurement of its
    variable has passed.
    """
    confirmed = paths_with_proof(comparisons)
    result: list[Comparison] = []
    for c in comparisons:
        if not _is_undecided(c):
            continue
        if c.path in confirmed and _is_below_error(c):
            continue
        result.append(c)
    return result


def _is_below_error(comparison: Comparison) -> bool:
    """Whether both derivatives lie below the error bar."""
    if not is_numeric(comparison):
        return False
    larger = max(abs(comparison.analytic), abs(comparison.numeric))
    return larger <= comparison.error


def _is_proof(comparison: Comparison) -> bool:
    return comparison.verdict is Verdict.PASS and comparison.term == "total"


def _is_undecided(comparison: Comparison) -> bool:
    if comparison.verdict is not Verdict.INCONCLUSIVE:
        return False
    return comparison.reason not in (Reason.VACUOUS, Reason.DECLARED, Reason.KNOWN)
