"""The cells of the matrix: a code and a level for each variable and term of one report.

A run may hold hundreds of reports of thousands of comparisons each. Making
records of all of them would take half a minute, so the fields that the matrix
needs are read from the JSON directly.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TERMS, TRAINED, GradientComparison
from gradhooks.reports.serialization import rename_old_fields
from gradhooks.tensorboard_plugin.parsing import parse_label, parse_number

# In order of severity: of several comparisons of one variable the most severe is shown.
CODES = ("unsampled", "vacuous", "pass", "declared", "inconclusive", "fail")
ALL_TERMS = (*TERMS, TRAINED)
# Levels 0 to 254 are log10 of the relative difference from -18 to 0. A byte per cell keeps a long
# run small; -18 lies below the smallest relative difference that float64 resolves.
LOWEST, UNKNOWN = -18.0, 255
_VACUOUS = CODES.index("vacuous")
_LEVELS = UNKNOWN - 1


class Entry(NamedTuple):
    """One comparison of a variable in a term.

    Args:
        code: Index into `CODES`.
        analytic: Derivative by backpropagation; of a whole gradient its norm.
        numeric: Numeric derivative; of a whole gradient the norm of what the
            optimizer received.
        gap: Distance of the two.
        allowed: Largest gap that passes.
        position: Flat index of the first parameter concerned.
    """

    code: int
    analytic: float
    numeric: float
    gap: float
    allowed: float
    position: int


# The comparisons of each variable in each term: (label, term) -> entries.
Groups: TypeAlias = dict[tuple[str, str], list[Entry]]


def compute_level(difference: float) -> int:
    """Returns a relative difference as a byte, `UNKNOWN` for NaN and infinities.

    Example:

    >>> compute_level(0.0), compute_level(1.0), compute_level(float("nan"))
    (0, 254, 255)
    """
    if not math.isfinite(difference) or difference < 0:
        return UNKNOWN
    decades = math.log10(max(difference, 10**LOWEST))
    share = min(1.0, 1.0 - decades / LOWEST)
    return round(share * _LEVELS)


def group_comparisons(comparisons: list[dict[str, Any]]) -> Groups:
    """Returns the comparisons of a stored report by label and term.

    Args:
        comparisons: The JSON objects of the comparisons.
    """
    groups: Groups = {}
    labels: dict[str, str] = {}
    for c in comparisons:
        path = c["path"]
        if path not in labels:
            labels[path] = parse_label(path)
        entry = _read_entry(c)
        groups.setdefault((labels[path], c["term"]), []).append(entry)
    return groups


def build_cells(groups: Groups, term: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns the cells of one term.

    Args:
        groups: See `group_comparisons`.
        term: Name of the term.

    Returns:
        (labels, codes, levels) of the V variables that were compared in it;
        codes and levels are uint8 of shape (V,).
    """
    labels, codes, levels = [], [], []
    for (name, of_term), entries in groups.items():
        if of_term != term:
            continue
        labels.append(name)
        codes.append(max(entry.code for entry in entries))
        levels.append(compute_level(_relative_difference(entries)))
    return labels, np.array(codes, np.uint8), np.array(levels, np.uint8)


def smallest_trained_threshold(groups: Groups) -> float:
    """Returns the smallest relative difference that the precision of training allowed a variable.

    NaN if no gradient with a norm above zero was compared.
    """
    fractions = []
    for (_, term), entries in groups.items():
        if term != TRAINED:
            continue
        for entry in entries:
            norms = entry.analytic + entry.numeric
            if norms > 0 and math.isfinite(entry.allowed / norms):
                fractions.append(entry.allowed / norms)
    return min(fractions, default=math.nan)


def _read_entry(comparison: dict[str, Any]) -> Entry:
    c = comparison
    if c["term"] == TRAINED:
        stored = rename_old_fields(GradientComparison, c)
        analytic = parse_number(stored["analytic_norm"])
        numeric = parse_number(stored["received_norm"])
        gap = parse_number(stored["distance"])
    else:
        analytic = parse_number(c["analytic"])
        numeric = parse_number(c["numeric"])
        gap = abs(analytic - numeric)
    code = _CODES_BY_NAME[c["verdict"], c["reason"]]
    allowed = parse_number(c["allowed"])
    return Entry(code, analytic, numeric, gap, allowed, int(c["position"]))


def _code(verdict: Verdict, reason: Reason) -> int:
    if reason is Reason.VACUOUS:
        return _VACUOUS
    if reason in (Reason.DECLARED, Reason.KNOWN):
        return CODES.index("declared")
    return CODES.index(verdict.value)


# A table by name, as a long run looks up a million of them.
_CODES_BY_NAME = {(v.name, r.name): _code(v, r) for v in Verdict for r in Reason}


def _relative_difference(entries: list[Entry]) -> float:
    """`||a - n|| / (||a|| + ||n||)` over the comparisons of a variable, without vacuous ones."""
    gaps, analytic, numeric = [], [], []
    for entry in entries:
        if entry.code != _VACUOUS:
            gaps.append(entry.gap)
            analytic.append(entry.analytic)
            numeric.append(entry.numeric)
    if not gaps:
        return math.nan

    if len(gaps) == 1:  # faster, and exact
        gap = gaps[0]
        size = abs(analytic[0]) + abs(numeric[0])
    else:
        gap = math.hypot(*gaps)
        size = math.hypot(*analytic) + math.hypot(*numeric)
    return gap / size if size > 0 else gap
