"""The warning that somebody reads at night: exact text once, then its parts."""

import ast
import math
import pickle

import numpy as np
import pytest

from gradhooks.errors import GradientMismatchError
from gradhooks.numerics.records import CheckReport, Comparison, Diagnosis, Precision, Reason, Verdict
from gradhooks.reporting.message import CAUSE_LINES, SHOWN, error_message, failure_message, reproduction


def failed(path="dense/kernel", index=(3, 4), reason=Reason.MISMATCH, **changes):
    numbers = {"analytic": 0.5, "numeric": 1.0, "error": 1e-3, "step": 2e-4, "relative_difference": 1 / 3}
    return Comparison(path, index, **{"term": "total", **numbers, **changes}, verdict=Verdict.FAIL, reason=reason)


def report(*comparisons, reason=Reason.MISMATCH, **changes):
    settings = {"threshold": 0.01, "samples": 32, "seed": 5, **changes}
    return CheckReport(1200, Verdict.FAIL, reason, {"total": 1 / 3}, comparisons, **settings)


BLOCKED = Diagnosis("dense/bias", "the gradient is zero: look for stop_gradient")
CULPRIT = Diagnosis("dense/kernel", "analytic = 0.5 * numeric: a factor 2 is missing", is_culprit=True)

MESSAGE = """
gradient check failed at step 1200 (gradcheck): dense/kernel: analytic = 0.5 * numeric: a factor 2 is missing
  dense/kernel[3, 4], term total: mismatch
    analytic  5.000000000e-01
    numeric  -1.000000000e+00 +- 1.0e-03 (step 2.0e-04, precision float64, seed 5)
    gap       1.500000000e+00, allowed 1.6e-02 = threshold 0.01 * size of the derivative + error bar
What to do:
  dense/bias: the gradient is zero: look for stop_gradient
  mismatch: {mismatch}
Reproduce with the same weights and batch: \
gradhooks.check_gradients(model, x, y, samples=32, seed=5, step=1200, threshold=0.01)
"""


def test_the_whole_message():
    text = failure_message(report(failed(numeric=-1.0, allowed=0.016), diagnoses=(BLOCKED, CULPRIT)))
    assert text == MESSAGE.strip().format(mismatch=Reason.MISMATCH.explanation)


def first_line(told):
    return failure_message(told).splitlines()[0].removeprefix("gradient check failed at step 1200 (gradcheck): ")


@pytest.mark.parametrize(
    ("told", "finding"),
    [
        (
            report(failed(), diagnoses=(BLOCKED,)),
            "dense/bias: the gradient is zero: look for stop_gradient",
        ),
        (
            report(failed("slight", relative_difference=0.1), failed("gross", relative_difference=0.9)),
            "gross[3, 4]: the analytic derivative is wrong",
        ),
        (
            report(failed("*", None, Reason.BLOCKED)),
            "all variables together: the loss depends on this parameter but its gradient is zero",
        ),
        (report(reason=Reason.MISMATCH), Reason.MISMATCH.explanation),
    ],
    ids=["diagnosis", "worst failure", "direction", "nothing but a verdict"],
)
def test_the_first_line_says_what_and_where(told, finding):
    assert first_line(told) == finding


def test_every_reason_is_explained_once():
    reasons = (Reason.MISMATCH, Reason.BLOCKED, Reason.NON_FINITE_GRADIENT, Reason.UNDECLARED_MATCH)
    text = failure_message(report(*(failed(reason=reason) for reason in reasons * 2), diagnoses=(CULPRIT,)))
    for reason in reasons:
        assert text.count(reason.explanation) == 1


@pytest.mark.parametrize("extra", [0, 1, 4])
def test_failures_and_diagnoses_beyond_the_worst_are_counted(extra):
    count = SHOWN + extra
    others = tuple(Diagnosis(f"v{i}", "blocked") for i in range(count))
    text = failure_message(report(*(failed(index=(i,)) for i in range(count)), diagnoses=(CULPRIT, *others)))
    assert text.count("analytic  ") == SHOWN
    assert text.count(": blocked") == SHOWN
    assert (f"... and {extra} more failures" in text) == (extra > 0)
    assert (f"... and {extra} more diagnoses" in text) == (extra > 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, {"samples": 32, "seed": 5, "step": 1200, "threshold": 0.01}),
        ({"threshold": np.float64(1e-6)}, {"samples": 32, "seed": 5, "step": 1200, "threshold": 1e-6}),
        ({"threshold": math.nan}, {"samples": 32, "seed": 5, "step": 1200}),
        ({"threshold": math.inf, "seed": np.int64(3)}, {"samples": 32, "seed": 3, "step": 1200}),
    ],
)
def test_the_line_that_reproduces_is_python_with_the_same_settings(changes, told):
    call = ast.parse(reproduction(report(**changes)), mode="eval").body
    assert ast.unparse(call.func) == "gradhooks.check_gradients"
    assert [argument.id for argument in call.args] == ["model", "x", "y"]
    assert {k.arg: ast.literal_eval(k.value) for k in call.keywords} == told


def test_names_cannot_forge_lines():
    forged = failed("a\nb\x1b[2J", term="total")
    text = failure_message(report(forged, precision=Precision("x\ny"), name="n\nm"))
    assert r"a\nb\x1b[2J[3, 4]" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_gradient_that_is_not_a_number_is_told_as_such():
    text = failure_message(report(failed(analytic=math.nan, relative_difference=math.nan)))
    assert "    analytic  nan\n" in text


def errored(error):
    return CheckReport(7, Verdict.INCONCLUSIVE, Reason.ERROR, {}, samples=32, error=error)


def test_error_message_names_cause_remedy_and_the_line_that_reproduces():
    first, *rest = error_message(errored("ValueError: bad batch\n  in x")).splitlines()
    assert first == "gradient check could not be carried out at step 7 (gradcheck): ValueError: bad batch"
    assert rest[0] == "    in x"
    assert rest[1].startswith("Training was not touched")
    assert rest[2].startswith("What to try: ")
    assert rest[3].endswith("gradhooks.check_gradients(model, x, y, samples=32, seed=0, step=7)")


def test_error_message_without_a_cause_gives_the_reason():
    for empty in ("", " \n"):
        assert error_message(errored(empty)).splitlines()[0].endswith(Reason.ERROR.explanation)


@pytest.mark.parametrize("extra", [0, 3])
def test_a_long_cause_is_cut(extra):
    text = error_message(errored("\n".join(["first", *(f"frame \x1b {i}" for i in range(CAUSE_LINES + extra))])))
    assert text.count(r"frame \x1b") == CAUSE_LINES
    assert (f"... and {extra} more lines" in text) == (extra > 0)


def test_the_error_to_raise_carries_message_and_report_through_pickle():
    told = report(failed(), diagnoses=(CULPRIT,))
    with pytest.raises(GradientMismatchError, match="a factor 2 is missing") as caught:
        told.raise_on_failure()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == failure_message(told)
    assert copy.report.to_json() == told.to_json()
