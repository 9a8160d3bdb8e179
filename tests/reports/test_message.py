"""The warning that somebody reads at night: exact text once, then its parts."""

import ast
import fnmatch
import math
import pickle
import re

import numpy as np
import pytest

from gradhooks.reports.circumstances import Precision
from gradhooks.reports.errors import GradientMismatchError
from gradhooks.reports.message import (
    CAUSE_LINES,
    SHOWN,
    declaration,
    error_message,
    failure_message,
    reproduction,
)
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Culprit, DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport


def failed(path="dense/kernel", index=(3, 4), reason=Reason.MISMATCH, **changes):
    numbers = {
        "analytic": 0.5,
        "numeric": 1.0,
        "error": 1e-3,
        "step_size": 2e-4,
        "relative_difference": 1 / 3,
    }
    return DerivativeComparison(
        path, index, **{"term": "total", **numbers, **changes}, verdict=Verdict.FAIL, reason=reason
    )


def report(*comparisons, reason=Reason.MISMATCH, **changes):
    settings = {"threshold": 0.01, "samples": 32, "seed": 5, **changes}
    return CheckReport(1200, Verdict.FAIL, reason, {"total": 1 / 3}, comparisons, **settings)


BLOCKED = Diagnosis("dense/bias", "the gradient is zero: look for stop_gradient")
CULPRIT = Diagnosis(
    "dense/kernel", "analytic = 0.5 * numeric: a factor 2 is missing", is_leading=True
)

MESSAGE = """
gradient check failed at step 1200 (gradcheck): dense/kernel: \
analytic = 0.5 * numeric: a factor 2 is missing
  dense/kernel[3, 4], term total: mismatch
    analytic  5.000000000e-01
    numeric  -1.000000000e+00 +- 1.0e-03 (step 2.0e-04, precision float64, seed 5)
    gap       1.500000000e+00, allowed 1.6e-02 = threshold 0.01 * size of the derivative + error bar
What to do:
  dense/bias: the gradient is zero: look for stop_gradient
  mismatch: {mismatch}
  If it is meant: expect={{'dense/kernel': 'mismatch'}}
Reproduce with the same weights and batch: \
gradhooks.check_gradients(model, x, y, samples=32, seed=5, step=1200, threshold=0.01)
"""


def test_the_whole_message():
    text = failure_message(
        report(failed(numeric=-1.0, allowed=0.016), diagnoses=(BLOCKED, CULPRIT))
    )
    assert text == MESSAGE.strip().format(mismatch=Reason.MISMATCH.explanation)


def first_line(told):
    return (
        failure_message(told)
        .splitlines()[0]
        .removeprefix("gradient check failed at step 1200 (gradcheck): ")
    )


@pytest.mark.parametrize(
    ("told", "finding"),
    [
        (
            report(failed(), diagnoses=(BLOCKED,)),
            "dense/bias: the gradient is zero: look for stop_gradient",
        ),
        (
            report(
                failed("slight", relative_difference=0.1), failed("gross", relative_difference=0.9)
            ),
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
    text = failure_message(
        report(*(failed(reason=reason) for reason in reasons * 2), diagnoses=(CULPRIT,))
    )
    for reason in reasons:
        assert text.count(reason.explanation) == 1


@pytest.mark.parametrize("extra", [0, 1, 4])
def test_failures_and_diagnoses_beyond_the_worst_are_counted(extra):
    count = SHOWN + extra
    others = tuple(Diagnosis(f"v{i}", f"blocked by {i}") for i in range(count))
    text = failure_message(
        report(*(failed(index=(i,)) for i in range(count)), diagnoses=(CULPRIT, *others))
    )
    assert text.count("analytic  ") == SHOWN
    assert text.count(": blocked") == SHOWN
    assert (f"... and {extra} more failures" in text) == (extra > 0)
    assert (f"... and {extra} more diagnoses" in text) == (extra > 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, {"samples": 32, "seed": 5, "step": 1200, "threshold": 0.01}),
        (
            {"threshold": np.float64(1e-6)},
            {"samples": 32, "seed": 5, "step": 1200, "threshold": 1e-6},
        ),
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
    numbers = {"analytic": math.nan, "relative_difference": math.nan, "allowed": math.nan}
    text = failure_message(report(failed(**numbers, reason=Reason.NON_FINITE_GRADIENT)))
    assert "    analytic  NaN\n    numeric   1.000000000e+00 +- 1.0e-03 (step" in text
    assert not re.search(r"\bnan\b|gap|allowed|meant", text)


def test_diagnoses_in_the_same_words_are_one():
    others = (
        Diagnosis("v0", CULPRIT.sentence),
        *(Diagnosis(f"v{i}", "blocked") for i in range(1, 7)),
    )
    told = report(failed(), diagnoses=(CULPRIT, *others))
    text = failure_message(told)
    assert "What to do:\n  v0: the same\n  v1, v2, v3 and 3 more: blocked\n  mismatch: " in text
    assert text.count(CULPRIT.sentence) == 1
    lines = str(told).splitlines()
    assert f"diagnosis: dense/kernel, v0: {CULPRIT.sentence}" in lines
    assert "diagnosis: v1, v2, v3 and 3 more: blocked" in lines


def received(**changes):
    """A comparison of the gradient of a variable with what the optimizer received of it."""
    fields = {
        "path": "dense/kernel",
        "analytic_norm": 3.0,
        "received_norm": 1.0,
        "distance": 2.0,
        "relative_difference": 0.5,
        "reason": Reason.UNTRAINED,
        "allowed": 4.8e-4,
        "rounding": 1e-5,
        "dtype": "float32",
        **changes,
    }
    return GradientComparison(**fields, verdict=Verdict.FAIL)


BACKPROPAGATION = "    ||backpropagation||  3.000000000e+00 (precision float64)\n"
# What is received, and the lines that tell it.
RECEIVED = {
    "the tolerance": (
        {},
        "    ||received||         1.000000000e+00 (float32)\n"
        "    distance             2.000000000e+00, "
        "allowed 4.8e-04 = 1.2e-04 * (both norms), float32\n",
    ),
    "half precision": (
        {"dtype": "bfloat16", "allowed": 0.252},
        "    ||received||         1.000000000e+00 (bfloat16)\n"
        "    distance             2.000000000e+00, "
        "allowed 2.5e-01 = 6.3e-02 * (both norms), bfloat16\n",
    ),
    "a report of before": (
        {"dtype": ""},
        "    ||received||         1.000000000e+00\n"
        "    distance             2.000000000e+00, allowed 4.8e-04 = 1.2e-04 * (both norms)\n",
    ),
    "noise": (
        {"rounding": 0.5, "allowed": 0.5},
        "    ||received||         1.000000000e+00 (float32)\n"
        "    distance             2.000000000e+00, "
        "allowed 5.0e-01 = float32 beside the gradients of other variables\n",
    ),
    "underflow": (
        {"reason": Reason.UNDERFLOW, "dtype": "float16", "zeros": 0.345, "allowed": 9.0},
        "    ||received||         1.000000000e+00 (float16)\n"
        "    distance             2.000000000e+00, 34% of the entries lost to zero\n",
    ),
    "NaN": (
        {
            "reason": Reason.NON_FINITE_GRADIENT,
            "received_norm": math.nan,
            "distance": math.nan,
            "allowed": math.nan,
        },
        "    ||received||         NaN (float32)\n",
    ),
    "infinite": (
        {
            "reason": Reason.NON_FINITE_GRADIENT,
            "received_norm": math.inf,
            "distance": math.inf,
            "allowed": math.inf,
        },
        "    ||received||         inf (float32)\n",
    ),
}


@pytest.mark.parametrize("case", RECEIVED)
def test_the_evidence_of_what_the_optimizer_receives(case):
    changes, lines = RECEIVED[case]
    text = failure_message(report(received(**changes)))
    reason = changes.get("reason", Reason.UNTRAINED)
    assert f", term trained: {reason}\n{BACKPROPAGATION}{lines}What to do:" in text


def test_a_loss_of_training_that_alone_is_not_finite_has_no_norms():
    sentence = "the loss is NaN in float16 and 2.3 in float64: something overflows 65504"
    unknown = dict.fromkeys(("analytic_norm", "received_norm", "distance", "allowed"), math.nan)
    lost = received(path="*", reason=Reason.NON_FINITE_TRAINING, **unknown)
    text = failure_message(report(lost, diagnoses=(Diagnosis("*", sentence, ("trained",)),)))
    first, second, third, *_ = text.splitlines()
    assert first.endswith(f": all variables together: {sentence}")
    assert second == "  all variables together, term trained: non_finite_training"
    assert third == "What to do:"


def test_a_loss_that_moves_in_steps_has_no_error_bar():
    blocked = failed(
        "w", None, Reason.BLOCKED, analytic=0.0, numeric=20.0, error=0.0, step_size=0.5, allowed=0.0
    )
    text = failure_message(report(blocked))
    evidence = (
        "    analytic  0.000000000e+00\n"
        "    the loss moves in steps, by 1.0e+01 where each parameter moves"
    )
    assert evidence in text
    assert "+-" not in text


DECLARED = [
    # what fails: (path, reason), and what to declare
    ([("a/w", Reason.MISMATCH)], {"a/w": "mismatch"}),
    ([("a/w", Reason.BLOCKED)], {"a/w": "blocked"}),
    ([("a/w", Reason.BLOCKED), ("a/w", Reason.MISMATCH)], {"a/w": "mismatch"}),
    (
        [("a/w", Reason.BLOCKED), ("b/w", Reason.MISMATCH), ("*", Reason.MISMATCH)],
        {"a/w": "blocked", "b/w": "mismatch"},
    ),
    ([("a/[w]*?'\n", Reason.MISMATCH)], {"a/[[]w][*][?]'\n": "mismatch"}),
    ([("*", Reason.MISMATCH)], {"path/of/the/variable": "mismatch"}),
]


@pytest.mark.parametrize(("wrong", "expect"), DECLARED)
def test_what_is_meant_can_be_declared(wrong, expect):
    text = failure_message(report(*(failed(path, None, reason) for path, reason in wrong)))
    (line,) = [line for line in text.splitlines() if line.startswith("  If it is meant: expect=")]
    told = ast.literal_eval(line.split("expect=")[1])
    assert told == expect
    for path, _ in wrong:
        assert path == "*" or any(fnmatch.fnmatchcase(path, pattern) for pattern in told)


def test_a_layer_is_declared_with_all_below_it():
    wrong = [failed(f"v{i}", None, Reason.BLOCKED) for i in range(SHOWN + 2)]
    culprit = Culprit("layer", "net/block[0]/cut")
    assert declaration(wrong, culprit) == ["If it is meant: expect={'*/cut': 'blocked'}"]
    loss = Culprit("loss", "mse")
    assert "'v0': 'blocked'" in declaration(wrong, loss)[0]


def test_what_can_be_declared_is_counted():
    text = failure_message(report(*(failed(f"v{i}", None) for i in range(SHOWN + 2))))
    declared = "expect={'v0': 'mismatch', 'v1': 'mismatch', 'v2': 'mismatch'}"
    assert f"{declared}, and so on for 2 more; patterns" in text


@pytest.mark.parametrize(
    "reason",
    [Reason.NON_FINITE_GRADIENT, Reason.GRADIENT_FAILS, Reason.UNDECLARED_MATCH, Reason.UNTRAINED],
)
def test_what_nobody_means_has_nothing_to_declare(reason):
    assert "meant:" not in failure_message(report(failed(reason=reason), reason=reason))


REMEDIED = [
    # error, what there is to try
    (
        "CannotRestoreError: It was not run. Received: model.gen, a map. "
        "Expected state in variables. Try lists.",
        "another batch or precision does not help; change model.gen, a map, so that",
    ),
    (
        "CannotRestoreError: in other words",
        "another batch or precision does not help; change what the message names",
    ),
    (
        "StateWriteError: It writes. Received: operations Assign_3, Add. Expected keras.Variable.",
        "another batch or precision does not help; replace what operations Assign_3, Add write to",
    ),
    (
        "BadInputError: No. Received: y=None. Expected targets. Try y.",
        "change y=None; the message above says what is expected",
    ),
    ("ResourceExhaustedError: OOM {braces}", "use a smaller batch_size"),
    ("MemoryError: ", "use a smaller batch_size"),
    (
        "ValueError: enough. Received: {x}. Expected y",
        "see whether model.train_on_batch takes the batch",
    ),
    ("", "see whether model.train_on_batch takes the batch"),
]


@pytest.mark.parametrize(("error", "remedy"), REMEDIED)
def test_what_to_try_fits_the_error(error, remedy):
    (line,) = [
        line
        for line in error_message(errored(error)).splitlines()
        if line.startswith("What to try: ")
    ]
    assert line.startswith(f"What to try: {remedy}")


def errored(error):
    return CheckReport(7, Verdict.INCONCLUSIVE, Reason.ERROR, {}, samples=32, error=error)


def test_error_message_names_cause_remedy_and_the_line_that_reproduces():
    first, *rest = error_message(errored("ValueError: bad batch\n  in x")).splitlines()
    assert (
        first
        == "gradient check could not be carried out at step 7 (gradcheck): ValueError: bad batch"
    )
    assert rest[0] == "    in x"
    assert rest[1].startswith("Training was not touched")
    assert rest[2].startswith("What to try: ")
    assert rest[3].endswith("gradhooks.check_gradients(model, x, y, samples=32, seed=0, step=7)")


def test_error_message_without_a_cause_gives_the_reason():
    for empty in ("", " \n"):
        assert error_message(errored(empty)).splitlines()[0].endswith(Reason.ERROR.explanation)


@pytest.mark.parametrize("extra", [0, 3])
def test_a_long_cause_is_cut(extra):
    text = error_message(
        errored("\n".join(["first", *(f"frame \x1b {i}" for i in range(CAUSE_LINES + extra))]))
    )
    assert text.count(r"frame \x1b") == CAUSE_LINES
    assert (f"... and {extra} more lines" in text) == (extra > 0)


def test_the_error_to_raise_carries_message_and_report_through_pickle():
    told = report(failed(), diagnoses=(CULPRIT,))
    with pytest.raises(GradientMismatchError, match="a factor 2 is missing") as caught:
        told.raise_on_failure()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == failure_message(told)
    assert copy.report.to_json() == told.to_json()
