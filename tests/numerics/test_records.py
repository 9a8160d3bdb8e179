"""The records survive being written down and read again."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradhooks.numerics.records import (
    TERMS,
    CheckReport,
    Comparison,
    Coverage,
    DerivativeEstimate,
    Diagnosis,
    Precision,
    Probe,
    Reason,
    Verdict,
)

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
COUNTS = st.integers(0, 2**40)
# Words that look like numbers are the ones that a careless reader converts.
WORDS = st.one_of(st.text(max_size=12), st.sampled_from(["nan", "inf", "-inf", "NaN", "1.0", "null", '"', "é∂"]))
MANY_WORDS = st.lists(WORDS, max_size=3).map(tuple)
VERDICTS, REASONS = st.sampled_from(Verdict), st.sampled_from(Reason)
INDICES = st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple)
PER_TERM = st.dictionaries(st.sampled_from(TERMS), NUMBERS)
COMPARISONS = st.builds(
    Comparison, WORDS, INDICES, st.sampled_from(TERMS), NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, VERDICTS, REASONS,
    NUMBERS, NUMBERS, NUMBERS, COUNTS,
)  # fmt: skip
DIAGNOSES = st.builds(Diagnosis, WORDS, WORDS, MANY_WORDS, NUMBERS, NUMBERS, st.booleans())
REPORTS = st.builds(
    CheckReport, step=COUNTS, verdict=VERDICTS, reason=REASONS, relative_difference=PER_TERM,
    comparisons=st.lists(COMPARISONS, max_size=3).map(tuple), diagnoses=st.lists(DIAGNOSES, max_size=2).map(tuple),
    loss=PER_TERM, threshold=NUMBERS, precision=st.builds(Precision, WORDS, MANY_WORDS, MANY_WORDS, NUMBERS, WORDS),
    coverage=st.builds(Coverage, COUNTS, COUNTS, COUNTS, COUNTS), seed=COUNTS, samples=COUNTS, evaluations=COUNTS,
    jitter=NUMBERS, replaced=COUNTS, trail=MANY_WORDS, notes=MANY_WORDS, error=WORDS, seconds=NUMBERS, name=WORDS,
)  # fmt: skip


@given(REPORTS)
def test_a_report_survives_json(report):
    # By repr, because NaN does not equal itself; it tells tuples from lists and numbers from words, too.
    assert repr(CheckReport.from_json(report.to_json())) == repr(report)


@given(REPORTS)
def test_the_json_is_strict_and_on_one_line(report):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = report.to_json()
    assert isinstance(json.loads(text, parse_constant=refuse), dict)
    assert len(text.splitlines()) == 1


def compared(judged=Verdict.PASS, reason=Reason.AGREES, difference=0.0, index=(1, 2), **changes):
    return Comparison("d/w", index, "total", 1.0, 3.0, 1e-9, 1e-5, difference, judged, reason, **changes)


def report(*comparisons, **changes):
    return CheckReport(7, Verdict.PASS, Reason.AGREES, {"total": 0.0}, comparisons=comparisons, **changes)


def test_numbers_of_numpy_are_numbers():
    told = report(
        compared(difference=np.float32(0.5), index=(np.int64(3),), position=np.int32(5)),
        seed=np.int64(9),
        loss={"total": np.float64(math.inf)},
    )
    back = CheckReport.from_json(told.to_json())
    assert (back.seed, back.loss["total"]) == (9, math.inf)
    assert (back.comparisons[0].index, back.comparisons[0].position) == ((3,), 5)
    assert back.comparisons[0].relative_difference == 0.5


def test_fields_from_the_future_are_ignored():
    told = report(compared(), diagnoses=(Diagnosis("d/w", "wrong"),))
    fields = json.loads(told.to_json())
    fields["colour"] = {"red": [1, 2]}
    for record in (fields["precision"], fields["coverage"], fields["comparisons"][0], fields["diagnoses"][0]):
        record["colour"] = "red"
    assert repr(CheckReport.from_json(json.dumps(fields))) == repr(told)


MINIMAL = {"step": 1, "verdict": "PASS", "reason": "AGREES", "relative_difference": {}}


def test_fields_from_the_past_get_their_defaults():
    assert CheckReport.from_json(json.dumps(MINIMAL)) == CheckReport(1, Verdict.PASS, Reason.AGREES, {})


MALFORMED = [
    ("nothing", ""),
    ("no JSON", "loss: 0.1"),
    ("cut off", json.dumps(MINIMAL)[:-1]),
    ("a list", "[]"),
    ("a number", "5"),
    ("null", "null"),
    ("no fields", "{}"),
    ("an unknown verdict", json.dumps(MINIMAL | {"verdict": "MAYBE"})),
    ("an unknown reason", json.dumps(MINIMAL | {"reason": "BECAUSE"})),
    ("a word for a number", json.dumps(MINIMAL | {"threshold": "small"})),
    ("a number for a record", json.dumps(MINIMAL | {"precision": 5})),
    ("a number for many records", json.dumps(MINIMAL | {"comparisons": 5})),
    ("numbers for records", json.dumps(MINIMAL | {"comparisons": [5]})),
    ("an incomplete record", json.dumps(MINIMAL | {"comparisons": [{"path": "w"}]})),
    ("deep nesting", "[" * 100_000),
    ("a number of too many digits", '{"step":' + "9" * 5000 + "}"),
]


@pytest.mark.parametrize("text", [m[1] for m in MALFORMED], ids=[m[0] for m in MALFORMED])
def test_what_is_no_report_is_refused_in_four_parts(text):
    with pytest.raises(ValueError, match="must") as caught:
        CheckReport.from_json(text)
    rule, received, expected, advice = "must be one JSON object", "Received: ", "Expected ", "Try "
    message = str(caught.value)
    positions = [message.index(part) for part in (rule, received, expected, advice)]
    assert positions == sorted(positions)
    assert repr(text[:80]) in message


FAILED = [compared(Verdict.FAIL, Reason.MISMATCH, d) for d in (0.1, math.nan, 0.9)]
OPEN = [compared(Verdict.INCONCLUSIVE, r) for r in (Reason.KINK, Reason.NOISE, Reason.NON_FINITE_LOSS)]
VACUOUS = compared(Verdict.INCONCLUSIVE, Reason.VACUOUS)
DECLARED = compared(Verdict.INCONCLUSIVE, Reason.DECLARED)
MIXED = report(FAILED[0], compared(), *OPEN, VACUOUS, FAILED[1], DECLARED, FAILED[2], compared())


def test_failures_come_worst_first():
    assert MIXED.failures == (FAILED[1], FAILED[2], FAILED[0])


def test_vacuous_and_declared_ones_are_not_inconclusive():
    assert MIXED.inconclusive == tuple(OPEN)
    assert MIXED.vacuous == (VACUOUS,)


def test_a_passing_report_is_returned_where_a_failing_one_raises():
    from gradhooks.errors import GradientMismatchError

    passing = report(compared())
    assert passing.raise_on_failure() is passing
    failing = CheckReport(7, Verdict.FAIL, Reason.MISMATCH, {"total": 0.9}, (FAILED[2],))
    with pytest.raises(GradientMismatchError) as caught:
        failing.raise_on_failure()
    assert caught.value.report is failing


@pytest.mark.parametrize(("index", "label"), [((1, 2), "d/w[1, 2]"), ((), "d/w[]"), (None, "d/w")])
def test_a_comparison_says_where_it_is_and_how_far_apart(index, label):
    assert (compared(index=index).label, compared(index=index).gap) == (label, 2.0)


@pytest.mark.parametrize(("seen", "total", "share"), [(0, 0, 0.0), (1, 4, 0.25), (4, 4, 1.0)])
def test_coverage_is_a_share_of_the_variables(seen, total, share):
    assert Coverage(seen, total, 0, 0).share == share


def test_the_slope_along_a_probe_is_the_sum_of_its_parts():
    gradient = np.array([1.0, 10.0, 100.0, 1000.0])
    probe = Probe(1, np.array([2.0, -1.0]))
    assert (probe.slope_of(gradient), probe.stop, probe.is_coordinate) == (-80.0, 3, False)
    assert Probe(3, np.ones(1)).is_coordinate


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_explains_itself(reason):
    assert len(reason.explanation.split()) > 8
    assert str(reason) == reason.name.lower()


@pytest.mark.parametrize(
    "record", [compared(), report(), Probe(0, np.ones(1)), DerivativeEstimate(1.0, 0.0, 0.1, 1.0, 1.0)]
)
def test_records_are_frozen(record):
    field = next(iter(vars(record)))
    with pytest.raises(AttributeError):
        setattr(record, field, 0)
