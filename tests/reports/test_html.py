"""What a notebook shows of a report: the words of `print(report)`, as HTML that is safe."""

import html.parser
import re

import pytest
from hypothesis import given

from gradhooks.reports.answer import describe_finding
from gradhooks.reports.html import COLUMNS, MOST_ROWS
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import (
    ACTIONS,
    circumstances,
    differences,
    headline,
    list_below,
    list_evidence,
    remarks,
)
from tests.arbitrary import REPORTS
from tests.reports.test_table import WRONG, comparison, failed, report

# Elements without an end, of those that are used.
VOID = {"wbr"}
HOSTILE = "<script>alert('x')</script>&amp;\"><img src=x onerror=alert(1)>\u202e\x1b[31m"


class Page(html.parser.HTMLParser):
    """The elements of a piece of HTML, and its words outside and inside of `details`."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.elements, self.attributes = [], [], []
        self.words, self.folded, self.style = [], [], []
        self.feed(text)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        if "style" in self.opened:
            self.style.append(data)
        elif "details" in self.opened:
            self.folded.append(data)
        else:
            self.words.append(data)

    def count(self, tag, **attributes):
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.elements)


def page(told):
    return Page(told._repr_html_())


def squeezed(lines):
    return re.sub(r"\s+", "", "".join(lines))


def printed(told):
    """The lines of `print(report)` without its table, which is folded."""
    above, below = [headline(told)], remarks(told)
    if told.verdict is Verdict.FAIL:
        above += [describe_finding(told), *list_evidence(told)]
        lines = list_below(told)
        below = lines[lines.index(ACTIONS) :]  # above it is what belongs to the table
        assert below[len(below) - len(remarks(told)) :] == remarks(told)
    return [*above, differences(told), *below, circumstances(told)]


def test_it_says_what_print_says():
    words = """
    FAIL (mismatch) at step 1200, gradcheck
    the place could not be told; the error was measured in dense/kernel: analytic = 0.5 * numeric: a
    factor 2 is missing (it lies there, or nearer to the loss)
    relative difference total 3.3e-01, data 3.3e-01, penalty 2.0e-10, trained 3.4e-01;
    threshold 1.0e-06
    What to do:
    mismatch: the analytic derivative is wrong: it differs from the numeric one by more than the
    error bar and the threshold allow, at several step sizes; look for a custom gradient, a
    hand-written layer or a loss on the path to this parameter
    If it is meant: expect={'model/encoder_block_11/self_attention/query_dense/kernel': 'mismatch'}
    Reproduce with the same weights and batch: gradhooks.check_gradients(model, x, y, samples=32,
    seed=0, step=1200, threshold=1e-06)
    found by: half 1 of the variables disagrees
    note: pool is float32
    note: sampled anew
    precision partial; native layers: pool; narrow operations: Cast_1, Cast_2, Cast_3 ... and 1
    more; noise 1.0e-16; coverage 3 of 14 variables; 32 of 1000 parameters; 32 samples; seed 0; 80
    evaluations; 2 probes replaced (kink); jitter 1.0e-09; 1.23 s
    """
    assert squeezed(page(WRONG).words) == squeezed(words)


@given(REPORTS)
def test_for_any_report_it_says_what_print_says_in_the_same_order(told):
    assert squeezed(page(told).words) == squeezed(printed(told))


def test_all_comparisons_are_folded_with_all_digits():
    wrong = failed(index=(3, 4), analytic=0.123456789012, allowed=2e-7)
    told = page(report(comparison("b"), wrong, verdict=Verdict.FAIL, reason=Reason.MISMATCH))
    cells = [word for word in told.folded if word.strip()]
    count = "2 comparisons, 1 failed"
    row = "FAIL dense/ kernel[3, 4] total 1.234567890e-01 1.000000000e+00 1e-09 8.8e-01 2.0e-07"
    end = "3.3e-01 mismatch PASS b[0]"
    text = " ".join([count, *COLUMNS, row, end])
    assert " ".join(cells).startswith(text)
    assert told.count("details") == told.count("summary") == 1
    assert not told.count("details", open="")


def test_a_report_without_comparisons_folds_nothing():
    assert not page(report()).count("details")
    assert not page(report()).count("table")


def test_of_many_comparisons_the_worst_are_shown():
    many = [comparison(f"v{k}") for k in range(MOST_ROWS)]
    told = report(*many, failed("last"), verdict=Verdict.FAIL, reason=Reason.MISMATCH)
    text = told._repr_html_()
    assert Page(text).count("th", scope="row") == MOST_ROWS
    assert "... and 1 more in report.comparisons" in text
    assert text.index("last[0]</th>") < text.index("v0[0]</th>")
    assert len(text) < 200_000


def test_the_table_is_accessible():
    told = page(WRONG)
    assert told.count("th", scope="col") == len(COLUMNS)
    assert told.count("th", scope="row") == len(WRONG.comparisons)
    assert told.count("section", **{"aria-label": "gradient check"}) == 1
    # No verdict is told by a colour alone.
    marks = [w for w in (*told.words, *told.folded) if w in {"FAIL", "PASS", "INCONCLUSIVE"}]
    assert marks == ["FAIL", "FAIL", "INCONCLUSIVE", "PASS", "PASS"]


def test_hostile_names_stay_words():
    told = report(
        failed(HOSTILE),
        comparison(HOSTILE),
        verdict=Verdict.FAIL,
        reason=Reason.MISMATCH,
        notes=(HOSTILE,),
        trail=(HOSTILE,),
        expect=((HOSTILE, "mismatch"),),
        error=HOSTILE,
        name=HOSTILE,
    )
    text = told._repr_html_()
    assert text.replace("\n", "").isprintable()
    found = Page(text)
    assert not found.count("script")
    assert not found.count("img")
    shown = "<script>alert('x')</script>&amp;\"><img src=x onerror=alert(1)>\\u202e\\x1b[31m"
    assert squeezed([shown]) in squeezed(found.words)
    assert squeezed([shown]) in squeezed(found.folded)


ALLOWED = {
    *("section", "style", "p", "strong", "ul", "li", "code", "details", "summary", "div", "table"),
    *("thead", "tbody", "tr", "th", "td", "wbr"),
}


@given(REPORTS)
def test_any_report_is_well_formed_and_asks_for_nothing(told):
    found = page(told)
    assert {tag for tag, _ in found.elements} <= ALLOWED
    attributes = {name for _, attrs in found.elements for name in attrs}
    assert attributes <= {"class", "scope", "aria-label", "role", "tabindex"}
    assert not re.search(r"url\(|@import|expression", "".join(found.style))


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_has_a_style(verdict):
    text = "".join(page(report(verdict=verdict)).style)
    assert f".gh-{verdict.value} {{ background: #" in text


def test_a_report_that_was_stored_looks_the_same():
    assert CheckReport.from_json(WRONG.to_json())._repr_html_() == WRONG._repr_html_()
