"""What the page says is wrong, since when, and the column of layers beside it."""

import dataclasses
import json

import numpy as np
import pytest

from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Diagnosis
from gradhooks.tensorboard_plugin import detail, layers, overview, reduction, words
from gradhooks.tensorboard_plugin.cells import CODES
from gradhooks.tensorboard_plugin.parsing import UnreadableError
from tests.tensorboard_plugin import logs
from tests.tensorboard_plugin.test_reduction import HOSTILE, column, stored, unpack

WRONG = {"verdict": Verdict.FAIL, "reason": Reason.MISMATCH}


def answers(*reports):
    return overview.build_overview([column(each) for each in reports])["answers"]


def test_the_answer_names_the_place_with_its_line_and_how_long_it_has_been_so():
    passed = [logs.report(step) for step in (0, 100)]
    [answer] = answers(*passed, *(logs.placed(step) for step in range(200, 550, 50)))
    assert answer["title"] == "layer net/block/act"
    assert answer["sentence"] == logs.PLACE.sentence
    assert answer["source"] == "net.py:12"
    assert answer["evidence"] == list(logs.PLACE.evidence)
    assert answer["standing"] == "since step 200, in 7 checks"
    assert (answer["step"], answer["is_over"], answer["has_layers"]) == (500, False, True)


STANDING = {
    "one check": ("F", "since step 0, in 1 check", False),
    "not in all": ("PFPFF", "since step 1, in 3 of 4 checks", False),
    "no more": ("PFFP", "from step 1 to 2, in 2 checks; not in the latest check", True),
    "once": ("FP", "at step 0, in 1 check; not in the latest check", True),
    "an undecided check tells nothing": ("PFI", "since step 1, in 1 check", False),
}


@pytest.mark.parametrize(("course", "told", "is_over"), STANDING.values(), ids=STANDING)
def test_how_long_it_has_been_so(course, told, is_over):
    undecided = logs.comparison(verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE)
    kinds = {
        "F": logs.placed,
        "P": logs.report,
        "I": lambda step: logs.report(step, undecided),
    }
    [answer] = answers(*(kinds[kind](step) for step, kind in enumerate(course)))
    assert (answer["standing"], answer["is_over"]) == (told, is_over)


def test_each_place_has_an_answer_and_that_of_the_latest_check_comes_first():
    second = dataclasses.replace(logs.PLACE, call=1, sentence="of the second call")
    loss = Culprit("loss", "mse", sentence="the loss is wrong")
    told = answers(logs.placed(0), logs.placed(1, second), logs.placed(2, loss), logs.placed(3))
    assert [(a["title"], a["is_over"]) for a in told] == [
        ("layer net/block/act", False),
        ("loss mse", True),
        ("layer net/block/act, call 2", True),
    ]
    assert told[0]["standing"] == "since step 0, in 2 of 4 checks"


def test_a_failure_without_a_place_says_so():
    first = logs.report(0, logs.comparison("a/w", numeric=2.0, **WRONG))
    second = logs.report(5, logs.comparison("b/w", numeric=2.0, **WRONG))
    [answer] = answers(first, second)
    assert answer["title"] == Reason.MISMATCH.headline
    assert answer["sentence"].startswith("the place could not be told; ")
    assert " b/w" in answer["sentence"]
    assert answer["standing"] == "since step 0, in 2 checks"
    declared = {"verdict": Verdict.FAIL, "reason": Reason.UNDECLARED_MATCH}
    [answer] = answers(logs.report(0, logs.comparison(**declared)))
    assert "could not be told" not in answer["sentence"]
    assert answers(logs.report(0)) == []


def test_no_variable_of_a_healthy_layer_is_said_to_be_the_place():
    told = logs.placed()
    assert [f["is_place"] for f in column(told).failure["findings"]] == [False]
    assert column(told).failure["made_in"] == "layer net/block/act"
    found = detail.describe_variable(told.to_json(), "net/block/dense/kernel")
    assert not found["diagnosis"]["is_place"]
    assert found["answer"]["title"] == "layer net/block/act"
    assert found["advice"][-1]["explanation"] == "expect={'*/act': 'mismatch'}"
    # The place may be the model itself, whose layers are right.
    model = dataclasses.replace(told, culprit=dataclasses.replace(logs.PLACE, path="net"))
    assert [f["is_place"] for f in column(model).failure["findings"]] == [False]
    own = dataclasses.replace(told, culprit=dataclasses.replace(logs.PLACE, path="net/block/dense"))
    assert [f["is_place"] for f in column(own).failure["findings"]] == [True]


def test_the_column_holds_what_was_measured_and_no_more():
    found = layers.describe_layers(logs.placed().to_json())
    told = []
    for row in found["rows"]:
        words_of = [reading and reading["word"] for reading in readings(row)]
        told.append((row["depth"], row["name"], *words_of))
    not_measured = "not measured"
    assert told == [
        # What entered the model that Keras made was measured: it is the same tensor.
        (0, "net", "wrong", None, None),
        (1, "block", not_measured, None, not_measured),
        (2, "dense", not_measured, "wrong", "wrong"),
        (2, "act", "wrong", None, "right"),
        (1, "head", not_measured, "right", not_measured),
        (0, "loss", "right", None, None),
    ]
    assert [row["name"] for row in found["rows"] if row["is_place"]] == ["act"]
    entering = found["rows"][3]["entering"]
    assert entering == {"word": "wrong", "difference": 0.25, "analytic": 1.0, "numeric": 1.0}
    assert "expect={'*/act': 'mismatch'}" in found["advice"][-1]
    heirs = "1 variable below it inherits the error: net/block/dense/kernel"
    assert found["evidence"] == [*logs.PLACE.evidence, heirs]


def readings(row):
    return row["entering"], row["weights"], row["leaving"]


def test_calls_and_losses_are_numbered_where_there_are_several():
    taps = (
        logs.tap("net"),
        logs.tap("shared"),
        logs.tap("shared", True),
        logs.tap("shared", call=1),
        logs.tap("shared", True, call=1),
        logs.tap("net", True, "right", 1e-9),
        logs.tap("net", True, "wrong", 0.5),
    )
    rows = layers.build_rows(Culprit("loss", "mae", taps=taps))
    named = layers.describe_layers(logs.placed(0, Culprit("loss", "mae", taps=taps)).to_json())
    assert [row["name"] for row in named["rows"]] == [
        "net",
        "shared, call 1",
        "shared, call 2",
        "loss of output 1",
        "loss mae",
    ]
    assert [row.is_place for row in rows] == [False, False, False, False, True]
    second = Culprit("layer", "shared", 1, taps=taps)
    assert [row.is_place for row in layers.build_rows(second)][:3] == [False, False, True]


def test_a_nested_model_that_nobody_named_is_a_row():
    taps = (
        logs.tap("net"),
        logs.tap("net/first"),
        logs.tap("net/first", True),
        logs.tap("net/functional_1", word="wrong", difference=0.5),
        logs.tap("net/functional_1/inner"),
        logs.tap("net/functional_1/inner", True),
        logs.tap("net/functional_1", True),
        logs.tap("net", True),
    )
    found = layers.describe_layers(logs.placed(0, Culprit("loss", "mse", taps=taps)).to_json())
    assert [(row["depth"], row["name"], row["entering"]["word"]) for row in found["rows"]] == [
        (0, "net", "not measured"),
        (1, "first", "not measured"),
        (1, "functional_1", "wrong"),
        (2, "inner", "not measured"),
        (0, "loss mse", "not measured"),
    ]


def test_a_report_without_taps_has_no_rows():
    for place in (None, Culprit("train_step", "train_step")):
        found = layers.describe_layers(logs.placed(0, place).to_json())
        assert found["rows"] == []
        assert found["advice"]


def test_taps_in_any_order_are_rows():
    odd = [(), logs.TAPS[::-1], logs.TAPS[4:], logs.TAPS[:4], logs.TAPS * 2]
    for taps in odd:
        place = dataclasses.replace(logs.PLACE, taps=tuple(taps))
        json.dumps(layers.describe_layers(logs.placed(0, place).to_json()))
    many = tuple(logs.tap(f"layer_{i}") for i in range(layers.MOST_ROWS + 5))
    found = layers.describe_layers(
        logs.placed(0, dataclasses.replace(logs.PLACE, taps=many)).to_json()
    )
    assert len(found["rows"]) + found["left_out"] == len(many) + 1


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_report_has_no_column(text):
    try:
        json.dumps(layers.describe_layers(text))
    except UnreadableError as error:
        assert len(str(error)) < 200  # noqa: PT017 (either answer is fine, a third one is not)


def received_wrong(step):
    failed = logs.received(distance=0.5, **WRONG)
    return logs.report(
        step, logs.comparison(), failed, relative_difference={"total": 1e-9, "trained": 0.25}
    )


def test_the_worst_term_agrees_with_the_verdict_of_the_check():
    """Whichever term fails, the cell, the chart and the verdict show it; rounding does not."""
    fine = logs.report(
        0, logs.comparison(), logs.received(), relative_difference={"total": 1e-9, "trained": 1e-6}
    )
    view = overview.build_overview(
        [column(fine), column(received_wrong(7)), column(logs.placed(9))]
    )
    codes = unpack(view["terms"]["worst"]["codes"], view)
    failed = (codes == CODES.index("fail")).any(axis=0)
    assert failed.tolist() == [check["verdict"] == "FAIL" for check in view["checks"]]
    trained = unpack(view["terms"]["trained"]["levels"], view)
    levels = unpack(view["terms"]["worst"]["levels"], view)
    row = view["variables"].index("dense/kernel")
    assert levels[row, 1] == trained[row, 1]
    points, limits = view["headline"]["worst"], view["thresholds"]["worst"]
    assert [step for step, _ in points] == [step for step, _ in limits] == [0, 7, 9]
    above = [value > limit for (_, value), (_, limit) in zip(points, limits, strict=True)]
    assert above == [False, True, True]
    assert points[1][1] == 0.25


def test_a_failure_whose_difference_is_not_finite_is_the_worst():
    infinite = logs.comparison(
        verdict=Verdict.FAIL, reason=Reason.NON_FINITE_GRADIENT, analytic=np.inf
    )
    told = logs.report(0, infinite, logs.received(), relative_difference={"total": np.nan})
    headline = {"total": [(0, np.nan), (5, 1e-9)], "trained": [(0, 1e-5), (5, 2e-5)]}
    view = overview.build_overview([column(told)], headline)
    assert unpack(view["terms"]["worst"]["codes"], view).tolist() == [[CODES.index("fail")]]
    [(step, first), (later, second)] = view["headline"]["worst"]
    assert (step, later) == (0, 5)
    assert np.isnan(first)
    # Of a check that is not kept, the thresholds are those of the one before.
    assert second == 2e-5


def test_a_small_variable_that_fails_is_seen_in_the_chart():
    small = logs.comparison("small/w", analytic=1e-9, numeric=3e-9, **WRONG)
    large = logs.comparison("large/w", position=7)
    told = logs.report(0, small, large, relative_difference={"total": 2e-9})
    [(_, value)] = overview.build_overview([column(told)])["headline"]["worst"]
    assert value == pytest.approx(0.5, rel=0.1)


def test_a_run_of_unreadable_reports_has_no_answer():
    view = overview.build_overview([reduction.reduce_report(3, 0.0, stored("{"))])
    assert (view["answers"], view["headline"]["worst"]) == ([], [])


def test_the_page_has_the_words_of_the_server():
    text = words.build_module()
    told = json.loads(text.removeprefix("export const WORDS = ").removesuffix(";\n"))
    assert [code["name"] for code in told["codes"]] == list(CODES)
    assert [term["name"] for term in told["terms"]] == list(overview.SHOWN_TERMS)
    assert told["terms"][0]["name"] == "worst"
    view = overview.build_overview([column(logs.report(0))])
    assert list(view["terms"]) == list(overview.SHOWN_TERMS)


def test_the_finding_of_a_variable_is_the_sentence_without_a_place():
    diagnosis = Diagnosis("a/w", "half of it is missing", is_leading=True)
    wrong = logs.comparison("a/w", numeric=2.0, **WRONG)
    [answer] = answers(logs.report(0, wrong, diagnoses=(diagnosis,)))
    assert "a/w: half of it is missing" in answer["sentence"]
    assert answer["variable"] == "a/w"
