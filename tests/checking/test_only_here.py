"""A smooth loss whose gradient is wrong at exactly this point, and right beside it.

An operation with a special case at one value does that: equal singular values, a
zero in a product, a tie. It is no kink, and it is not nothing: training starts,
and may stay, there.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.testing import assert_gradients
from tests.corpora import corpus
from tests.corpora.mutants import planted
from tests.known import special

ONLY_HERE = "only_here"
MIXING = np.random.default_rng(1).normal(size=(30, special.OTHERS)) / 3
OTHERS = np.random.default_rng(2).normal(size=special.OTHERS)


def at_special_places(report, places):
    """Returns the comparisons of single special parameters."""
    found = [c for c in report.comparisons if c.index is not None and c.path == "special"]
    assert {c.index[0] for c in found} >= set(places)
    return [c for c in found if c.index[0] in places]


# --- Functions on NumPy arrays


def check(case, special_gradient, is_known=False):
    """Checks a special function beside a logistic loss of other parameters."""

    def loss(p):
        return case.loss(p["special"]) + np.mean(np.logaddexp(0, MIXING @ p["others"]))

    def gradient(p):
        shares = 1 / (1 + np.exp(-(MIXING @ p["others"])))
        return {
            "special": special_gradient(p["special"]),
            "others": MIXING.T @ shares / len(MIXING),
        }

    at = {"special": np.array(case.point), "others": OTHERS}
    return gradhooks.check_function(loss, gradient(at) if is_known else gradient, at)


every_case = pytest.mark.parametrize("case", special.CASES, ids=str)


@every_case
def test_the_formula_is_wrong_at_these_parameters_and_right_beside_them(case):
    point = np.array(case.point)
    gap = np.abs(case.wrong(point) - case.right(point))
    assert set(np.flatnonzero(gap > 0.1)) == set(case.places)
    assert np.all(gap[np.setdiff1d(np.arange(len(point)), case.places)] < 1e-12)
    beside = point + 1e-3 * np.arange(1, len(point) + 1)
    np.testing.assert_allclose(case.wrong(beside), case.right(beside), rtol=1e-12)


@every_case
def test_wrong_at_this_point_alone_is_said_and_does_not_pass(case):
    report = check(case, case.wrong)
    assert report.verdict is Verdict.INCONCLUSIVE, report
    assert str(report.reason) == ONLY_HERE, report
    found = at_special_places(report, case.places)
    assert {c.verdict for c in found} == {Verdict.INCONCLUSIVE}, report
    assert {str(c.reason) for c in found} == {ONLY_HERE}, report


@every_case
def test_no_kink_is_said(case):
    report = check(case, case.wrong)
    assert Reason.KINK not in {c.reason for c in report.comparisons}, report
    assert not any(c.is_kink for c in report.comparisons), report


@every_case
def test_parameters_beside_the_special_ones_agree(case):
    report = check(case, case.wrong)
    reasons = {c.reason for c in report.comparisons if c.path == "others"}
    assert reasons == {Reason.AGREES}, report


@every_case
def test_the_right_gradient_passes(case):
    report = check(case, case.right)
    assert report.verdict is Verdict.PASS, report


@every_case
@pytest.mark.parametrize("factor", [1.001, -1.0, 2.0])
def test_wrong_beside_this_point_too_fails(case, factor):
    report = check(case, lambda p: factor * (case.right(p) + 0.1))
    assert report.verdict is Verdict.FAIL, report
    found = at_special_places(report, case.places)
    assert Verdict.FAIL in {c.verdict for c in found}, report


@every_case
def test_a_gradient_that_is_known_at_this_point_alone_fails(case):
    """Nothing beside it can withdraw the failure."""
    assert check(case, case.wrong, is_known=True).verdict is Verdict.FAIL
    assert check(case, case.right, is_known=True).verdict is Verdict.PASS


def test_the_reason_says_what_it_is():
    reason = Reason[ONLY_HERE.upper()]
    assert "smooth" in reason.headline or "only here" in reason.headline
    assert "kink" not in reason.headline
    for cause in ("singular values", "product", "tie"):
        assert cause in reason.explanation


# --- Layers and models


class Rotation(layers.Layer):
    """The orthogonal matrix that is nearest to a weight."""

    def __init__(self, start, **options):
        super().__init__(**options)
        self.start = start

    def build(self, shape):
        initializer = keras.initializers.Constant(self.start)
        self.special = self.add_weight(self.start.shape, initializer, name="special")

    def call(self, x):
        left, _, right = ops.svd(self.special, full_matrices=False)
        return x @ (left @ right)


class Weighted(layers.Layer):
    """Its inputs times a function of a weight."""

    def __init__(self, function, start, **options):
        super().__init__(**options)
        self.function, self.start = function, start

    def build(self, shape):
        initializer = keras.initializers.Constant(self.start)
        self.special = self.add_weight((shape[-1],), initializer, name="special")

    def call(self, x):
        return x * self.function(tf.convert_to_tensor(self.special))


def divide_growth(w):
    """(exp(w) - 1) / w, whose branch at zero is a constant."""
    is_zero = w == 0
    return ops.where(is_zero, ops.ones_like(w), ops.expm1(w) / ops.where(is_zero, 1.0, w))


def divide_growth_rightly(w):
    """The same; the branch at zero has the right slope."""
    is_zero = w == 0
    return ops.where(is_zero, 1 + w / 2, ops.expm1(w) / ops.where(is_zero, 1.0, w))


def rectify_both(w):
    return ops.relu(w) - ops.relu(-w)


def multiply(w):
    """Each entry times the product of all: TensorFlow's gradient of a product is right."""
    return w + ops.prod(w)


def build(layer):
    """A model of the layer between two others, as a case of the corpora is built."""
    rng = corpus.seeded(0)
    stack = [layers.Dense(3, "tanh", name="below"), layer, layers.Dense(3, name="head")]
    model = corpus.sequential((4,), *stack)
    return model, corpus.features(rng, 16, 4), corpus.features(rng, 16, 3)


def check_layer(layer):
    return gradhooks.check_gradients(*build(layer), samples=64, train_step=False)


STRETCHED = np.diag([1.0, 2.0, 3.0]) + 0.1
SPECIAL_LAYERS = {
    "equal_singular_values": lambda: Rotation(np.eye(3)),
    "a_branch_at_zero": lambda: Weighted(divide_growth, 0.0),
    "two_rectifiers": lambda: Weighted(rectify_both, 0.0),
    "sign_times_magnitude": lambda: Weighted(lambda w: ops.sign(w) * ops.abs(w), 0.0),
}
HEALTHY_LAYERS = {
    "different_singular_values": lambda: Rotation(STRETCHED),
    "a_branch_at_zero": lambda: Weighted(divide_growth_rightly, 0.0),
    "no_branch": lambda: Weighted(divide_growth, 0.3),
    "two_rectifiers": lambda: Weighted(rectify_both, -0.2),
    "zeros_in_a_product": lambda: Weighted(multiply, 0.0),
}
special_layers = pytest.mark.parametrize("name", SPECIAL_LAYERS)


@pytest.mark.usefixtures("unoptimized")
@special_layers
def test_a_layer_that_is_wrong_at_its_first_weights_alone_does_not_pass(name):
    report = check_layer(SPECIAL_LAYERS[name]())
    assert report.verdict is Verdict.INCONCLUSIVE, report
    assert str(report.reason) == ONLY_HERE, report
    found = [c for c in report.comparisons if c.path.endswith("special") and c.index is not None]
    assert ONLY_HERE in {str(c.reason) for c in found}, report
    assert Reason.KINK not in {c.reason for c in report.comparisons}, report


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("name", HEALTHY_LAYERS)
def test_a_layer_with_the_right_gradient_there_passes(name):
    report = check_layer(HEALTHY_LAYERS[name]())
    assert report.verdict is Verdict.PASS, report


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.parametrize("factor", [1.001, 3.0])
def test_a_layer_that_is_wrong_everywhere_fails(factor):
    wrong = planted.scale(factor)
    report = check_layer(Weighted(lambda w: wrong(divide_growth_rightly(w)), 0.0))
    assert report.verdict is Verdict.FAIL, report
    assert any(c.path.endswith("special") for c in report.failures), report


class Shift(layers.Layer):
    """Multiplies by powers of two; TensorFlow's gradient loses the power where the input is 0."""

    def call(self, x):
        return ops.ldexp(x, ops.array([3, 1, -1], "int32"))


def shifted_inputs():
    return np.random.default_rng(0).normal(size=(16, 3)).astype("float32")


def test_assert_gradients_does_not_pass_what_is_wrong_here_alone():
    x = shifted_inputs()
    assert_gradients(Shift(), x)
    x[2] = 0
    with pytest.raises(AssertionError, match=ONLY_HERE) as error:
        assert_gradients(Shift(), x)
    assert Reason[ONLY_HERE.upper()].headline in str(error.value)


@pytest.mark.usefixtures("unoptimized")
@special_layers
def test_assert_gradients_does_not_pass_such_a_layer(name):
    with pytest.raises(AssertionError, match=ONLY_HERE):
        assert_gradients(SPECIAL_LAYERS[name](), shifted_inputs())
