"""A report in one line."""

import pytest
from hypothesis import given

from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.reports.report import CheckReport
from tests.arbitrary import REPORTS

# One line of a wide terminal for a usual report, and three for any: what is long is cut.
USUAL, LONGEST = 120, 400


def compared(verdict=Verdict.PASS, reason=Reason.AGREES):
    return DerivativeComparison("d/w", (0,), "total", 1.0, 1.0, 0.0, 1e-4, 0.0, verdict, reason)


PASSED = compared()
FAILED = compared(Verdict.FAIL, Reason.MISMATCH)
OPEN = compared(Verdict.INCONCLUSIVE, Reason.KINK)
LAYER = Culprit("layer", "net/swish", None, (), "net.py:12", "the backward pass is wrong")
LOSS = Culprit("loss", "", None, (), "", "the loss is wrong")


@pytest.mark.parametrize(
    ("verdict", "reason", "fields", "expected"),
    [
        (
            Verdict.PASS,
            Reason.AGREES,
            {"comparisons": (PASSED,)},
            "<CheckReport PASS (agrees) at step 7, gradcheck: 1 comparison>",
        ),
        (
            Verdict.FAIL,
            Reason.MISMATCH,
            {"comparisons": (PASSED, FAILED, OPEN), "culprit": LAYER},
            "<CheckReport FAIL (mismatch) at step 7, gradcheck: 3 comparisons, 1 failed, "
            "1 undecided, error made in net/swish>",
        ),
        (
            Verdict.FAIL,
            Reason.MISMATCH,
            {"comparisons": (FAILED,), "culprit": LOSS},
            "<CheckReport FAIL (mismatch) at step 7, gradcheck: 1 comparison, 1 failed, "
            "error made in loss>",
        ),
        (
            Verdict.INCONCLUSIVE,
            Reason.ERROR,
            {"error": "ValueError: a\nb", "name": "train"},
            "<CheckReport INCONCLUSIVE (error) at step 7, train: no comparisons, ValueError: a>",
        ),
    ],
)
def test_repr_is_one_line(verdict, reason, fields, expected):
    assert repr(CheckReport(7, verdict, reason, {}, **fields)) == expected


def test_a_list_of_reports_is_readable():
    reports = [CheckReport(k, Verdict.PASS, Reason.AGREES, {}, 96 * (PASSED,)) for k in range(3)]
    assert repr(reports) == (
        "[<CheckReport PASS (agrees) at step 0, gradcheck: 96 comparisons>, "
        "<CheckReport PASS (agrees) at step 1, gradcheck: 96 comparisons>, "
        "<CheckReport PASS (agrees) at step 2, gradcheck: 96 comparisons>]"
    )


def test_long_names_are_cut():
    long = "block/" * 500
    culprit = Culprit("layer", long, None, (), "", "")
    fields = {"comparisons": (FAILED,), "culprit": culprit, "error": long, "name": long}
    text = repr(CheckReport(7, Verdict.FAIL, Reason.MISMATCH, {}, **fields))
    assert len(text) < LONGEST
    assert text.count("...") == 3
    assert len(repr(CheckReport(7, Verdict.PASS, Reason.AGREES, {}, (PASSED,)))) < USUAL


@given(REPORTS)
def test_repr_of_any_report_is_one_printable_line(report):
    text = repr(report)
    assert text.isprintable()
    assert len(text) < LONGEST
    assert text.startswith(f"<CheckReport {report.verdict} ({report.reason}) at step {report.step}")
