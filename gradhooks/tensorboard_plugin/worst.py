"""The worst of the terms, for each cell of the matrix and for each check.

A failure counts more than any difference, and a difference by how far it lies
above the threshold of its term: rounding in float32, a million times that of
float64, would else hide every other term.
"""

import math
from typing import TypeAlias

import numpy as np

from gradhooks.tensorboard_plugin.cells import CODES, LOWEST, UNKNOWN
from gradhooks.tensorboard_plugin.reduction import Column

WORST = "worst"
# Term -> [(step, relative difference), ...].
Curves: TypeAlias = dict[str, list[tuple[int, float]]]
# Codes and levels of the cells, of one shape.
Cells: TypeAlias = tuple[np.ndarray, np.ndarray]
_FAIL = CODES.index("fail")


def choose_cells(cells: list[Cells], thresholds: np.ndarray) -> Cells:
    """Returns of every cell the term that is worst.

    Args:
        cells: For each of T terms codes and levels, uint8 of shape (V, C).
        thresholds: float64, shape (T, C); NaN where it is not known.
    """
    codes = np.stack([of_term[0] for of_term in cells])
    levels = np.stack([of_term[1] for of_term in cells])
    decades = LOWEST * (1 - levels / (UNKNOWN - 1))
    excess = decades - np.log10(thresholds)[:, None, :]
    # A difference that is not known is above nothing.
    excess[(levels == UNKNOWN) | ~np.isfinite(excess)] = 2 * LOWEST
    # More than any two of them differ, so that the code decides first.
    widest = 4 * abs(LOWEST)
    chosen = np.argmax(codes * widest + excess, axis=0)[None]
    return (
        np.take_along_axis(codes, chosen, axis=0)[0],
        np.take_along_axis(levels, chosen, axis=0)[0],
    )


def choose_curves(headline: Curves, columns: list[Column]) -> tuple[Curves, Curves]:
    """Returns the relative differences of the checks, and thresholds, of the worst terms.

    A term that failed at a check comes first. If the difference of the whole check does not
    show that, because one small variable failed or one is not finite, it is that of the
    variables that failed; NaN where it is not finite.

    Args:
        headline: Term -> [(step, relative difference), ...], also of checks whose
            reports are not kept.
        columns: The kept checks, by step.

    Returns:
        Two curves, each with `WORST` as its only term.
    """
    kept = [column for column in columns if column.thresholds]
    if not kept:
        return {WORST: []}, {WORST: []}
    by_step: dict[int, list[tuple[str, float]]] = {}
    for term, points in headline.items():
        for step, value in points:
            by_step.setdefault(step, []).append((term, value))
    differences, limits = [], []
    at = 0
    for step in sorted(by_step):
        # Of a check that is not kept, the one before tells the thresholds.
        while at + 1 < len(kept) and kept[at + 1].step <= step:
            at += 1
        column = kept[at]
        failed = _failed_terms(column) if column.step == step else set()
        ranks = {}
        for term, value in by_step[step]:
            ranks[term in failed, _excess(value, column.thresholds[term])] = (term, value)
        term, value = ranks[max(ranks)]
        if term in failed and not value > column.thresholds[term]:
            value = _largest_failed(column, term)
        differences.append((step, value))
        limits.append((step, column.thresholds[term]))
    return {WORST: differences}, {WORST: limits}


def _failed_terms(column: Column) -> set[str]:
    failed = set()
    for term, (_, codes, _) in column.cells.items():
        if (codes == _FAIL).any():
            failed.add(term)
    return failed


def _largest_failed(column: Column, term: str) -> float:
    """The largest relative difference of the variables that failed; NaN if one is not known."""
    _, codes, levels = column.cells[term]
    highest = int(levels[codes == _FAIL].max())
    return math.nan if highest == UNKNOWN else 10 ** (LOWEST * (1 - highest / (UNKNOWN - 1)))


def _excess(value: float, threshold: float) -> float:
    """By what factor a difference is above a threshold; 0 where that is not known."""
    factor = value / threshold if threshold > 0 else 0.0
    return factor if math.isfinite(factor) else 0.0
