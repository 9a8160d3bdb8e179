"""The warning that somebody reads at night: exact text once, then its parts."""

import ast
import dataclasses
import fnmatch
import math
import pickle
import re

import numpy as np
import pytest

from gradhooks.reports.actions import declaration, reproduction
from gradhooks.reports.circumstances import Precision
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.errors import GradientMismatchError
from gradhooks.reports.message import (
    CAUSE_LINES,
    SHOWN,
    SHOWN_EVIDENCE,
    assertion_message,
    error_message,
    failure_message,
)
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis, GradientComparison
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
gradient check failed at step 1200 (gradcheck): the place could not be told; \
the error was measured in dense/kernel: analytic = 0.5 * numeric: a factor 2 is missing \
(it lies there, or nearer to the loss)
Evidence:
  dense/bias: the gradient is zero: look for stop_gradient
  dense/kernel[3, 4], term total: mismatch
    analytic  5.000000000e-01
    numeric  -1.000000000e+00 +- 1.0e-03 (step 2.0e-04, precision float64, seed 5)
    gap       1.500000000e+00, allowed 1.6e-02 = threshold 0.01 * size of the derivative + error bar
What to do:
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


UNTOLD = "the place could not be told; the error was measured in "
NEARER = " (it lies there, or nearer to the loss)"
SWISH = Culprit(
    "layer",
    "net/swish",
    None,
    ("the gradient at its output: right", "the gradient at its input: off by 0.05 of its size"),
    "net.py:12",
    "the backward pass of `net/swish` (Swish, net.py:12) is wrong",
)
ACTIONS = """\
What to do:
  in net.py:12, look for a custom gradient, or another derivative that is written by hand, and \
compare it with the forward pass
  check the layer alone: gradhooks.testing.assert_gradients(layer, x)
"""


def test_innocents_below_a_culprit_are_one_line():
    below = [f"net/v{i}" for i in range(17)]
    told = report(
        *(failed(path, (0,)) for path in below),
        failed("*", None),
        diagnoses=tuple(Diagnosis(path, "points elsewhere") for path in below),
        culprit=dataclasses.replace(SWISH, heirs=tuple(below)),
    )
    text = failure_message(told)
    assert "\n  17 variables below it inherit the error\n" in text
    assert "points elsewhere" not in text + str(told)
    assert text.count("analytic  ") == 1
    assert "\n  ... and 17 more failures, see the report\n" in text
    assert ACTIONS + "  If it is meant: expect={'*/swish': 'mismatch'}\nReproduce" in text
    one = report(failed("net/v0"), culprit=dataclasses.replace(SWISH, heirs=("net/v0",)))
    assert "\n  1 variable below it inherits the error: net/v0\n" in failure_message(one)


def test_errors_that_a_culprit_does_not_explain_are_told_beside_it():
    scale = dataclasses.replace(
        SWISH, path="net/scale", variable="net/scale/w", finding="it is 1/16 of the true one"
    )
    told = report(
        failed("net/scale/w"),
        failed("net/other/w"),
        received(path="net/head/w"),
        diagnoses=(
            Diagnosis("net/scale/w", "it is 1/16 of the true one", is_leading=True),
            Diagnosis("net/other/w", "it is 1/16 of the true one"),
            Diagnosis("net/head/w", "train_step halves it", ("trained",)),
        ),
        culprit=scale,
    )
    text = failure_message(told)
    assert "\n  besides, net/other/w: the same\n" in text
    assert "\n  besides, net/head/w: train_step halves it\n" in text
    assert "net/scale/w: it is" not in text
    assert Reason.UNTRAINED.explanation in text


def test_code_of_an_installed_package_is_said_to_be():
    culprit = dataclasses.replace(SWISH, source="", package="keras 3.15.1")
    text = failure_message(report(failed("net/below/w"), culprit=culprit))
    assert "in `net/swish`, look for a custom gradient" in text
    assert "the code is that of keras 3.15.1: try another version" in text


def test_a_step_is_declared_for_all_variables_at_once():
    step = Culprit("train_step", "train_step", source="net.py:40", sentence="it halves")
    wrong = [received(path=f"v{i}") for i in range(SHOWN + 1)]
    text = failure_message(report(*wrong, culprit=step))
    assert "in net.py:40, take the loss from `self.compute_loss`" in text
    assert "If it is meant: expect={'*': 'untrained'}" in text
    assert Reason.UNTRAINED.explanation not in text


def test_a_failed_test_shows_the_whole_report_and_nothing_twice():
    told = report(failed("net/below/w"), culprit=SWISH, notes=("a note",))
    text = assertion_message(told)
    head, *rest = text.splitlines()
    assert head == f"gradient check failed at step 1200 (gradcheck): {SWISH.sentence}"
    assert rest == str(told).splitlines()[2:]
    for line in (*SWISH.evidence, "a note", "Reproduce with", "If it is meant"):
        assert text.count(line) == 1


def test_what_was_declared_is_in_the_line_that_reproduces():
    told = report(failed(), expect=(("*/cut", "blocked"),))
    assert reproduction(told).endswith("threshold=0.01, expect={'*/cut': 'blocked'})")


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
            f"{UNTOLD}dense/bias: the gradient is zero: look for stop_gradient{NEARER}",
        ),
        (
            report(
                failed("slight", relative_difference=0.1), failed("gross", relative_difference=0.9)
            ),
            f"{UNTOLD}gross[3, 4]: the analytic derivative is wrong",
        ),
        (
            report(failed("*", None, Reason.BLOCKED)),
            f"{UNTOLD}all variables together: the loss depends on this parameter but its gradient "
            "is zero",
        ),
        (report(reason=Reason.MISMATCH), Reason.MISMATCH.explanation),
        (
            report(failed(reason=Reason.UNDECLARED_MATCH)),
            "dense/kernel[3, 4]: `expect` declares a mismatch here, but the gradient agrees",
        ),
        (report(failed("W2"), checked="function"), "W2[3, 4]: the analytic derivative is wrong"),
        (report(failed(), culprit=SWISH), SWISH.sentence),
    ],
    ids=[
        "diagnosis",
        "worst failure",
        "direction",
        "nothing but a verdict",
        "out of date",
        "a function",
        "culprit",
    ],
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
    assert (f"... and {extra} more failures" in text) == (extra > 0)
    more = count - SHOWN_EVIDENCE
    assert text.count(": blocked") == min(count, SHOWN_EVIDENCE)
    assert (f"... and {more} more lines" in text) == (more > 0)


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
    assert "Evidence:\n  v0: the same\n  v1, v2, v3 and 3 more: blocked\n  dense/kernel" in text
    assert text.count(CULPRIT.sentence) == 1
    assert "Evidence:\n  v0: the same\n  v1, v2, v3 and 3 more: blocked\n" in str(told)


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
    first, *rest = text.splitlines()
    assert first.endswith(f"(gradcheck): all variables together: {sentence}")
    evidence = ["Evidence:", "  all variables together, term trained: non_finite_training"]
    assert rest[:3] == [*evidence, "What to do:"]


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
    assert declaration(wrong, loss) == ["If it is meant: expect={'*': 'blocked'}"]


def test_what_can_be_declared_is_counted():
    text = failure_message(report(*(failed(f"v{i}", None) for i in range(SHOWN + 2))))
    declared = "expect={'v0': 'mismatch', 'v1': 'mismatch', 'v2': 'mismatch'}"
    assert f"{declared}, and so on for 2 more; patterns" in text


@pytest.mark.parametrize(
    "reason",
    [Reason.NON_FINITE_GRADIENT, Reason.GRADIENT_FAILS, Reason.UNDECLARED_MATCH],
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
