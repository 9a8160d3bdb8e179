"""A report survives being written down and read again, and nothing else is taken for one."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport
from tests.arbitrary import REPORTS
from tests.reports import old_report


def spell(report):
    """Returns all fields as text: NaN does not equal itself; tuples are told from lists, too."""
    return repr(vars(report))


@given(REPORTS)
def test_a_report_survives_json(report):
    assert spell(CheckReport.from_json(report.to_json())) == spell(report)
    assert spell(CheckReport.from_json(report.to_json().encode("ascii"))) == spell(report)


@given(REPORTS)
def test_the_json_is_strict_and_on_one_line(report):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = report.to_json()
    assert isinstance(json.loads(text, parse_constant=refuse), dict)
    assert len(text.splitlines()) == 1


COMPARED = DerivativeComparison(
    "d/w", (1, 2), "total", 1.0, 3.0, 1e-9, 1e-5, 0.0, Verdict.PASS, Reason.AGREES
)
RECEIVED = GradientComparison("d/w", 1.0, 3.0, 2.0, 0.5, Verdict.PASS, Reason.AGREES)
TOLD = CheckReport(
    7,
    Verdict.PASS,
    Reason.AGREES,
    {"total": 0.0},
    (COMPARED, RECEIVED),
    (Diagnosis("d/w", "wrong", ("total",)),),
    expect=(("*/w", "mismatch"),),
    notes=("a note",),
)


def test_numbers_of_numpy_are_numbers():
    compared = DerivativeComparison(
        "d/w",
        (np.int64(3),),
        "total",
        1.0,
        3.0,
        1e-9,
        1e-5,
        np.float32(0.5),
        Verdict.PASS,
        Reason.AGREES,
        position=np.int32(5),
        is_kink=np.bool_(True),
    )
    told = CheckReport(
        7,
        Verdict.PASS,
        Reason.AGREES,
        {},
        (compared,),
        seed=np.int64(9),
        loss={"a": np.float64("inf")},
    )
    back = CheckReport.from_json(told.to_json())
    assert (back.seed, back.loss["a"]) == (9, math.inf)
    assert (back.comparisons[0].index, back.comparisons[0].position) == ((3,), 5)
    assert (back.comparisons[0].relative_difference, back.comparisons[0].is_kink) == (0.5, True)


def test_fields_from_the_future_are_ignored():
    fields = json.loads(TOLD.to_json())
    fields["colour"] = {"red": [1, 2]}
    for record in (
        fields["precision"],
        fields["coverage"],
        fields["comparisons"][0],
        fields["diagnoses"][0],
    ):
        record["colour"] = "red"
    assert spell(CheckReport.from_json(json.dumps(fields))) == spell(TOLD)


MINIMAL = {"step": 1, "verdict": "PASS", "reason": "AGREES", "relative_difference": {}}


def test_fields_from_the_past_get_their_defaults():
    assert CheckReport.from_json(json.dumps(MINIMAL)) == CheckReport(
        1, Verdict.PASS, Reason.AGREES, {}
    )


def test_a_comparison_from_the_past_is_of_no_known_dtype():
    fields = json.loads(TOLD.to_json())
    del fields["comparisons"][1]["dtype"]
    assert spell(CheckReport.from_json(json.dumps(fields))) == spell(TOLD)
    assert TOLD.comparisons[1].dtype == ""


def test_a_report_of_before_reads_as_one_of_today():
    read = CheckReport.from_json(old_report.OLD_LINE)
    assert spell(read) == spell(old_report.REPORT)
    assert spell(CheckReport.from_json(read.to_json())) == spell(read)


@pytest.mark.parametrize(
    ("record", "old", "new"), [(0, "step", "step_size"), (1, "scale", "ratio")]
)
def test_beside_a_name_of_today_the_old_one_does_not_count(record, old, new):
    fields = json.loads(TOLD.to_json())
    fields["comparisons"][record] |= {old: "not a number", new: 0.125}
    read = CheckReport.from_json(json.dumps(fields)).comparisons[record]
    assert getattr(read, new) == 0.125


def test_a_whole_number_may_stand_where_a_number_belongs():
    assert repr(CheckReport.from_json(json.dumps(MINIMAL | {"threshold": 1})).threshold) == "1.0"


def changed(**changes):
    return json.dumps(MINIMAL | changes)


def compared(**changes):
    return changed(comparisons=[json.loads(TOLD.to_json())["comparisons"][0] | changes])


MALFORMED = [
    # name, text, what the message says about it
    ("nothing", "", "Expecting value"),
    ("no JSON", "loss: 0.1", "Expecting value"),
    ("cut off", json.dumps(MINIMAL)[:-1], "delimiter"),
    ("two in a line", json.dumps(MINIMAL) * 2, "Extra data"),
    ("a list", "[]", "`CheckReport` is [] where an object belongs"),
    ("a number", "5", "`CheckReport` is 5 where an object belongs"),
    ("null", "null", "`CheckReport` is None where an object belongs"),
    ("no fields", "{}", "missing 4 required"),
    (
        "an unknown verdict",
        changed(verdict="MAYBE"),
        "`verdict` is 'MAYBE' where the name of a Verdict belongs",
    ),
    (
        "an unknown reason",
        changed(reason="BECAUSE"),
        "`reason` is 'BECAUSE' where the name of a Reason belongs",
    ),
    ("a list of verdicts", changed(verdict=["PASS"]), "`verdict` is ['PASS'] where"),
    ("a word for a step", changed(step="x"), "`step` is 'x' where an integer belongs"),
    ("a fraction for a step", changed(step=1.5), "`step` is 1.5 where an integer belongs"),
    ("true for a step", changed(step=True), "`step` is True where an integer belongs"),
    ("nothing for a step", changed(step=None), "`step` is None where an integer belongs"),
    (
        "a word for a number",
        changed(threshold="small"),
        "`threshold` is 'small' where a number, or one of",
    ),
    ("a list for a number", changed(threshold=[1.0]), "`threshold` is [1.0] where a number"),
    ("true for a number", changed(threshold=True), "`threshold` is True where a number"),
    ("NaN as Python spells it", changed(threshold=math.nan), "NaN is no JSON"),
    ("a number too large", changed(threshold=10**400), "int too large"),
    (
        "a number for numbers",
        changed(relative_difference=5),
        "`relative_difference` is 5 where an object belongs",
    ),
    (
        "numbers for numbers by name",
        changed(relative_difference=[5]),
        "`relative_difference` is [5] where an object",
    ),
    (
        "a word among the numbers",
        changed(relative_difference={"total": "a"}),
        "`relative_difference` is 'a' where",
    ),
    ("a number for a name", changed(name=5), "`name` is 5 where a string belongs"),
    ("a number for a record", changed(precision=5), "`precision` is 5 where an object belongs"),
    (
        "a number for many records",
        changed(comparisons=5),
        "`comparisons` is 5 where a list belongs",
    ),
    (
        "a string for many records",
        changed(comparisons="no"),
        "`comparisons` is 'no' where a list belongs",
    ),
    ("numbers for records", changed(comparisons=[5]), "`comparisons` is 5 where an object belongs"),
    (
        "a comparison of no term",
        changed(comparisons=[{"path": "w"}]),
        "`comparisons` is without the field `term`",
    ),
    (
        "a comparison of an unknown term",
        compared(term="loss"),
        "`term` is 'loss' where one of the strings total, data, penalty, trained belongs",
    ),
    ("a list for a term", compared(term=["total"]), "`term` is ['total'] where one of"),
    ("an incomplete record", changed(diagnoses=[{"path": "w"}]), "missing 1 required"),
    ("half a derivative", changed(comparisons=[{"term": "total"}]), "missing 9 required"),
    ("half a gradient", changed(comparisons=[{"term": "trained"}]), "missing 7 required"),
    ("a word in an index", compared(index=[1, "2"]), "`index` is '2' where an integer belongs"),
    ("a string for an index", compared(index="12"), "`index` is '12' where a list belongs"),
    ("a word for an error bar", compared(error="wide"), "`error` is 'wide' where a number"),
    ("a number for a truth", compared(is_kink=1), "`is_kink` is 1 where true or false belongs"),
    ("a string for strings", changed(notes="note"), "`notes` is 'note' where a list belongs"),
    ("half a declaration", changed(expect=[["*"]]), "`expect` is ['*'] where a list of 2 belongs"),
    ("a field twice", '{"step": 1, ' + json.dumps(MINIMAL)[1:], "a field is there twice"),
    (
        "a field twice, deeper",
        changed(loss={}).replace('"loss": {}', '"loss": {"a": 1, "a": 2}'),
        "twice",
    ),
    ("deep nesting", "[" * 100_000, "recursion"),
    (
        "deep nesting in a field",
        changed(colour=1).replace(": 1}", ": " + "[" * 100_000),
        "recursion",
    ),
    ("a number of too many digits", '{"step":' + "9" * 5000 + "}", "integer string conversion"),
    ("bytes of no encoding", b"\xff\xfe\xfd", "codec can't decode"),
    ("zeros, as after a loss of power", b"\0" * 80, "Expecting value"),
]


@pytest.mark.parametrize(
    ("text", "said"), [m[1:] for m in MALFORMED], ids=[m[0] for m in MALFORMED]
)
def test_what_is_no_report_is_refused_in_four_parts(text, said):
    with pytest.raises(ValueError, match="must") as caught:
        CheckReport.from_json(text)
    rule, received, expected, advice = "must be one JSON object", "Received: ", "Expected ", "Try "
    message = str(caught.value)
    positions = [message.index(part) for part in (rule, received, expected, advice)]
    assert positions == sorted(positions)
    assert repr(text[:80]) in message
    assert said in message


@pytest.mark.parametrize("value", [None, 5, [], {}, object(), math.nan])
def test_what_is_no_text_is_refused_as_well(value):
    with pytest.raises(ValueError, match=r"must be one JSON object.*Received: "):
        CheckReport.from_json(value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.just(10**4000),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value, above=()):
    """Every place in a JSON value, as a path of keys and positions."""
    yield above
    steps = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in steps:
        yield from places(inner, (*above, key))


FIELDS = json.loads(TOLD.to_json())
PLACES = [place for place in places(FIELDS) if place]


def replaced(place, value):
    fields = copy.deepcopy(FIELDS)
    record = fields
    for key in place[:-1]:
        record = record[key]
    record[place[-1]] = value
    return fields


def read_or_refused(text):
    """Returns the report that a text holds, written and read once more; None if it is refused."""
    try:
        report = CheckReport.from_json(text)
    except ValueError:
        return None
    assert isinstance(str(report), str)
    assert spell(CheckReport.from_json(report.to_json())) == spell(report)
    return report


@given(st.sampled_from(PLACES), JSON)
def test_any_value_in_any_place_gives_a_report_or_a_value_error(place, value):
    read_or_refused(json.dumps(replaced(place, value)))


# All fields of an origin have defaults, so that any object is one, with fields from the future.
MANDATORY = [place for place in PLACES if place != ("origin",)]


@pytest.mark.parametrize("place", MANDATORY, ids=str)
def test_a_value_of_no_type_is_refused_in_every_place(place):
    assert read_or_refused(json.dumps(replaced(place, {"no": ["such", "type"]}))) is None


@given(JSON.map(json.dumps) | st.text() | st.binary())
def test_anything_at_all_gives_a_report_or_a_value_error(text):
    read_or_refused(text)


@given(REPORTS, st.data())
def test_half_a_report_is_no_report(report, data):
    text = report.to_json()
    assert read_or_refused(text[: data.draw(st.integers(0, len(text) - 1))]) is None
