"""Declared mismatches: excused while they last, a failure once they are gone."""

import pytest

from gradhooks.numerics.layout import Layout
from gradhooks.reports.excuses import Excuse
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.verdicts import declared

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
AGREES = (PASS, Reason.AGREES)
MISMATCH, BLOCKED, BROKEN, OUTDATED = (
    (FAIL, r)
    for r in (Reason.MISMATCH, Reason.BLOCKED, Reason.NON_FINITE_GRADIENT, Reason.UNDECLARED_MATCH)
)
UNTRAINED = (FAIL, Reason.UNTRAINED)
DECLARED, VACUOUS, KINK = (
    (INCONCLUSIVE, r) for r in (Reason.DECLARED, Reason.VACUOUS, Reason.KINK)
)


def compared(judged, path="a/w"):
    return DerivativeComparison(path, (0,), "total", 1.0, 1.0, 0.0, 1e-5, 0.0, *judged)


def outcome(before, expect, path="a/w"):
    found = declared.apply([compared(judged, path) for judged in before], expect)
    return [(c.verdict, c.reason) for c in found]


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("mismatch", [MISMATCH, BLOCKED], [DECLARED, DECLARED]),
        ("blocked", [BLOCKED, BLOCKED], [DECLARED, DECLARED]),
        (
            "blocked",
            [MISMATCH, BLOCKED],
            [MISMATCH, DECLARED],
        ),  # a blocked gradient is zero, not wrong
        ("mismatch", [BROKEN], [BROKEN]),  # nobody means NaN
        ("blocked", [BROKEN], [BROKEN]),
        ("mismatch", [AGREES, AGREES], [OUTDATED, OUTDATED]),
        ("mismatch", [AGREES, MISMATCH], [AGREES, DECLARED]),  # it still holds for some
        ("mismatch", [AGREES, VACUOUS, KINK], [OUTDATED, VACUOUS, KINK]),
        ("mismatch", [VACUOUS, KINK], [VACUOUS, KINK]),  # nothing was decided
        ("untrained", [MISMATCH, BLOCKED], [MISMATCH, BLOCKED]),  # backpropagation is not meant
        ("untrained", [AGREES, AGREES], [AGREES, AGREES]),
        ("mismatch", [], []),
    ],
)
def test_what_a_declaration_makes_of_the_verdicts(kind, before, after):
    assert outcome(before, [("a/*", kind)]) == after


@pytest.mark.parametrize("judged", [AGREES, MISMATCH, BLOCKED, BROKEN, VACUOUS, KINK])
@pytest.mark.parametrize("kind", declared.KINDS)
def test_other_variables_are_left_alone(judged, kind):
    assert outcome([judged], [("b/*", kind)]) == [judged]


def test_without_declarations_nothing_changes():
    assert outcome([AGREES, MISMATCH, BLOCKED], []) == [AGREES, MISMATCH, BLOCKED]


def test_one_failing_variable_under_a_pattern_keeps_it_up_to_date():
    comparisons = [compared(AGREES, "a/w"), compared(MISMATCH, "a/b")]
    found = declared.apply(comparisons, [("a/*", "mismatch")])
    assert [c.reason for c in found] == [Reason.AGREES, Reason.DECLARED]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([UNTRAINED, AGREES], [DECLARED, AGREES]),
        ([AGREES, AGREES], [AGREES, AGREES]),  # clipping may have nothing to clip
        ([AGREES, VACUOUS], [AGREES, VACUOUS]),
        ([BROKEN, AGREES], [BROKEN, AGREES]),
    ],
)
def test_what_a_declared_step_makes_of_the_optimizer_gradient(before, after):
    comparisons = [compared(judged) for judged in before]
    found = declared.mark_declared(comparisons, [("a/*", "untrained")])
    assert [(c.verdict, c.reason) for c in found] == after
    notes = declared.describe_idle(found, [("a/*", "untrained"), ("b/*", "untrained")])
    assert len(notes) == (set(before) == {AGREES})
    assert all(note.startswith("expect={'a/*': 'untrained'} does nothing here") for note in notes)
    assert not declared.describe_idle(found, [("a/*", "mismatch")])


def test_a_declared_step_leaves_backpropagation_to_be_checked():
    layout = Layout(("a/w", "a/b"), ((2,), (2,)))
    assert declared.variables_under(layout, [("*", "untrained"), ("*/b", "blocked")]) == [1]


@pytest.mark.parametrize(
    ("pattern", "variables"),
    [("*", [0, 1, 2]), ("a/*", [0, 1]), ("*/w", [0, 2]), ("a/w", [0]), ("A/w", []), ("c", [])],
)
def test_patterns_cover_variables_by_path(pattern, variables):
    layout = Layout(("a/w", "a/b", "b/w"), ((2,), (2,), (2,)))
    assert declared.variables_under(layout, [(pattern, "mismatch")]) == variables


CUT = Excuse("net/cut", "blocked", {("a/w", "total"): "blocked"}, "*/cut")
ROUNDED = Excuse("net/low", "known", {("a/w", "total"): "known"}, "", "rounds (https://page)")
KNOWN = INCONCLUSIVE, Reason.KNOWN


@pytest.mark.parametrize(
    ("excuse", "before", "after"),
    [
        (CUT, BLOCKED, DECLARED),
        (CUT, MISMATCH, MISMATCH),  # declared as zero, not as another one
        (CUT, AGREES, OUTDATED),
        (ROUNDED, BLOCKED, KNOWN),
        (ROUNDED, MISMATCH, KNOWN),
        (ROUNDED, KINK, KNOWN),
        (ROUNDED, AGREES, AGREES),  # exact here, by chance
        (ROUNDED, VACUOUS, VACUOUS),
        (ROUNDED, BROKEN, BROKEN),
    ],
)
def test_what_a_layer_excuses(excuse, before, after):
    expect = [(excuse.pattern, excuse.kind)] if excuse.pattern else []
    inside, outside = compared(before), compared(MISMATCH, "b/w")
    found = declared.apply([inside, outside], expect, [excuse])
    assert [(c.verdict, c.reason) for c in found] == [after, MISMATCH]


def test_layers_with_one_cause_are_one_sentence():
    again = Excuse("net/high", "known", {("b/w", "total"): "known"}, "", ROUNDED.sentence)
    comparisons = [compared(KNOWN), compared(KNOWN, "b/w"), compared(AGREES, "c/w")]
    assert declared.describe_excuses(comparisons, [ROUNDED, again]) == [
        "net/low, net/high: rounds (https://page); what else may be wrong with the gradient of "
        "a/w, b/w could not be checked"
    ]
    assert declared.describe_excuses([compared(AGREES)], [ROUNDED]) == []


def test_what_was_excused_stays_excused_when_it_is_judged_again():
    former = [compared(KNOWN), compared(DECLARED, "b/w"), compared(AGREES, "c/w")]
    judged = [compared(MISMATCH, path) for path in ("a/w", "b/w", "c/w")]
    found = declared.mark_as_before(judged, former)
    assert [(c.verdict, c.reason) for c in found] == [KNOWN, DECLARED, MISMATCH]
