"""The columns of a run as the one JSON object that the page draws."""

import base64
from typing import Any

import numpy as np

from gradhooks.reports.records import EVERYTHING
from gradhooks.tensorboard_plugin.answers import group_answers
from gradhooks.tensorboard_plugin.cells import ALL_TERMS, LOWEST, UNKNOWN
from gradhooks.tensorboard_plugin.fits import describe_fits, drop_repeated, group_fits
from gradhooks.tensorboard_plugin.reduction import Column
from gradhooks.tensorboard_plugin.worst import (
    WORST,
    Cells,
    Curves,
    choose_cells,
    choose_curves,
)

# Cells per term, beyond which the oldest checks are left out; a free choice, some megabytes a page.
MOST_CELLS = 1_000_000
# In the order of the switch on the page.
SHOWN_TERMS = (WORST, *ALL_TERMS)


def build_overview(columns: list[Column], headline: Curves | None = None) -> dict[str, Any]:
    """Returns what the page draws of a run.

    Args:
        columns: The `Column`s of the run.
        headline: Term -> [(step, value), ...] from the scalars of the run, which
            hold more checks than TensorBoard keeps of the reports; None takes them
            from the columns.

    Returns:
        dict for JSON. `terms` maps a term to two base64 texts of uint8 in C
        order, shape (variables, checks): indices into `CODES`, and levels.
    """
    fits = group_fits(columns)
    columns = drop_repeated(fits)
    variables, written = in_model_order(columns), len(columns)
    columns = columns[-max(1, MOST_CELLS // max(1, len(variables))) :]
    if not headline or not any(headline.values()):
        headline = headline_of(columns)

    cells, thresholds = {}, {}
    for term in ALL_TERMS:
        cells[term] = _pack(columns, term, variables)
        thresholds[term] = [(c.step, c.thresholds[term]) for c in columns if c.thresholds]
    limits = [[c.thresholds.get(term, np.nan) for c in columns] for term in ALL_TERMS]
    cells[WORST] = choose_cells(list(cells.values()), np.array(limits))
    worst, worst_thresholds = choose_curves(headline, columns)

    failures, facts = [], {}
    for column in reversed(columns):
        if column.failure:
            failures.append(column.failure)
        facts = facts or column.facts  # of the latest check that has any

    return {
        "checks": [_check(c) for c in columns],
        "variables": variables,
        "terms": {term: _encode(*cells[term]) for term in SHOWN_TERMS},
        "scale": {"lowest": LOWEST, "unknown": UNKNOWN},
        "headline": {**worst, **headline},
        "thresholds": {**worst_thresholds, **thresholds},
        "answers": group_answers([(c.step, c.verdict, c.answer) for c in columns]),
        "failures": failures,
        "facts": facts,
        "checks_written": written,
        "fits": describe_fits(fits, columns),
    }


def in_model_order(columns: list[Column]) -> list[str]:
    """Returns the labels of all variables by position, the direction over all of them first."""
    positions = {}
    for each in columns:
        for name, position in each.positions.items():
            positions.setdefault(name, position)
    return sorted(positions, key=lambda name: (name != EVERYTHING, positions[name]))


def headline_of(columns: list[Column]) -> Curves:
    """Returns the relative differences of the checks, term -> [(step, value), ...]."""
    headline: Curves = {term: [] for term in ALL_TERMS}
    for column in columns:
        for term, points in headline.items():
            difference = column.differences.get(term, np.nan)
            if np.isfinite(difference):
                points.append((column.step, difference))
    return headline


def _check(column: Column) -> dict[str, Any]:
    return {
        "step": column.step,
        "wall_time": column.wall_time,
        "verdict": column.verdict,
        "reason": column.reason,
    }


def _pack(columns: list[Column], term: str, variables: list[str]) -> Cells:
    rows = {name: row for row, name in enumerate(variables)}
    codes = np.zeros((len(rows), len(columns)), np.uint8)
    levels = np.full_like(codes, UNKNOWN)
    for number, each in enumerate(columns):
        labels, column_codes, column_levels = each.cells.get(term, ((), (), ()))
        where = [rows[name] for name in labels]
        codes[where, number] = column_codes
        levels[where, number] = column_levels
    return codes, levels


def _encode(codes: np.ndarray, levels: np.ndarray) -> dict[str, str]:
    return {"codes": _base64(codes), "levels": _base64(levels)}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
