"""The model of a failed check as rows, one for each call of a layer, with the gradient there.

Nothing is said of a place that was not measured.
"""

import collections
import dataclasses
import json
import math
import re
from typing import Any

from gradhooks.reports.actions import advice
from gradhooks.reports.answer import list_evidence_of_place
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.readings import TapReading
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TRAINED, Comparison
from gradhooks.reports.report import CheckReport
from gradhooks.tensorboard_plugin.parsing import UnreadableError, clip, parse_fields

# Rows of one answer, and lines of evidence and of advice; free choices, to keep the page of a huge
# model quick.
MOST_ROWS, _MOST_LINES = 2000, 12
# What Keras calls the model that a `Sequential` makes of itself; no user knows it.
_INNER = re.compile(r"functional(_\d+)?")
NOT_MEASURED = "not measured"


@dataclasses.dataclass
class Row:
    """One call of a layer.

    Args:
        path: Path of the layer.
        call: Which call it is, from 0; None for a loss.
        depth: In how many other calls it is made.
        entering: The reading before it.
        leaving: The readings behind it: one for each output of the model, until they become
            those before the losses.
        is_place: Whether the error is made here.
        calls: How many calls are made in it, without those within these.
    """

    path: str
    call: int | None
    depth: int
    entering: TapReading | None = None
    leaving: list[TapReading] = dataclasses.field(default_factory=list)
    is_place: bool = False
    calls: int = 0


def describe_layers(stored: str) -> dict[str, Any]:
    """Returns the rows of a stored report, its evidence and what to do, as a dict for JSON.

    Args:
        stored: JSON text of a `CheckReport`.

    Raises:
        UnreadableError: If the text is no report.
    """
    try:
        report = CheckReport.from_json(json.dumps(parse_fields(stored)))
        rows = [] if report.culprit is None else build_rows(report.culprit)
        weights = read_weights(rows, report.comparisons)
        names = _names(rows)
        shown = []
        for row, name in list(zip(rows, names, strict=True))[:MOST_ROWS]:
            shown.append(_row(row, name, weights.get(row.path)))
        evidence = [clip(line, 2000) for line in list_evidence_of_place(report)[:_MOST_LINES]]
        lines = [clip(line, 2000) for line in advice(report)[:_MOST_LINES]]
    except UnreadableError:
        raise
    except Exception as cause:
        raise UnreadableError("the JSON does not have the fields of a report") from cause
    left_out = max(0, len(rows) - MOST_ROWS)
    return {"rows": shown, "left_out": left_out, "evidence": evidence, "advice": lines}


def build_rows(found: Culprit) -> list[Row]:
    """Returns the calls in forward order, and the loss of every output of the model at last.

    Args:
        found: Where the error is made, with its taps.
    """
    rows: list[Row] = []
    open_rows: list[Row] = []
    of_call: dict[tuple[str, int], Row] = {}
    for tap in found.taps:
        key = (tap.layer, tap.call)
        if not tap.is_output:
            if open_rows:
                open_rows[-1].calls += 1
            rows.append(Row(tap.layer, tap.call, len(open_rows), tap))
            open_rows.append(rows[-1])
            of_call[key] = rows[-1]
            continue
        row = of_call.get(key)
        if row is None:
            continue
        if not row.leaving:
            del open_rows[row.depth :]
        row.leaving.append(tap)
    for row in rows:
        is_call = found.call in (None, row.call)
        is_layer = found.kind in ("layer", "regularizer")
        row.is_place = is_layer and is_call and row.path == found.path
    kept = _without_inner(rows)
    return kept + _losses(kept, found)


def read_weights(rows: list[Row], comparisons: tuple[Comparison, ...]) -> dict[str, dict[str, Any]]:
    """Returns how the gradients of the weights are, by path of the innermost layer that has them.

    Args:
        rows: See `build_rows`.
        comparisons: The `Comparison`s of the report.
    """
    paths = {row.path for row in rows if row.call is not None}
    found: dict[str, list[Comparison]] = {}
    for c in comparisons:
        layer = c.path.rpartition("/")[0]
        while layer and layer not in paths:
            layer = layer.rpartition("/")[0]
        if layer and c.term != TRAINED and c.reason is not Reason.UNDECLARED_MATCH:
            found.setdefault(layer, []).append(c)
    return {layer: _weigh(compared) for layer, compared in found.items()}


def _weigh(compared: list[Comparison]) -> dict[str, Any]:
    """The worst of the comparisons of a layer's weights."""
    failed = [c for c in compared if c.verdict is Verdict.FAIL]
    passed = [c for c in compared if c.verdict is Verdict.PASS]
    if failed:
        return _reading("wrong", _largest(failed))
    if passed:
        return _reading("right", _largest(passed))
    declared = [c for c in compared if c.reason in (Reason.DECLARED, Reason.KNOWN)]
    if declared:
        return _reading("declared", _largest(declared))
    is_zero = all(c.reason is Reason.VACUOUS for c in compared)
    return _reading("zero" if is_zero else "undecided", None)


def _largest(compared: list[Comparison]) -> float:
    """The largest relative difference; infinite if one is not finite."""
    sizes = [c.relative_difference for c in compared]
    return max(size if math.isfinite(size) else math.inf for size in sizes)


def _without_inner(rows: list[Row]) -> list[Row]:
    """Leaves out the model that a `Sequential` makes of itself, the only call in it."""
    kept: list[Row] = []
    hidden: list[int] = []
    outer: Row | None = None
    for row in rows:
        hidden = [depth for depth in hidden if depth < row.depth]
        if outer is not None and _is_inner(outer, row):
            hidden.append(row.depth)
            if outer.entering is not None and row.entering is not None:
                kept[-1].entering = _known_of(outer.entering, row.entering)
            if len(outer.leaving) == len(row.leaving) == 1:
                kept[-1].leaving = [_known_of(outer.leaving[0], row.leaving[0])]
        else:
            kept.append(dataclasses.replace(row, depth=row.depth - len(hidden)))
        outer = row
    return kept


def _is_inner(outer: Row, row: Row) -> bool:
    """Whether a row is the inner model of the `Sequential` of the row before."""
    name = row.path.removeprefix(f"{outer.path}/")
    is_only = outer.calls == 1 and row.depth == outer.depth + 1 and row.calls > 0
    return is_only and not row.is_place and name != row.path and bool(_INNER.fullmatch(name))


def _known_of(outer: TapReading, inner: TapReading) -> TapReading:
    """Of two readings of one tensor the one that was measured."""
    return inner if outer.word == NOT_MEASURED else outer


def _losses(rows: list[Row], found: Culprit) -> list[Row]:
    """The loss behind every output of the model, which the gradient comes from."""
    outermost = [row for row in rows if row.depth == 0]
    if not rows:
        return []
    taps: list[TapReading] = []
    if len(outermost) == 1:
        taps, outermost[0].leaving = outermost[0].leaving, []
    losses = []
    for number, tap in enumerate(taps or [None]):
        name = f"loss of output {number + 1}" if len(taps) > 1 else "loss"
        losses.append(Row(name, None, 0, tap))
    if found.kind == "loss":
        wrong = [loss for loss in losses if loss.entering and loss.entering.word == "wrong"]
        for loss in wrong[:1] or losses[:1]:
            loss.is_place, loss.path = True, f"loss {found.path}"
    return losses


def _names(rows: list[Row]) -> list[str]:
    """What the rows are called: without the path of the call around them."""
    calls = collections.Counter(row.path for row in rows)
    names, around = [], []
    for row in rows:
        del around[row.depth :]
        prefix = f"{around[-1]}/" if around else ""
        name = row.path.removeprefix(prefix)
        if calls[row.path] > 1 and row.call is not None:
            name = f"{name}, call {row.call + 1}"
        names.append(clip(name, 200))
        around.append(row.path)
    return names


def _row(row: Row, name: str, weights: dict[str, Any] | None) -> dict[str, Any]:
    is_loss = row.call is None
    return {
        "name": name,
        "path": clip(row.path, 200),
        "depth": row.depth,
        "is_place": row.is_place,
        "is_loss": is_loss,
        "has_rows": row.calls > 0,
        "entering": _tap(row.entering),
        "weights": weights,
        "leaving": _tap(row.leaving[0]) if row.leaving else None,
    }


def _tap(tap: TapReading | None) -> dict[str, Any]:
    if tap is None:
        return _reading(NOT_MEASURED, None)
    told = _reading(tap.word, tap.relative_difference)
    return {**told, "analytic": tap.analytic, "numeric": tap.numeric}


def _reading(word: str, difference: float | None) -> dict[str, Any]:
    return {"word": word, "difference": difference}
