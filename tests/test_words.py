"""What a report says of small broken models, as its reader needs it; their healthy twins pass."""

import ast
import dataclasses
import functools
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.reports.message import error_message, failure_message
from gradhooks.reports.records import EVERYTHING
from gradhooks.testing import assert_gradients
from tests import needs, stepping

RNG = np.random.default_rng(3)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = RNG.normal(size=(16, 4)).astype("float32")
OFF_ZERO = np.array([0.4, -0.7, 1.1, 0.3], "float32")
# A word of its own: numbers that are not finite are never written as numbers.
NAN = re.compile(r"\bnan\b")
WIDTH = 100


class Weighted(layers.Layer):
    """Applies a function to its inputs and a vector of weights."""

    def __init__(self, function, values=OFF_ZERO, **kwargs):
        super().__init__(**kwargs)
        self.function, self.values = function, values

    def build(self, shape):
        initializer = keras.initializers.Constant(np.broadcast_to(self.values, shape[-1:]))
        self.w = self.add_weight(shape=shape[-1:], initializer=initializer, name="w")

    def call(self, x):
        return self.function(x, self.w)

    def compute_output_shape(self, shape):
        return shape


def network(*middle, kind=keras.Sequential, loss="mse", head="glorot_uniform", **options):
    keras.utils.set_random_seed(5)
    stack = [layers.Input((4,)), layers.Dense(4, "tanh", name="below"), *middle]
    model = kind([*stack, layers.Dense(4, kernel_initializer=head, name="head")], name="net")
    model.compile("sgd", loss, **options)
    return model


def around(function, values=OFF_ZERO):
    return network(Weighted(function, values, name="culprit"))


class Stepping(stepping.Stepping, keras.Sequential):
    """Hands a changed gradient to the optimizer."""


class Halved(Stepping):
    def changed(self, gradients):
        return [gradient / 2 for gradient in gradients]


class Spoiled(Stepping):
    def changed(self, gradients):
        return [gradient * np.nan for gradient in gradients]


class PartlySpoiled(Stepping):
    def changed(self, gradients):
        return [*(gradient / 0.0 for gradient in gradients[:2]), *gradients[2:]]


def with_policy(policy, build):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)


@ops.custom_gradient
def exaggerated(x):
    return x * 1.0, lambda g: 1.5 * g


def rooted(shift, y, outputs):
    """A mean square, and the root of zero."""
    below = -1 - outputs**2
    zero = ops.abs(below) + below
    return ops.mean((y - outputs) ** 2, -1) + ops.mean(ops.sqrt(zero + shift), -1)


def straight_through(x, levels):
    return x + ops.stop_gradient(ops.round(x * levels) / levels - x)


def partly_still(x, w):
    """Half of the units are rounded for all but backpropagation."""
    half = ops.convert_to_tensor(np.array([1, 1, 0, 0]), x.dtype)
    return half * straight_through(x * w, 2.0) + (1 - half) * exaggerated(x * w)


def scaled():
    return around(lambda x, w: x * w)


def stepping():
    return network(kind=Stepping)


LAST = "in the loss or behind net/head/bias, the last variable"
SURROGATE = "a straight-through estimator, or a wrong gradient"
NOTHING_RECEIVED = (
    "the optimizer receives NaN or infinite numbers for this variable; "
    "backpropagation in float64 gives "
)

# How to build it broken and healthy, what the first line names, and what the message says.
BROKEN = {
    "a root at zero": (
        lambda: around(lambda x, w: x + ops.sqrt(ops.abs(w)), 0.0),
        lambda: around(lambda x, w: x + ops.sqrt(ops.abs(w))),
        "net/culprit/w",
        [
            "computes a wrong gradient of its weight net/culprit/w: NaN or infinite",
            "look for sqrt, log, division",
        ],
    ),
    "an angle of zero": (
        lambda: around(lambda x, w: x + ops.arccos(ops.clip(w, -1.0, 1.0)), 1.0),
        lambda: around(lambda x, w: x + ops.arccos(ops.clip(w, -1.0, 1.0)), 0.5),
        "net/culprit/w",
        ["acos or asin at +-1; keep their argument away from there"],
    ),
    "a small power": (
        lambda: around(lambda x, w: x + ops.abs(w) ** 0.3, 0.0),
        lambda: around(lambda x, w: x + ops.abs(w) ** 0.3),
        "net/culprit/w",
        ["a norm or a power below 1 at zero"],
    ),
    "a root in the loss": (
        lambda: network(loss=functools.partial(rooted, 0.0)),
        lambda: network(loss=functools.partial(rooted, 0.1)),
        "the loss `rooted`",
        ["has a wrong gradient: NaN or infinite", "4 variables below it inherit the error"],
    ),
    "a train step of NaN": (
        lambda: network(kind=Spoiled),
        stepping,
        "net/head/bias",
        [
            f"{NOTHING_RECEIVED}finite ones: `train_step` makes them, or float32 does, {LAST}",
            "NaN (float32)",
        ],
    ),
    "a train step of some infinities": (
        lambda: network(kind=PartlySpoiled),
        stepping,
        "net/below/bias",
        [
            "or float32 does, behind net/below/bias, the last variable with any",
            "net/below/kernel: the same",
        ],
    ),
    "a halved gradient": (
        lambda: network(kind=Halved),
        stepping,
        "`train_step`",
        [
            "halved",
            "||backpropagation||",
            "(precision float64)",
            "= 1.2e-04 * (both norms), float32",
        ],
    ),
    "a halved gradient in half precision": (
        lambda: with_policy("mixed_bfloat16", lambda: network(kind=Halved)),
        lambda: with_policy("mixed_bfloat16", lambda: network(kind=Stepping)),
        "`train_step`",
        ["halved", "(bfloat16)", "= bfloat16 beside the gradients of other variables"],
    ),
    "a factor": (
        lambda: around(lambda x, w: exaggerated(x * w)),
        scaled,
        "the backward pass of `net/culprit`",
        ["it is 1.5 times the right one", "2 variables below it inherit the error"],
    ),
    "a straight-through estimator": (
        lambda: around(lambda x, w: straight_through(x * w, 2.0)),
        scaled,
        "the backward pass of `net/culprit`",
        [f"the loss does not move: {SURROGATE}"],
    ),
    "half a straight-through estimator": (
        lambda: around(partly_still),
        scaled,
        "net/culprit/w",
        ["the loss does not move at", SURROGATE],
    ),
    "a gradient that is stopped": (
        lambda: around(lambda x, w: ops.stop_gradient(x * w)),
        scaled,
        "`net/culprit`",
        ["zero, although the loss moves", "look for stop_gradient, rounding"],
    ),
    "a gradient behind steps": (
        lambda: around(lambda x, w: ops.round(3 * x * w)),
        lambda: around(lambda x, w: 3 * x * w),
        "`net/culprit`",
        [
            "zero, although the loss moves",
            "the loss moves in steps, by",
            "where each parameter moves by",
        ],
    ),
}
DECLARABLE = (Reason.MISMATCH, Reason.BLOCKED, Reason.UNTRAINED)


@functools.cache
def checked(case):
    return gradhooks.check_gradients(BROKEN[case][0](), X, Y)


def assert_readable(text, report):
    assert not NAN.search(text), text
    assert not NAN.search(str(report)), report
    assert max(map(len, str(report).splitlines())) <= WIDTH


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_is_described_in_words(case):
    report, (_, _, named, words) = checked(case), BROKEN[case]
    assert report.verdict is Verdict.FAIL, report
    text = failure_message(report)
    assert_readable(text, report)
    first = text.splitlines()[0]
    assert first.startswith("gradient check failed at step 0 (gradcheck): "), text
    assert named in first, text
    for expected in words:
        assert expected in text, text


@pytest.mark.parametrize(
    "case", {healthy: case for case, (_, healthy, *_) in BROKEN.items()}.values()
)
def test_its_healthy_twin_has_nothing_to_tell(case):
    report = gradhooks.check_gradients(BROKEN[case][1](), X, Y)
    assert report.verdict is Verdict.PASS, report
    assert not report.diagnoses
    assert not report.notes
    assert_readable("", report)
    header = str(report).splitlines()[2].split()
    assert header[-3:] == ["allowed", "rel.diff", "reason"]


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_meant_is_declared_as_the_message_says(case):
    report = checked(case)
    line = re.search(r"If it is meant: expect=(\{.*\})", failure_message(report))
    assert (line is not None) == any(c.reason in DECLARABLE for c in report.failures)
    if line:
        expect = ast.literal_eval(line[1])
        declared = gradhooks.check_gradients(BROKEN[case][0](), X, Y, expect=expect)
        assert declared.verdict is not Verdict.FAIL, declared
        excused = {c.path for c in declared.comparisons if c.reason is Reason.DECLARED}
        assert excused == {c.path for c in report.failures if c.path != EVERYTHING}


def numbers_of_numpy(value):
    """The types of NumPy among all that a record holds."""
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return {found for member in value for found in numbers_of_numpy(member)}
    return {type(value)} if type(value).__module__ == "numpy" else set()


@pytest.mark.parametrize("case", BROKEN)
def test_every_number_of_a_report_is_one_of_python(case):
    assert numbers_of_numpy([np.float64(1), (np.int64(1),)]) == {np.float64, np.int64}
    assert numbers_of_numpy(checked(case)) == set()


def test_the_evidence_of_what_is_received_adds_up():
    report = checked("a halved gradient")
    lines = failure_message(report).splitlines()
    start = next(k for k, line in enumerate(lines) if "term trained" in line)
    backpropagation, received, distance = (line.split() for line in lines[start + 1 : start + 4])
    norms = float(backpropagation[1]) + float(received[1])
    allowed, share = float(distance[3]), float(distance[5])
    assert float(distance[1].rstrip(",")) == pytest.approx(norms / 3, rel=1e-5)
    assert allowed == pytest.approx(share * norms, rel=0.05)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [("a halved gradient", "float32"), ("a halved gradient in half precision", "bfloat16")],
)
def test_the_dtype_of_training_is_in_the_report(case, dtype):
    comparisons = checked(case).comparisons
    assert {c.dtype for c in comparisons if c.term == "trained"} == {dtype}


@pytest.mark.parametrize("distance", [0.0, 0.5])
def test_nan_in_float64_alone_is_not_called_rounding(distance):
    """A weight and 64 minus 64 is the weight in float64; in float32 some of its digits are gone."""

    def rooted(x, w):
        many = ops.round(64 + ops.mean(x) / 10)  # a constant would be taken out of the sum
        return x + ops.sqrt(
            ops.abs((w + many) - many - ops.convert_to_tensor(OFF_ZERO + distance, x.dtype))
        )

    report = gradhooks.check_gradients(around(rooted), X, Y)
    is_edge = not distance
    assert (report.verdict is not Verdict.PASS) == is_edge, report
    message = (
        "backpropagation in float64 gives NaN or infinite numbers for net/culprit/w, "
        "and the optimizer receives finite"
    )
    assert any(note.startswith(message) for note in report.notes) == is_edge
    assert not any(
        c.path == "net/culprit/w" and c.reason is Reason.ROUNDING for c in report.comparisons
    )
    assert_readable("", report)


# Variables without a gradient


def adapted(x, w):
    """A branch of which the last weights are zero, as adapters begin."""
    return x + w * ops.tanh(x)


UNTOUCHED = {
    # how to build it, and the names on the two lines
    "a zero head": (lambda: network(head="zeros"), "net/below/kernel, net/below/bias", None),
    "a closed gate": (
        lambda: around(lambda x, w: x * w, 0.0),
        "net/below/kernel, net/below/bias, net/head/kernel",
        None,
    ),
    "a gate and a head": (
        lambda: network(Weighted(lambda x, w: x * w, 0.0, name="gate"), head="zeros"),
        "net/below/kernel, net/below/bias, net/gate/w and 1 more",
        None,
    ),
    "an unused layer": (lambda: around(lambda x, w: x), None, "net/culprit/w"),
    "unused layers": (
        lambda: network(*(Weighted(lambda x, w: x + 0 * w, name=f"unused_{k}") for k in range(5))),
        None,
        "net/unused_0/w, net/unused_1/w, net/unused_2/w and 2 more",
    ),
    "both": (
        lambda: network(Weighted(lambda x, w: x, name="unused"), head="zeros"),
        "net/below/kernel, net/below/bias",
        "net/unused/w",
    ),
    "an open gate": (lambda: around(adapted), None, None),
}


@pytest.mark.parametrize("case", UNTOUCHED)
def test_what_no_loss_reaches_and_what_it_reaches_times_zero(case):
    build, zeroed, unreached = UNTOUCHED[case]
    report = gradhooks.check_gradients(build(), X, Y)
    assert report.verdict is Verdict.PASS, report
    notes = [note for note in report.notes if note.startswith("times zero for now: ")]
    assert [note.removeprefix("times zero for now: ").split(" (")[0] for note in notes] == [
        zeroed
    ] * bool(zeroed)
    notes = [note for note in report.notes if note.startswith("no loss reaches ")]
    assert [note.removeprefix("no loss reaches ").split(":")[0] for note in notes] == [
        unreached
    ] * bool(unreached)


def test_times_zero_is_for_now():
    check = gradhooks.GradientCheck(X, Y, freq="epoch")
    network(head="zeros").fit(X, Y, batch_size=8, epochs=1, verbose=0, callbacks=[check])
    before, after = check.reports
    assert [note.startswith("times zero for now: net/below") for note in before.notes] == [True]
    assert not after.notes


# What a warning says while training, and what a failed test says


@pytest.mark.parametrize(
    "case", ["a root at zero", "a halved gradient", "a straight-through estimator"]
)
def test_the_warning_says_the_same(case):
    check = gradhooks.GradientCheck(X, Y)
    with pytest.warns(gradhooks.GradientMismatchWarning) as caught:
        BROKEN[case][0]().fit(X, Y, batch_size=8, verbose=0, callbacks=[check])
    (message,) = [str(w.message) for w in caught if w.category is gradhooks.GradientMismatchWarning]
    assert message == failure_message(check.reports[0])
    for words in BROKEN[case][3]:
        assert words in message


def test_a_failing_test_of_a_layer_says_how_to_declare_what_is_meant():
    layer = Weighted(lambda x, w: straight_through(x * w, 2.0), name="rounded")
    with pytest.raises(AssertionError, match=SURROGATE) as caught:
        assert_gradients(layer, X)
    expect = ast.literal_eval(re.search(r"expect=(\{.*\})", str(caught.value))[1])
    assert set(expect) == {"rounded/w", "inputs"}
    assert not NAN.search(str(caught.value))


class Advancing(layers.Layer):
    """Takes the next of some numbers whenever it runs."""

    def build(self, shape):
        self.numbers = iter(map(float, range(1, 10**6)))

    def call(self, x):
        return x * next(self.numbers)


class Written(layers.Layer):
    """Counts its calls in a variable of TensorFlow."""

    def build(self, shape):
        import tensorflow as tf

        self.count = tf.Variable(0.0)

    def call(self, x):
        self.count.assign_add(1.0)
        return x * 2.0


def refusing(y, outputs):
    raise LookupError("no such loss")


ERRORS = {
    "what cannot be put back": (
        lambda: network(Advancing(name="advancing")),
        r"another batch or precision does not help; change \S*numbers, a map, so that",
    ),
    "what would be written": (
        lambda: network(Written(name="written")),
        r"another batch or precision does not help; "
        r"replace what operations .* write to by a keras.Variable",
    ),
    "what the loss raises": (
        lambda: network(loss=refusing),
        "see whether model.train_on_batch takes the batch",
    ),
}


@pytest.mark.parametrize(
    "case",
    needs.cases_of_tensorflow(ERRORS, "what would be written", what="a variable outside Keras"),
)
def test_a_check_that_ends_with_an_exception_says_what_to_try(case):
    build, remedy = ERRORS[case]
    report = gradhooks.check_gradients(build(), X, Y)
    assert report.reason is Reason.ERROR, report
    (line,) = [
        line for line in error_message(report).splitlines() if line.startswith("What to try: ")
    ]
    assert re.match(f"What to try: {remedy}", line), line
    assert str(report).splitlines()[1] == "relative difference not measured"
    assert "coverage" not in str(report)
    assert "threshold" not in str(report)
    assert_readable(error_message(report), report)


def test_the_remedy_is_named_while_training():
    check = gradhooks.GradientCheck(X, Y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network(Advancing(name="advancing")).fit(X, Y, batch_size=8, verbose=0, callbacks=[check])
    (message,) = [str(w.message) for w in caught if w.category is gradhooks.GradientCheckWarning]
    assert re.search("What to try: another batch or precision does not help", message)
    assert not NAN.search(message)
