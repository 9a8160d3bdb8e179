"""Comparisons of the analytic derivative with the measured one, for each term of the loss."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast

from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import EVERYTHING, DerivativeComparison
from gradhooks.verdicts import judge

Term = Literal["total", "data", "penalty"]


def compare_terms(
    context: CheckContext, measurement: Measurement
) -> Iterator[DerivativeComparison]:
    """Yields one `DerivativeComparison` per term of the loss.

    Args:
        context: The `CheckContext`, with the oracle.
        measurement: The `Measurement` of a parameter or of a direction.
    """
    layout, probe = context.layout, measurement.probe
    variable, index = layout.locate(probe.start)
    is_local = probe.stop <= layout.slice(variable).stop
    path = layout.paths[variable] if is_local else EVERYTHING
    for t, term in enumerate(context.oracle.term_names):
        analytic, estimate = measurement.analytic[t], measurement.estimates[t]
        magnitude = measurement.magnitude[t]
        verdict, reason = measurement.judgements[t]
        allowed = judge.allowed_gap(analytic, estimate, context.threshold, magnitude)
        yield DerivativeComparison(
            path,
            index if probe.is_coordinate else None,
            cast(Term, term),
            analytic=float(analytic),
            numeric=float(estimate.slope),
            error=float(estimate.error),
            step_size=float(estimate.step_size),
            relative_difference=judge.relative_difference(analytic, estimate.slope),
            verdict=verdict,
            reason=reason,
            left=float(estimate.left),
            right=float(estimate.right),
            allowed=float(allowed),
            position=probe.start,
            magnitude=float(magnitude),
            is_kink=bool(estimate.is_kink),
            truncation=float(estimate.truncation),
            left_error=float(estimate.left_error),
            right_error=float(estimate.right_error),
            pooled=measurement.pooled,
        )


def overall_differences(
    term_names: Sequence[str], comparisons: Sequence[DerivativeComparison]
) -> dict[str, float]:
    """Returns the overall relative difference by term name.

    A loss without a penalty has one term, "total": "data" is then the same, and
    "penalty" is 0.

    Args:
        term_names: Names of the terms of the loss.
        comparisons: All comparisons with measured derivatives.
    """
    differences: dict[str, float] = {}
    for term in term_names:
        differences[term] = _overall_difference(comparisons, term)
    differences.setdefault("data", differences["total"])
    differences.setdefault("penalty", 0.0)
    return differences


def _overall_difference(comparisons: Sequence[DerivativeComparison], term: str) -> float:
    """The relative difference over the sampled parameters that could be decided.

    Each of `k` parameters of a pool has the whole difference `d` of the pool, where
    the differences of all are its parts: with random weights, the mean square of `d` is
    the sum of their squares, which `k` times `d / sqrt(k)` gives as well.
    """
    analytic: list[float] = []
    numeric: list[float] = []
    for c in comparisons:
        is_sampled = c.term == term and c.index is not None
        if is_sampled and c.verdict is not Verdict.INCONCLUSIVE:
            analytic.append(c.analytic)
            numeric.append(c.analytic + (c.numeric - c.analytic) / math.sqrt(c.pooled))
    return judge.relative_difference(analytic, numeric)
