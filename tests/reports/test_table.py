"""The table for people: exact text once, then what must hold for any report."""

import math

import hypothesis
import hypothesis.strategies as st
import pytest

from gradhooks.reports.circumstances import Coverage, Precision
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import ROWS, WIDTH, fit_digits, render, worst_first
from gradhooks.reports.text import printable, shorten


def comparison(
    path="dense/kernel", index=(0,), verdict=Verdict.PASS, reason=Reason.AGREES, **changes
):
    numbers = {
        "analytic": 0.5,
        "numeric": 1.0,
        "error": 1.2e-9,
        "step_size": 1e-4,
        "relative_difference": 1 / 3,
    }
    return DerivativeComparison(
        path, index, **{"term": "total", **numbers, **changes}, verdict=verdict, reason=reason
    )


def report(*comparisons, verdict=Verdict.PASS, reason=Reason.AGREES, **changes):
    return CheckReport(7, verdict, reason, {}, comparisons, **changes)


def failed(path="dense/kernel", **changes):
    return comparison(path, verdict=Verdict.FAIL, reason=Reason.MISMATCH, **changes)


WRONG = CheckReport(
    step=1200,
    verdict=Verdict.FAIL,
    reason=Reason.MISMATCH,
    relative_difference={"total": 1 / 3, "data": 1 / 3, "penalty": 2e-10, "trained": 0.34},
    comparisons=(
        comparison(
            "dense/bias", (2,), analytic=1e-5, numeric=1e-5, relative_difference=3e-11, allowed=2e-9
        ),
        GradientComparison(
            "dense/bias",
            analytic_norm=0.5,
            received_norm=1.0,
            distance=0.5,
            relative_difference=1e-9,
            verdict=Verdict.PASS,
            reason=Reason.AGREES,
            allowed=2e-4,
            dtype="float32",
        ),
        failed(
            "model/encoder_block_11/self_attention/query_dense/kernel", index=(3, 4), allowed=2e-7
        ),
        comparison("*", None, Verdict.INCONCLUSIVE, Reason.KINK, analytic=-2.0),
    ),
    diagnoses=(
        Diagnosis(
            "dense/kernel", "analytic = 0.5 * numeric: a factor 2 is missing", is_leading=True
        ),
    ),
    threshold=1e-6,
    precision=Precision(
        "partial", ("pool",), ("Cast_1", "Cast_2", "Cast_3", "Cast_4"), 1e-16, "pool is float32"
    ),
    coverage=Coverage(3, 14, 32, 1000),
    samples=32,
    evaluations=80,
    jitter=1e-9,
    replaced=2,
    trail=("half 1 of the variables disagrees",),
    notes=("sampled anew",),
    seconds=1.234,
)

WRONG_TABLE = r"""
FAIL (mismatch) at step 1200, gradcheck
the place could not be told; the error was measured in dense/kernel: analytic = 0.5 * numeric: a
  factor 2 is missing (it lies there, or nearer to the loss)
relative difference total 3.3e-01, data 3.3e-01, penalty 2.0e-10, trained 3.4e-01; threshold 1.0e-06
     parameter                          term      analytic   numeric    +- allowed rel.diff reason
FAIL model/encode..._dense/kernel[3, 4] total    5.000e-01 1.000e+00 1e-09 2.0e-07  3.3e-01 mismatch
?    all variables together             total   -2.000e+00 1.000e+00 1e-09       -  3.3e-01 kink
ok   dense/bias                         trained  5.000e-01 1.000e+00     - 2.0e-04  1.0e-09 agrees
ok   dense/bias[2]                      total    1.000e-05 1.000e-05 1e-09 2.0e-09  3.0e-11 agrees
trained: norms of the gradient by backpropagation and of what the optimizer receives (float32)
What to do:
  mismatch: the analytic derivative is wrong: it differs from the numeric one by more than the error
  bar and the threshold allow, at several step sizes; look for a custom gradient, a hand-written
  layer or a loss on the path to this parameter
  If it is meant: expect={'model/encoder_block_11/self_attention/query_dense/kernel': 'mismatch'}
Reproduce with the same weights and batch: gradhooks.check_gradients(model, x, y, samples=32,
  seed=0, step=1200, threshold=1e-06)
found by: half 1 of the variables disagrees
note: pool is float32
note: sampled anew
precision partial; native layers: pool; narrow operations: Cast_1, Cast_2, Cast_3 ... and 1 more;
  noise 1.0e-16; coverage 3 of 14 variables; 32 of 1000 parameters; 32 samples; seed 0; 80
  evaluations; 2 probes replaced (kink); jitter 1.0e-09; 1.23 s
"""


def test_the_whole_table():
    assert render(WRONG) == WRONG_TABLE.strip()
    assert str(WRONG) == render(WRONG)


def test_what_is_zero_or_empty_goes_unsaid():
    text = render(report())
    assert "0.00 s" in text
    for unsaid in (
        "parameter  ",
        "kink",
        "vacuous",
        "jitter",
        "noise",
        "native",
        "narrow",
        "error",
        "note",
    ):
        assert unsaid not in text


def test_a_check_that_could_not_be_carried_out_names_its_cause_in_one_line():
    text = render(
        report(verdict=Verdict.INCONCLUSIVE, reason=Reason.ERROR, error="ValueError: a\n\x1b[31mb")
    )
    assert text.splitlines()[0] == "INCONCLUSIVE (error) at step 7, gradcheck"
    assert text.splitlines()[1:] == [
        "relative difference not measured",
        "error: ValueError: a\\n\\x1b[31mb",
        "0 samples; seed 0; 0.00 s",
    ]


@pytest.mark.parametrize(
    ("differences", "threshold", "told"),
    [
        ({"total": math.nan, "data": math.nan}, math.nan, "relative difference not measured"),
        ({"total": math.nan}, 1e-7, "relative difference not measured; threshold 1.0e-07"),
        (
            {"total": math.nan, "penalty": 0.0},
            1e-7,
            "relative difference total unknown, penalty 0.0e+00; threshold 1.0e-07",
        ),
        (
            {"total": None, "data": 1e-9},
            math.inf,
            "relative difference total unknown, data 1.0e-09",
        ),
    ],
)
def test_what_is_not_known_is_no_number(differences, threshold, told):
    report = CheckReport(
        7, Verdict.INCONCLUSIVE, Reason.NON_FINITE_LOSS, differences, threshold=threshold
    )
    assert render(report).splitlines()[1] == told


def test_vacuous_comparisons_are_counted_and_come_last():
    vacuous = comparison(
        "b", verdict=Verdict.INCONCLUSIVE, reason=Reason.VACUOUS, relative_difference=1.0
    )
    text = render(report(vacuous, comparison("a", relative_difference=1e-9)))
    assert "; 1 vacuous;" in " ".join(text.split())
    assert text.index("ok a[0]") < text.index("?  b[0]")


def test_worst_first():
    undecided = comparison(
        "undecided", verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, relative_difference=1
    )
    mixed = [
        comparison("better", relative_difference=1e-12),
        undecided,
        failed("slight", relative_difference=1e-3),
        comparison("worse", relative_difference=1e-8),
        failed("unmeasurable", relative_difference=math.nan),
        failed("gross", relative_difference=0.9),
    ]
    order = [c.path for c in worst_first(mixed)]
    assert order == ["unmeasurable", "gross", "slight", "undecided", "worse", "better"]


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_rows_and_diagnoses_beyond_the_limit_are_counted(extra):
    many = tuple(comparison(index=(i,)) for i in range(ROWS + extra))
    diagnoses = tuple(Diagnosis(f"v{i}", f"blocked by {i}") for i in range(1 + ROWS + extra))
    text = render(report(*many, verdict=Verdict.FAIL, diagnoses=diagnoses))
    assert text.count("dense/kernel[") == ROWS
    assert text.count("\n  v") == ROWS
    assert (f"... and {extra} more comparisons\n" in text) == (extra > 0)
    assert (f"  ... and {extra} more lines\n" in text) == (extra > 0)


@pytest.mark.parametrize("reason", Reason)
def test_a_usual_label_stays_readable_beside_every_reason(reason):
    negative = comparison(
        "dense_12/kernel", (127, 63), reason=reason, term="penalty", analytic=-1.0, numeric=-1.0
    )
    assert "dense_12/kernel[127, 63] penalty" in render(report(negative))


@pytest.mark.parametrize(
    ("length", "digits", "is_whole"),
    [
        (15, 5, True),
        (23, 5, True),
        (24, 4, True),
        (25, 4, True),
        (26, 3, True),
        (27, 3, True),
        (28, 3, False),
    ],
)
def test_digits_give_way_before_names_do(length, digits, is_whole):
    compared = comparison(
        "x" * (length - len("[0]")), reason=Reason.NON_FINITE_GRADIENT, analytic=-1 / 3, allowed=1.0
    )
    assert len(compared.label) == length
    text = render(report(compared))
    assert f" {-1 / 3:.{digits}e} 1.{'0' * digits}e+00 " in text
    assert (compared.label in text) == is_whole


def test_what_nobody_knows_is_a_dash():
    unknown = dict.fromkeys(
        ("analytic", "numeric", "error", "relative_difference", "allowed"), math.nan
    )
    (row,) = fit_digits([failed(**unknown)], WIDTH)
    assert row[3:8] == ("NaN", "NaN", "-", "-", "-")


@pytest.mark.parametrize("norm", [0.25, math.nan])
def test_a_gradient_that_was_not_recorded_is_a_dash(norm):
    missing = GradientComparison(
        "*", norm, math.nan, math.nan, math.nan, Verdict.INCONCLUSIVE, Reason.NOT_RECORDED
    )
    (row,) = fit_digits([missing], WIDTH)
    assert row[3:8] == ("-" if math.isnan(norm) else "2.50000e-01", "-", "-", "-", "-")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dense/kernel", "dense/kernel"),
        ("двойной/ядро", "двойной/ядро"),
        ("two\nlines\r\t\x00", r"two\nlines\r\t\x00"),
        ("\x1b[2Jcleared", r"\x1b[2Jcleared"),
        ("\u202edrawkcab", r"\u202edrawkcab"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


@hypothesis.given(st.text(max_size=80), st.integers(6, 60))
def test_shortened_keeps_both_ends_and_the_width(text, width):
    short = shorten(text, width)
    assert short == text if len(text) <= width else len(short) == width
    assert short[0:1] == text[0:1]
    assert short[-1:] == text[-1:]


ANY_TEXT = st.text(st.characters(), max_size=300)
ANY_PATH = ANY_TEXT | st.just("*")
ANY_GRADIENT = st.builds(
    GradientComparison,
    path=ANY_PATH,
    analytic_norm=st.floats(),
    received_norm=st.floats(),
    distance=st.floats(),
    relative_difference=st.floats(),
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    allowed=st.floats(),
    rounding=st.floats(),
    dtype=ANY_TEXT,
)
ANY_DERIVATIVE = st.builds(
    DerivativeComparison,
    path=ANY_PATH,
    index=st.none() | st.lists(st.integers(0, 10**9), max_size=6).map(tuple),
    term=st.sampled_from(("total", "data", "penalty")),
    analytic=st.floats(),
    numeric=st.floats(),
    error=st.floats(),
    step_size=st.floats(),
    relative_difference=st.floats(),
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    allowed=st.floats(),
)
ANY_REPORT = st.builds(
    CheckReport,
    step=st.integers(0, 10**12),
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    relative_difference=st.dictionaries(
        st.sampled_from(("total", "trained")), st.floats() | st.none()
    ),
    comparisons=st.lists(ANY_DERIVATIVE | ANY_GRADIENT, max_size=20).map(tuple),
    diagnoses=st.lists(st.builds(Diagnosis, ANY_TEXT, ANY_TEXT), max_size=3).map(tuple),
    precision=st.builds(
        Precision, ANY_TEXT, st.lists(ANY_TEXT, max_size=5).map(tuple), noise=st.floats()
    ),
    threshold=st.floats(),
    notes=st.lists(ANY_TEXT, max_size=3).map(tuple),
    jitter=st.floats(),
    seconds=st.floats(),
    error=ANY_TEXT,
    name=ANY_TEXT,
)


@hypothesis.given(ANY_REPORT)
def test_any_report_can_be_shown(anything):
    lines = render(anything).split("\n")
    assert max(map(len, lines)) <= WIDTH
    assert all(line.isprintable() and line.strip() for line in lines)
    assert str(anything.verdict) in lines[0]
