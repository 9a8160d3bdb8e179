"""check_function: hand-written gradients of plain functions, right and wrong."""

import collections
import subprocess
import sys

import numpy as np
import pytest

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.reports.actions import reproduction

Point = collections.namedtuple("Point", ["x", "y"])
RNG = np.random.default_rng(5)
A, B = RNG.normal(size=(3, 4)), RNG.normal(size=4)
MIXING = RNG.normal(size=(30, 4))


def softplus(p):
    return np.mean(np.logaddexp(0, MIXING @ p))


def softplus_gradient(p):
    return MIXING.T @ (1 / (1 + np.exp(-(MIXING @ p)))) / len(MIXING)


def rectified(p):
    return np.sum(np.maximum(MIXING @ p, 0) ** 2) + np.sum(np.abs(p))


def rectified_gradient(p):
    return MIXING.T @ (2 * np.maximum(MIXING @ p, 0)) + np.sign(p)


def nested(p):
    return np.sum(np.sin(p["layers"][0] @ p["out"].y)) + p["layers"][1] ** 3 * p["out"].x[0]


def nested_gradient(p):
    (a, s), out = p["layers"], p["out"]
    slope = np.cos(a @ out.y)
    return {
        "layers": [np.outer(slope, out.y), 3 * s**2 * out.x[0]],
        "out": Point(np.array([s**3, 0.0]), a.T @ slope),
    }


NESTED = {"layers": [A, np.array(0.7)], "out": Point(np.array([0.3, 2.0]), B)}


@pytest.mark.parametrize(
    ("loss", "gradient", "parameters"),
    [
        (softplus, softplus_gradient, B),
        (rectified, rectified_gradient, B),
        (nested, nested_gradient, NESTED),
        (lambda p: p**3, lambda p: 3 * p**2, 1.5),
        (lambda p: float(p[0] @ p[1]), lambda p: (p[1], p[0]), (A[0], A[1])),
        (lambda p: p[0] * p[1], lambda p: [p[1], p[0]], [2.0, 3.0]),
    ],
    ids=["array", "kinks", "nested", "number", "tuple", "list of numbers"],
)
def test_a_right_gradient_passes_and_a_wrong_one_fails(loss, gradient, parameters):
    report = gradhooks.check_function(loss, gradient, parameters)
    assert report.verdict is Verdict.PASS, report
    assert report.relative_difference["total"] < 1e-7

    def times(factor, nested):
        if isinstance(nested, dict):
            return {key: times(factor, value) for key, value in nested.items()}
        if isinstance(nested, (list, tuple)):
            return [times(factor, value) for value in nested]
        return factor * nested

    for factor in (1.001, -1.0, 2.0):
        wrong = gradhooks.check_function(
            loss, lambda p, f=factor: times(f, gradient(p)), parameters
        )
        assert wrong.verdict is Verdict.FAIL, wrong
        known = gradhooks.check_function(loss, times(factor, gradient(parameters)), parameters)
        assert known.verdict is Verdict.FAIL, known


def test_a_gradient_that_was_computed_before_passes():
    assert gradhooks.check_function(nested, nested_gradient(NESTED), NESTED).verdict is Verdict.PASS


def test_every_number_is_checked_or_as_many_as_asked_for():
    report = gradhooks.check_function(nested, nested_gradient, NESTED)
    compared = {c.label for c in report.comparisons if c.index is not None}
    assert len(compared) == report.samples == 12 + 1 + 2 + 4
    few = gradhooks.check_function(nested, nested_gradient, NESTED, samples=5, seed=3)
    assert sum(c.index is not None for c in few.comparisons) == 5
    assert few.seed == 3


def test_paths_join_keys_and_positions():
    report = gradhooks.check_function(nested, nested_gradient, NESTED)
    paths = {c.path: c.index for c in report.comparisons if c.index is not None}
    assert set(paths) == {"layers/0", "layers/1", "out/0", "out/1"}
    assert len(paths["layers/0"]) == 2
    assert paths["layers/1"] == ()
    lone = gradhooks.check_function(softplus, softplus_gradient, B)
    assert {c.path for c in lone.comparisons if c.index is not None} == {"parameters"}


def test_keys_that_give_one_path_are_kept_apart():
    at = {"a/b": np.ones(2), "a": {"b": np.full(3, 2.0)}}

    def loss(p):
        return np.sum(p["a/b"] ** 2) + np.sum(p["a"]["b"] ** 3)

    def gradient(p):
        return {"a/b": 2 * p["a/b"], "a": {"b": 3 * p["a"]["b"] ** 2}}

    report = gradhooks.check_function(loss, gradient, at)
    assert report.verdict is Verdict.PASS, report
    assert {c.path for c in report.comparisons if c.index is not None} == {"a/b", "a/b#2"}


def test_the_wrong_part_is_named():
    def wrong(p):
        gradient = nested_gradient(p)
        gradient["layers"][0][1, 2] *= 1.01
        return gradient

    report = gradhooks.check_function(nested, wrong, NESTED)
    assert {c.label for c in report.failures if c.index is not None} == {"layers/0[1, 2]"}


@pytest.mark.parametrize("is_known", [False, True])
def test_a_kink_is_not_a_failure(is_known):
    at = np.array([0.0, 1.0, -2.0])

    def subgradient(p):
        return np.where(p == 0, 0.5, np.sign(p))

    gradient = subgradient(at) if is_known else subgradient
    report = gradhooks.check_function(lambda p: np.sum(np.abs(p)), gradient, at)
    assert report.verdict is not Verdict.FAIL, report
    assert Reason.KINK in {c.reason for c in report.comparisons}


@pytest.mark.parametrize("is_known", [False, True])
def test_dead_units_are_not_a_failure(is_known):
    at = {"dead": np.full(6, -1.0), "live": np.full(4, 0.5)}

    def loss(p):
        return np.sum(np.maximum(p["dead"], 0) ** 2) + np.sum(p["live"] ** 2)

    def gradient(p):
        return {"dead": 2 * np.maximum(p["dead"], 0), "live": 2 * p["live"]}

    report = gradhooks.check_function(loss, gradient(at) if is_known else gradient, at)
    assert report.verdict is Verdict.PASS, report


@pytest.mark.parametrize("is_known", [False, True])
def test_a_missing_gradient_is_found(is_known):
    def forgotten(p):
        return {"a": 2 * p["a"], "b": np.zeros_like(p["b"])}

    at = {"a": A, "b": B}
    gradient = forgotten(at) if is_known else forgotten
    report = gradhooks.check_function(lambda p: np.sum(p["a"] ** 2) + p["b"] @ p["b"], gradient, at)
    assert {c.path for c in report.failures if c.index is not None} == {"b"}
    assert Reason.BLOCKED in {c.reason for c in report.failures}


def test_what_is_passed_is_not_written_to():
    parameters = {"w": B.copy()}

    def overwriting(p):
        value = np.sum(p["w"] ** 2)
        p["w"][:] = np.nan
        return value

    report = gradhooks.check_function(overwriting, lambda p: {"w": 2 * p["w"]}, parameters)
    assert report.verdict is Verdict.PASS
    assert np.array_equal(parameters["w"], B)


def test_a_buffer_that_is_used_again_does_no_harm():
    buffer = np.empty(4)

    def gradient(p):
        return np.multiply(2, p, out=buffer)

    assert gradhooks.check_function(lambda p: p @ p, gradient, B).verdict is Verdict.PASS


def test_a_loss_in_float32_is_measured_with_its_own_noise():
    def loss(p):
        return np.float32(softplus(p))

    report = gradhooks.check_function(loss, softplus_gradient, B)
    assert report.verdict is not Verdict.FAIL, report
    assert report.precision.level == "model"
    wrong = gradhooks.check_function(loss, lambda p: 1.5 * softplus_gradient(p), B)
    assert wrong.verdict is Verdict.FAIL, wrong


def test_functions_of_tensorflow_can_be_checked():
    tf = pytest.importorskip("tensorflow")

    def loss(p):
        return tf.reduce_sum(tf.sin(p) ** 2)

    def gradient(p):
        p = tf.convert_to_tensor(p)
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = loss(p)
        return tape.gradient(value, p)

    for parameters in (tf.Variable(A), tf.constant(A), A):
        report = gradhooks.check_function(loss, gradient, parameters)
        assert report.verdict is Verdict.PASS, report
        assert report.precision.level == "float64"


class Tensor:
    """Behaves as a tensor of PyTorch does towards a caller that does not know it."""

    def __init__(self, values, dtype="float32", requires_grad=True):
        self.values, self.requires_grad = np.asarray(values, dtype), requires_grad

    def detach(self):
        return Tensor(self.values, self.values.dtype, False)

    def cpu(self):
        return self

    def double(self):
        return Tensor(self.values, "float64", self.requires_grad)

    def new_tensor(self, values):
        return Tensor(values, self.values.dtype, False)

    def __array__(self, dtype=None, copy=None):
        assert not self.requires_grad, "Can't call numpy() on Tensor that requires grad."
        return np.array(self.values, dtype)


def test_tensors_stay_tensors_in_float64():
    seen = set()

    def loss(p):
        seen.add((type(p), p.values.dtype.name))
        return Tensor(np.sum(p.values**2), "float64")

    report = gradhooks.check_function(loss, lambda p: Tensor(2 * p.values, "float64"), Tensor(B))
    assert report.verdict is Verdict.PASS, report
    assert seen == {(Tensor, "float64")}


WRONG_INPUTS = {
    "a gradient of another shape": (
        {"gradient": lambda p: np.zeros(3)},
        "shape \\(3,\\)",
    ),
    "a gradient with another key": ({"gradient": lambda p: {"w": p}}, "arrays at \\['w'\\]"),
    "no gradient": ({"gradient": lambda p: None}, "gradient"),
    "a loss that is no scalar": ({"loss": lambda p: p}, "one real number"),
    "a complex loss": ({"loss": lambda p: 1j}, "one real number"),
    "a loss that is NaN": ({"loss": lambda p: np.nan}, "finite"),
    "a loss that is a number": ({"loss": 3.0}, "a function"),
    "integers": ({"parameters": np.arange(4)}, "int64"),
    "words": ({"parameters": ["a", "b"]}, "floats"),
    "nothing": ({"parameters": {}}, "at least one number"),
    "NaN": ({"parameters": np.array([np.nan, 1.0])}, "1 entries"),
    "samples": ({"samples": 0}, "samples"),
    "threshold": ({"threshold": -1.0}, "threshold"),
    "seed": ({"seed": -1}, "seed"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_bad_input_is_told_from_bad_gradients(case):
    changes, words = WRONG_INPUTS[case]
    arguments = {"loss": softplus, "gradient": softplus_gradient, "parameters": B} | changes
    loss, gradient, parameters = (arguments.pop(k) for k in ("loss", "gradient", "parameters"))
    with pytest.raises(gradhooks.BadInputError, match=words) as raised:
        gradhooks.check_function(loss, gradient, parameters, **arguments)
    assert "Received: " in str(raised.value)
    assert "Try " in str(raised.value)


def test_what_the_functions_raise_passes_through():
    def failing(p):
        raise KeyError("W7")

    with pytest.raises(KeyError, match="W7"):
        gradhooks.check_function(failing, softplus_gradient, B)


def test_a_failure_says_how_to_reproduce_it():
    report = gradhooks.check_function(softplus, lambda p: 2 * softplus_gradient(p), B, seed=4)
    call = (
        "gradhooks.check_function(loss, gradient, parameters, samples=4, seed=4, threshold=1e-07)"
    )
    assert reproduction(report) == call
    with pytest.raises(gradhooks.GradientMismatchError, match="Reproduce with the same parameters"):
        report.raise_on_failure()
    assert gradhooks.CheckReport.from_json(report.to_json()).checked == "function"


def test_no_framework_is_loaded():
    script = (
        "import sys, numpy as np, gradhooks\n"
        "gradhooks.check_function(lambda p: p @ p, lambda p: 2 * p, np.ones(3))\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch', 'tensorboard'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
