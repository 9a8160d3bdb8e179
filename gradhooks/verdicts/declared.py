"""Mismatches that are meant: declared by path pattern, or known; compared with what is measured."""

import dataclasses
import fnmatch
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from gradhooks.numerics.layout import Layout
from gradhooks.reports.excuses import Excuse
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import TRAINED, Comparison
from gradhooks.reports.text import list_names

# Comparisons of either kind, or of both.
_Some = TypeVar("_Some", bound=Comparison)

# Pairs (path pattern as in `fnmatch`, kind of `KINDS`).
Declarations: TypeAlias = Sequence[tuple[str, str]]

KINDS = ("blocked", "mismatch", "untrained")
# Reasons that a declaration of a kind covers. Nothing can be decided, either, where an operation
# that is known to approximate moves in steps.
_COVERED = {
    "blocked": (Reason.BLOCKED,),
    "mismatch": (Reason.BLOCKED, Reason.MISMATCH, Reason.UNTRAINED),
    "untrained": (Reason.UNTRAINED,),
    "known": (
        Reason.BLOCKED,
        Reason.MISMATCH,
        Reason.UNTRAINED,
        Reason.KINK,
        Reason.NOISE,
    ),
}
_EXCUSED = (Reason.DECLARED, Reason.KNOWN)
# The kind that is about the training step alone: backpropagation is right there.
OF_STEP = "untrained"


def variables_under(layout: Layout, expect: Declarations) -> list[int]:
    """Returns the numbers of the variables whose gradient by backpropagation is declared wrong.

    Args:
        layout: The `Layout`.
        expect: Declared mismatches.
    """
    patterns = [pattern for pattern, kind in expect if kind != OF_STEP]
    numbers: list[int] = []
    for number, path in enumerate(layout.paths):
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            numbers.append(number)
    return numbers


def excused_variables(layout: Layout, excuses: Sequence[Excuse]) -> frozenset[int]:
    """Returns the numbers of the variables of which any layer excuses a term."""
    paths = {path for excuse in excuses for path, _ in excuse.covered}
    return frozenset(number for number, path in enumerate(layout.paths) if path in paths)


def apply(
    comparisons: Sequence[_Some], expect: Declarations, excuses: Sequence[Excuse] = ()
) -> list[_Some]:
    """Returns the comparisons with declared and known mismatches marked as such.

    Where a declaration is out of date, the comparisons under it that pass become
    failures. It is out of date if, of the comparisons under its pattern, some
    could be decided and all of these pass. What Keras and TensorFlow approximate
    may be exact at times, and is never out of date.

    Args:
        comparisons: The measured comparisons of a check.
        expect: Declared mismatches.
        excuses: What layers excuse.
    """
    result = list(comparisons)
    for pattern, kind in expect:
        layers = [excuse for excuse in excuses if excuse.pattern == pattern]
        kind_of = _kind_under(pattern, kind, layers)
        verdicts = {c.verdict for c in result if kind_of(c)}
        decided = verdicts - {Verdict.INCONCLUSIVE}
        is_outdated = kind != OF_STEP and decided == {Verdict.PASS}
        result = _apply_one(result, kind_of, Reason.DECLARED, is_outdated)
    return _mark_known(result, excuses)


def mark_declared(
    comparisons: Sequence[_Some], expect: Declarations, excuses: Sequence[Excuse] = ()
) -> list[_Some]:
    """Returns the comparisons with declared and known mismatches marked, out of date or not.

    For the optimizer gradient: it agrees with backpropagation where that is
    wrong on purpose, and where a step has nothing to do at this point, such as
    clipping below its limit. Neither says anything about the declaration.

    Args:
        comparisons: The comparisons of the optimizer gradient.
        expect: Declared mismatches.
        excuses: What layers excuse.
    """
    result = list(comparisons)
    for pattern, kind in expect:
        result = _apply_one(result, _kind_under(pattern, kind, ()), Reason.DECLARED)
    return _mark_known(result, excuses)


def describe_idle(comparisons: Sequence[Comparison], expect: Declarations) -> list[str]:
    """Returns a sentence for every declared step that does nothing at this point.

    Args:
        comparisons: The comparisons of the optimizer gradient.
        expect: Declared mismatches.
    """
    sentences: list[str] = []
    for pattern, kind in expect:
        kind_of = _kind_under(pattern, kind, ())
        verdicts = {c.verdict for c in comparisons if kind_of(c)}
        if kind == OF_STEP and verdicts == {Verdict.PASS}:
            sentences.append(
                f"expect={{{pattern!r}: {kind!r}}} does nothing here: the optimizer receives the "
                "gradient of the loss for every variable under it. That is right for clipping "
                "below its limit; for a step that always changes the gradient, the declaration is "
                "out of date, or the step has stopped working"
            )
    return sentences


def mark_as_before(comparisons: Sequence[_Some], former: Sequence[Comparison]) -> list[_Some]:
    """Returns the comparisons with mismatches marked that layers excused before.

    Args:
        comparisons: Comparisons that were judged again.
        former: The same comparisons, as the check judged them.
    """
    reasons: dict[tuple[str, str], Reason] = {}
    for c in former:
        if c.reason in _EXCUSED:
            reasons.setdefault((c.path, c.term), c.reason)
    result: list[_Some] = []
    for c in comparisons:
        reason = reasons.get((c.path, c.term))
        if reason is None:
            result.append(c)
        else:
            result += _apply_one([c], lambda c: "known", reason)
    return result


def describe_excuses(comparisons: Sequence[Comparison], excuses: Sequence[Excuse]) -> list[str]:
    """Returns a sentence for layers that excuse something: what could not be checked.

    Args:
        comparisons: All comparisons of a check, with the excused ones marked.
        excuses: What layers excuse.
    """
    groups: dict[str, list[Excuse]] = {}
    for excuse in excuses:
        why = excuse.sentence or f"declared by expect={{{excuse.pattern!r}: {excuse.kind!r}}}"
        groups.setdefault(why, []).append(excuse)
    sentences: list[str] = []
    for why, group in groups.items():
        layers: dict[str, None] = {}
        measured: dict[str, None] = {}
        trained: dict[str, None] = {}
        for c in comparisons:
            holders = [e.layer for e in group if (c.path, c.term) in e.covered]
            if holders and c.reason in _EXCUSED:
                layers.update(dict.fromkeys(holders))
                (trained if c.term == TRAINED else measured)[c.path] = None
        if not layers:
            continue
        what = "what else may be wrong with the gradient of"
        if not measured:
            what = "what the optimizer receives for"
        paths = list_names(list(measured or trained))
        sentences.append(f"{list_names(list(layers))}: {why}; {what} {paths} could not be checked")
    return sentences


def _mark_known(comparisons: Sequence[_Some], excuses: Sequence[Excuse]) -> list[_Some]:
    """Returns the comparisons with known approximations marked."""
    result = list(comparisons)
    for excuse in excuses:
        if excuse.kind == "known":
            result = _apply_one(result, _kind_under("", "", [excuse]), Reason.KNOWN)
    return result


def _kind_under(
    pattern: str, kind: str, excuses: Sequence[Excuse]
) -> Callable[[Comparison], str | None]:
    """Returns a function from a comparison to the kind that is declared for it, or None."""

    def kind_of(comparison: Comparison) -> str | None:
        if fnmatch.fnmatchcase(comparison.path, pattern):
            return kind
        for excuse in excuses:
            found = excuse.covered.get((comparison.path, comparison.term))
            if found is not None:
                return found
        return None

    return kind_of


def _apply_one(
    comparisons: Sequence[_Some],
    kind_of: Callable[[Comparison], str | None],
    reason: Reason,
    is_outdated: bool = False,
) -> list[_Some]:
    result: list[_Some] = []
    for c in comparisons:
        kind = kind_of(c)
        if kind is None:
            result.append(c)
        elif is_outdated and c.verdict is Verdict.PASS:
            failure = dataclasses.replace(c, verdict=Verdict.FAIL, reason=Reason.UNDECLARED_MATCH)
            result.append(failure)
        elif c.verdict is not Verdict.PASS and c.reason in _COVERED[kind]:
            excused = dataclasses.replace(c, verdict=Verdict.INCONCLUSIVE, reason=reason)
            result.append(excused)
        else:
            result.append(c)
    return result
