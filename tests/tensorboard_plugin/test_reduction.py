"""A report as the overview shows it: codes, levels, order; and what is no report."""

import base64
import json
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gradhooks.reports.circumstances import Precision
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Diagnosis
from gradhooks.reports.report import CheckReport
from gradhooks.tensorboard_plugin import detail, overview, reduction
from gradhooks.tensorboard_plugin.cells import CODES, LOWEST, UNKNOWN, compute_level
from gradhooks.tensorboard_plugin.parsing import UnreadableError
from tests.reports import old_report
from tests.tensorboard_plugin.logs import comparison, every_verdict, received, report


def stored(text):
    return np.array(text.encode() if isinstance(text, str) else text, dtype=object)


def column(told, wall_time=0.0):
    return reduction.reduce_report(told.step, wall_time, stored(told.to_json()))


def cell(told, variable="dense/kernel", term="total"):
    """(code, level) of a variable in the column of a report."""
    labels, codes, levels = column(told).cells[term]
    at = labels.index(variable)
    return CODES[codes[at]], int(levels[at])


def decades(level):
    return LOWEST * (1 - level / (UNKNOWN - 1))


@pytest.mark.parametrize(
    ("verdict", "reason", "code"),
    [
        (Verdict.PASS, Reason.AGREES, "pass"),
        (Verdict.FAIL, Reason.MISMATCH, "fail"),
        (Verdict.FAIL, Reason.UNDECLARED_MATCH, "fail"),
        (Verdict.INCONCLUSIVE, Reason.NOISE, "inconclusive"),
        (Verdict.INCONCLUSIVE, Reason.KINK, "inconclusive"),
        (Verdict.INCONCLUSIVE, Reason.DECLARED, "declared"),
        (Verdict.INCONCLUSIVE, Reason.VACUOUS, "vacuous"),
    ],
)
def test_a_verdict_has_a_code(verdict, reason, code):
    assert cell(report(0, comparison(verdict=verdict, reason=reason)))[0] == code


def test_the_worst_of_several_comparisons_is_shown():
    told = [comparison(index=(i,), verdict=v, reason=r) for i, (v, r) in enumerate(KINDS)]
    for most in range(1, len(told) + 1):
        assert cell(report(0, *told[:most]))[0] == CODES[most]


KINDS = [
    (Verdict.INCONCLUSIVE, Reason.VACUOUS),
    (Verdict.PASS, Reason.AGREES),
    (Verdict.INCONCLUSIVE, Reason.DECLARED),
    (Verdict.INCONCLUSIVE, Reason.NOISE),
    (Verdict.FAIL, Reason.MISMATCH),
]


def test_the_level_is_the_relative_difference_over_all_comparisons_of_the_variable():
    told = report(
        0,
        comparison(index=(0,), analytic=3.0, numeric=3.0),
        comparison(index=(1,), analytic=4.0, numeric=4.001),
        comparison(
            index=(2,),
            verdict=Verdict.INCONCLUSIVE,
            reason=Reason.VACUOUS,
            analytic=0.0,
            numeric=9.0,
        ),
    )
    expected = 0.001 / (5.0 + math.hypot(3.0, 4.001))
    assert decades(cell(told)[1]) == pytest.approx(math.log10(expected), abs=0.04)


def test_the_trained_gradient_is_compared_by_its_distance():
    told = report(0, received(analytic_norm=2.0, received_norm=2.0, distance=0.4))
    assert decades(cell(told, term="trained")[1]) == pytest.approx(-1, abs=0.04)
    assert column(told).thresholds["trained"] == pytest.approx(2.4e-4 / 4)


def test_a_report_stored_before_the_comparisons_were_of_two_kinds_is_drawn_and_detailed():
    was = reduction.reduce_report(7, 0.0, stored(old_report.OLD_LINE))
    now = column(old_report.REPORT)
    assert was.verdict == "FAIL"
    assert repr(was) == repr(now)
    found = detail.describe_variable(old_report.OLD_LINE, "dense/kernel")
    assert repr(found) == repr(
        detail.describe_variable(old_report.REPORT.to_json(), "dense/kernel")
    )
    gradient, derivative = found["comparisons"]
    assert (derivative["analytic"], derivative["step_size"]) == (0.5, 2e-4)
    assert (gradient["received_norm"], gradient["ratio"]) == (1.0, 0.5)


def test_what_compares_nothing_has_no_level():
    vacuous = comparison(
        verdict=Verdict.INCONCLUSIVE, reason=Reason.VACUOUS, analytic=0.0, numeric=1e-20
    )
    assert cell(report(0, vacuous)) == ("vacuous", UNKNOWN)
    infinite = comparison(
        verdict=Verdict.FAIL, reason=Reason.NON_FINITE_GRADIENT, analytic=math.inf
    )
    assert cell(report(0, infinite)) == ("fail", UNKNOWN)


@hypothesis.given(st.floats(1e-18, 1.0), st.floats(1e-18, 1.0))
def test_levels_keep_the_order_and_a_tenth_of_a_decade(one, other):
    low, high = sorted((one, other))
    assert compute_level(low) <= compute_level(high)
    assert decades(compute_level(one)) == pytest.approx(math.log10(one), abs=0.04)


@hypothesis.given(st.floats())
def test_every_number_has_a_level(number):
    assert 0 <= compute_level(number) <= UNKNOWN


def unpack(packed, view):
    shape = len(view["variables"]), len(view["checks"])
    return np.frombuffer(base64.b64decode(packed), np.uint8).reshape(shape)


def test_variables_are_in_model_order_and_cells_where_they_belong():
    late = report(
        10,
        comparison("a/late", position=50),
        comparison("z/early", position=3),
        comparison("*", index=None),
    )
    early = report(
        0, comparison("m/middle", Verdict.FAIL, Reason.MISMATCH, numeric=3.0, position=20)
    )
    view = overview.build_overview([column(late), column(early)])
    assert view["variables"] == ["*", "z/early", "m/middle", "a/late"]
    assert [check["step"] for check in view["checks"]] == [0, 10]
    codes = unpack(view["terms"]["total"]["codes"], view)
    assert codes.tolist() == [[0, 2], [0, 2], [5, 0], [0, 2]]
    levels = unpack(view["terms"]["total"]["levels"], view)
    assert levels[2, 1] == UNKNOWN
    assert decades(levels[2, 0]) == pytest.approx(math.log10(0.5), abs=0.04)
    assert not unpack(view["terms"]["penalty"]["codes"], view).any()


def test_of_a_step_that_was_checked_again_the_later_report_counts():
    first = report(5, comparison(verdict=Verdict.FAIL, reason=Reason.MISMATCH, numeric=2.0))
    view = overview.build_overview([column(report(5), wall_time=2.0), column(first, wall_time=1.0)])
    assert [check["verdict"] for check in view["checks"]] == ["PASS"]
    assert view["failures"] == []


def test_a_run_too_large_to_draw_loses_its_oldest_checks(monkeypatch):
    monkeypatch.setattr(overview, "MOST_CELLS", 6)
    told = [comparison("a", position=0), comparison("b", position=1)]
    view = overview.build_overview([column(report(step, *told)) for step in range(10)])
    assert [check["step"] for check in view["checks"]] == [7, 8, 9]


def test_failures_are_told_newest_first_with_the_line_that_reproduces():
    diagnoses = (
        Diagnosis("b", "second"),
        Diagnosis("a\n", "half of it is missing", is_leading=True),
    )
    wrong = comparison("a\n", Verdict.FAIL, Reason.MISMATCH, numeric=2.0)
    view = overview.build_overview(
        [column(report(s, wrong, diagnoses=diagnoses, seed=4)) for s in (0, 7)]
        + [column(report(3))]
    )
    assert [failure["step"] for failure in view["failures"]] == [7, 0]
    newest = view["failures"][0]
    # The first one leads, which does not make it the place of the error.
    assert [(f["place"], f["is_place"]) for f in newest["findings"]] == [
        ("a\\n", False),
        ("b", False),
    ]
    expected = "gradhooks.check_gradients(model, x, y, samples=32, seed=4, step=7, threshold=1e-06)"
    assert newest["reproduction"] == expected
    bare = column(report(0, wrong)).failure["findings"]
    assert [(f["place"], f["sentence"]) for f in bare] == [
        ("a\\n[0, 1]", Reason.MISMATCH.explanation)
    ]


def test_a_check_that_could_not_be_carried_out_is_listed():
    told = CheckReport(
        3, Verdict.INCONCLUSIVE, Reason.ERROR, {"total": math.nan}, error="ValueError: no\nloss"
    )
    assert column(told).failure["note"] == "ValueError: no\\nloss"
    assert column(told).verdict == "INCONCLUSIVE"
    assert not any(labels for labels, _, _ in column(told).cells.values())


def hostile_fields():
    """Texts that nobody expects in a report, each as near to one as it gets."""
    good = json.loads(report(0, comparison(), diagnoses=(Diagnosis("a", "b"),)).to_json())
    first = good["comparisons"][0]
    yield "not json", "{"
    yield "cut off", json.dumps(good)[:-20]
    yield "no object", "[1, 2]"
    yield "null", "null"
    yield "deep", "[" * 100_000
    yield (
        "deep inside",
        json.dumps(good).replace('"notes": []', f'"notes": {"[" * 5000 + "]" * 5000}'),
    )
    yield "no comparisons", json.dumps({**good, "comparisons": None})
    yield "comparisons of numbers", json.dumps({**good, "comparisons": [1, 2]})
    yield "verdict", json.dumps({**good, "verdict": "MAYBE"})
    yield "verdict of a kind", json.dumps({**good, "verdict": {}})
    yield "coverage", json.dumps({**good, "coverage": {"variables": "x"}})
    yield "notes", json.dumps({**good, "notes": 7, "trail": 8})
    wrong = {
        "path": 7,
        "term": [],
        "verdict": "x",
        "reason": None,
        "position": "far",
        "analytic": "three",
        "numeric": True,
        "allowed": 10**400,
    }
    for name, value in wrong.items():
        yield f"comparison's {name}", json.dumps({**good, "comparisons": [{**first, name: value}]})
    gradient = json.loads(report(0, received()).to_json())["comparisons"][0]
    for name, value in {"analytic_norm": "three", "received_norm": True, "distance": {}}.items():
        wrong = {**gradient, name: value}
        yield f"gradient's {name}", json.dumps({**good, "comparisons": [wrong]})
    yield "long path", json.dumps({**good, "comparisons": [{**first, "path": "a" * 100_000}]})


HOSTILE = dict(hostile_fields())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_report_is_a_card(text):
    found = reduction.reduce_report(3, 0.0, stored(text))
    assert found.verdict == "UNREADABLE"
    assert found.failure["kind"] == "unreadable"
    assert len(found.reason) < 200
    json.dumps(overview.build_overview([found]))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_report_has_no_detail(text):
    try:
        json.dumps(detail.describe_variable(text, "dense/kernel"))
    except UnreadableError as error:
        assert len(str(error)) < 200  # noqa: PT017 (either answer is fine, a third one is not)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3),
        np.array(1.0),
        np.array([b"{}", b"{}"], dtype=object),
        np.array(None, dtype=object),
        np.zeros((0,)),
    ],
    ids=["vector", "number", "two", "none", "nothing"],
)
def test_a_tensor_that_holds_no_text_is_a_card(value):
    assert reduction.reduce_report(0, 0.0, value).reason == "the tensor does not hold one text"


def test_a_report_of_fifty_megabytes_is_a_card():
    assert "larger than 32 MB" in reduction.reduce_report(0, 0.0, stored(b" " * 50_000_000)).reason


def test_not_a_number_and_infinities_are_told():
    wild = comparison(
        analytic=math.nan,
        numeric=math.inf,
        verdict=Verdict.INCONCLUSIVE,
        reason=Reason.NON_FINITE_LOSS,
    )
    told = report(
        0, wild, threshold=math.nan, relative_difference={"total": math.nan, "data": math.inf}
    )
    assert cell(told) == ("inconclusive", UNKNOWN)
    # Reports are strict JSON, in which these are words.
    literal = told.to_json().replace('"nan"', "NaN").replace('"inf"', "Infinity")
    assert reduction.reduce_report(0, 0.0, stored(literal)).verdict == "UNREADABLE"


def test_the_detail_holds_what_the_report_says_about_the_variable():
    told = report(
        9,
        comparison(
            "a", Verdict.FAIL, Reason.MISMATCH, numeric=2.0, left=1.9, right=2.1, position=0
        ),
        comparison("b", analytic=5.0, numeric=5.0, position=7),
        received("a", cosine=0.5),
        diagnoses=(Diagnosis("a", "half of it", is_leading=True), Diagnosis("b", "follows")),
        precision=Precision("partial", note="a layer stays"),
        trail=("looked here",),
    )
    found = detail.describe_variable(told.to_json(), "a")
    assert [(c["term"], c.get("index"), c["verdict"]) for c in found["comparisons"]] == [
        ("total", "[0, 1]", "FAIL"),
        ("trained", None, "PASS"),
    ]
    first, trained = found["comparisons"]
    assert (first["analytic"], first["numeric"], first["left"], first["right"], first["gap"]) == (
        1.0,
        2.0,
        1.9,
        2.1,
        1.0,
    )
    assert trained["cosine"] == 0.5
    assert found["diagnosis"]["sentence"] == "half of it"
    assert "a: half of it" in found["answer"]["sentence"]
    assert [a["reason"] for a in found["advice"]] == ["mismatch", "If it is meant"]
    assert found["advice"][0]["explanation"] == Reason.MISMATCH.explanation
    assert found["points"]["total"] == [[5.0, 5.0, 0, 0], [1.0, 2.0, 1, 1]]
    assert found["notes"] == ["looked here", "a layer stays"]
    assert detail.describe_variable(told.to_json(), "nowhere")["comparisons"] == []


def test_a_variable_is_asked_for_by_the_name_that_is_shown():
    told = report(0, comparison("a\n\u202eb"))
    [shown] = column(told).positions
    assert shown == "a\\n\\u202eb"
    assert len(detail.describe_variable(told.to_json(), shown)["comparisons"]) == 1


def test_every_verdict_is_in_the_made_up_report():
    assert {CODES[code] for code in column(every_verdict()).cells["total"][1]} == set(CODES) - {
        "unsampled"
    }
