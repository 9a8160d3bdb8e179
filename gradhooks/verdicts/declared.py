"""Mismatches that are meant: declared by path pattern, then compared with what is measured."""

import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Comparison

# Comparisons of either kind, or of both.
_Some = TypeVar("_Some", bound=Comparison)

# Pairs (path pattern as in `fnmatch`, kind of `KINDS`).
Declarations: TypeAlias = Sequence[tuple[str, str]]

KINDS = ("blocked", "mismatch")
# Reasons of a failure that a declaration of a kind covers.
_COVERED = {
    "blocked": (Reason.BLOCKED,),
    "mismatch": (Reason.BLOCKED, Reason.MISMATCH, Reason.UNTRAINED),
}


def variables_under(layout: Layout, expect: Declarations) -> list[int]:
    """Returns the numbers of the variables whose path any pattern matches.

    Args:
        layout: The `Layout`.
        expect: Declared mismatches.
    """
    numbers: list[int] = []
    for number, path in enumerate(layout.paths):
        if any(fnmatch.fnmatchcase(path, pattern) for pattern, _ in expect):
            numbers.append(number)
    return numbers


def apply(comparisons: Sequence[_Some], expect: Declarations) -> list[_Some]:
    """Returns the comparisons with declared mismatches marked as declared.

    Where a declaration is out of date, the comparisons under it that pass become
    failures. It is out of date if, of the comparisons under its pattern, some
    could be decided and all of these pass.

    Args:
        comparisons: The measured comparisons of a check.
        expect: Declared mismatches.
    """
    result = list(comparisons)
    for pattern, kind in expect:
        verdicts = {c.verdict for c in result if fnmatch.fnmatchcase(c.path, pattern)}
        decided = verdicts - {Verdict.INCONCLUSIVE}
        is_outdated = decided == {Verdict.PASS}
        result = _apply_one(result, pattern, kind, is_outdated)
    return result


def mark_declared(comparisons: Sequence[_Some], expect: Declarations) -> list[_Some]:
    """Returns the comparisons with declared mismatches marked, out of date or not.

    For the optimizer gradient: it agrees with backpropagation where that is
    wrong on purpose, which says nothing about the declaration.

    Args:
        comparisons: The comparisons of the optimizer gradient.
        expect: Declared mismatches.
    """
    result = list(comparisons)
    for pattern, kind in expect:
        result = _apply_one(result, pattern, kind, is_outdated=False)
    return result


def _apply_one(
    comparisons: Sequence[_Some],
    pattern: str,
    kind: str,
    is_outdated: bool,
) -> list[_Some]:
    result: list[_Some] = []
    for c in comparisons:
        if not fnmatch.fnmatchcase(c.path, pattern):
            result.append(c)
        elif is_outdated and c.verdict is Verdict.PASS:
            failure = dataclasses.replace(c, verdict=Verdict.FAIL, reason=Reason.UNDECLARED_MATCH)
            result.append(failure)
        elif c.verdict is Verdict.FAIL and c.reason in _COVERED[kind]:
            open_one = dataclasses.replace(c, verdict=Verdict.INCONCLUSIVE, reason=Reason.DECLARED)
            result.append(open_one)
        else:
            result.append(c)
    return result
