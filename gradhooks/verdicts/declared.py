"""Mismatches that are meant: declared by path pattern, then held against what is measured."""

import dataclasses
import fnmatch

from gradhooks.reports.reasons import Reason, Verdict

KINDS = ("blocked", "mismatch")
_EXCUSED = {
    "blocked": (Reason.BLOCKED,),
    "mismatch": (Reason.BLOCKED, Reason.MISMATCH, Reason.UNTRAINED),
}


def variables_under(layout, expect):
    """Returns the numbers of the variables that any pattern covers.

    Args:
        layout: The `Layout`.
        expect: Pairs (path pattern as in `fnmatch`, kind).
    """
    return [
        v
        for v, path in enumerate(layout.paths)
        if any(fnmatch.fnmatchcase(path, p) for p, _ in expect)
    ]


def apply(comparisons, expect):
    """Returns the comparisons with declared mismatches excused, and stale declarations turned into failures.

    A declaration is out of date when of all the variables under its pattern
    something could be decided and everything decided agrees.

    Args:
        comparisons: The `Comparison`s of a check.
        expect: Pairs (path pattern as in `fnmatch`, kind of `KINDS`).
    """
    for pattern, kind in expect:
        covered = [fnmatch.fnmatchcase(c.path, pattern) for c in comparisons]
        decided = [
            c
            for c, is_covered in zip(comparisons, covered, strict=True)
            if is_covered and _is_decided(c)
        ]
        is_stale = bool(decided) and all(c.verdict is Verdict.PASS for c in decided)
        comparisons = [
            _held_against(c, kind, is_stale) if is_covered else c
            for c, is_covered in zip(comparisons, covered, strict=True)
        ]
    return comparisons


def excuse(comparisons, expect):
    """Returns the comparisons with declared mismatches excused, whether or not the declarations still hold.

    For what the optimizer receives: it agrees with backpropagation where that
    is wrong on purpose, and says nothing about the declaration.
    """
    for pattern, kind in expect:
        comparisons = [
            _held_against(c, kind, False) if fnmatch.fnmatchcase(c.path, pattern) else c
            for c in comparisons
        ]
    return comparisons


def _is_decided(comparison):
    return comparison.verdict is not Verdict.INCONCLUSIVE


def _held_against(comparison, kind, is_stale):
    if is_stale and comparison.verdict is Verdict.PASS:
        return dataclasses.replace(comparison, verdict=Verdict.FAIL, reason=Reason.UNDECLARED_MATCH)
    if comparison.verdict is Verdict.FAIL and comparison.reason in _EXCUSED[kind]:
        return dataclasses.replace(comparison, verdict=Verdict.INCONCLUSIVE, reason=Reason.DECLARED)
    return comparison
