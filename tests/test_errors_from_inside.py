"""An exception in a check is named in its report, and training goes on.

Only bad input stops training, before it begins.
"""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from gradhooks.testing import assert_gradients
from tests import digest, models
from tests.test_bad_input import BAD_ARGUMENTS, BAD_USE, ONLY_OF_THE_CALLBACK
from tests.test_bit_identity import MODES, OWN_KEYS, seeded
from tests.untouched import threads

X, Y = threads.rows(16)


def trained(build, make_check=None, hook=None, **mode):
    """Returns what a training leaves, and the callback; the hook is called within checks only."""
    model = seeded(build, **mode)
    gate = threads.Gate()
    check = make_check and make_check()

    def in_checks(name):
        if hook and gate.is_checking:
            hook(name)

    with threads.hung(in_checks):
        callbacks = gate.around([check]) if check else []
        history = model.fit(
            X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False, callbacks=callbacks
        ).history
    history = {name: values for name, values in history.items() if name not in OWN_KEYS}
    return (digest.digest(model), history), check


@functools.cache
def plain(build, mode="graph"):
    left, _ = trained(build, **MODES[mode])
    return left


def checking(**options):
    return functools.partial(
        gradhooks.GradientCheck, X, Y, **{"freq": 1, "samples": 4, "on_failure": "ignore"} | options
    )


def assert_inconclusive(report, error):
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reason is Reason.ERROR
    assert type(error).__name__ in report.error
    assert str(error.args[-1] if error.args else "").strip("'") in report.error


# The user's own code raises


class OwnLoss(keras.Model):
    def compute_loss(self, *args, **kwargs):
        threads.place("compute_loss")
        return super().compute_loss(*args, **kwargs)


def own_loss(**mode):
    keras.utils.set_random_seed(0)
    x = layers.Input((4,))
    model = OwnLoss(x, layers.Dense(1)(layers.Dense(3, "tanh")(x)))
    model.compile("sgd", "mse", **mode)
    return model


ERRORS = {
    "ValueError": lambda: ValueError("enough"),
    "TypeError": lambda: TypeError("enough"),
    "AssertionError": AssertionError,
    "RuntimeError": lambda: RuntimeError("enough"),
    "InvalidArgumentError": lambda: tf.errors.InvalidArgumentError(None, None, "enough"),
    "KeyError": lambda: KeyError("enough"),
}
BUILDS = dict.fromkeys(("call", "loss", "regularizer"), threads.functional) | {
    "compute_loss": own_loss
}


class Always:
    """A hook that raises whenever a place is reached, and counts."""

    def __init__(self, place, error):
        self._place, self._error, self.count = place, error, 0

    def __call__(self, name):
        if name == self._place:
            self.count += 1
            raise self._error


OFTEN = {
    ("ValueError", "call", "graph", True),
    ("ValueError", "loss", "eager", True),
    ("ValueError", "regularizer", "graph", True),
    ("ValueError", "compute_loss", "graph", True),
    ("AssertionError", "loss", "graph", True),
    ("TypeError", "call", "eager", False),
    ("InvalidArgumentError", "call", "graph", True),
}
RAISED = [
    (e, p, m, s) for e in ERRORS for p in BUILDS for m in ("graph", "eager") for s in (True, False)
]


@pytest.mark.parametrize(
    ("error", "place", "mode", "is_at_start"),
    [pytest.param(*case, marks=[] if case in OFTEN else [pytest.mark.system]) for case in RAISED],
)
def test_training_goes_on(error, place, mode, is_at_start):
    hook = Always(place, ERRORS[error]())
    left, check = trained(BUILDS[place], checking(at_start=is_at_start), hook, **MODES[mode])
    assert left == plain(BUILDS[place], mode)
    assert hook.count
    assert len(check.reports) > 3
    for report in check.reports:
        assert_inconclusive(report, ERRORS[error]())


@pytest.mark.parametrize("mode", ["graph", "eager"])
@pytest.mark.parametrize(
    "error", ["ValueError", pytest.param("KeyError", marks=pytest.mark.system)]
)
def test_training_goes_on_when_the_train_step_raises(error, mode):
    """Nothing but the recording is lost, so that the gradient may pass; the error is reported."""
    hook = Always("train_step", ERRORS[error]())
    left, check = trained(threads.functional, checking(), hook, **MODES[mode])
    assert left == plain(threads.functional, mode)
    assert hook.count
    for report in check.reports:
        assert report.verdict is not Verdict.FAIL
        assert error in str(report)


class Once:
    """A hook that raises from the k-th time that code of the user's is reached."""

    def __init__(self, after):
        self._left = after

    def __call__(self, name):
        self._left -= 1
        if self._left < 0:
            raise ValueError("enough")


@pytest.mark.parametrize("after", [1, pytest.param(7, marks=pytest.mark.system)])
def test_training_goes_on_when_anything_raises_later(after):
    left, check = trained(threads.functional, checking(), Once(after), **MODES["eager"])
    assert left == plain(threads.functional, "eager")
    assert all("enough" in str(r) for r in check.reports[1:])
    assert {r.verdict for r in check.reports} <= {Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL}


def test_one_warning_says_what_was_raised():
    hook = Always("loss", ValueError("enough"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(threads.functional, checking(on_failure="warn"), hook)
    messages = [
        str(w.message) for w in caught if issubclass(w.category, gradhooks.GradientCheckWarning)
    ]
    assert len(messages) == 1
    assert "ValueError: enough" in messages[0]


@pytest.mark.parametrize("precision", ["auto", pytest.param("model", marks=pytest.mark.system)])
@pytest.mark.parametrize("place", BUILDS)
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(e, marks=[] if k in (0, 2) else [pytest.mark.system])
        for k, e in enumerate(ERRORS)
    ],
)
def test_the_function_reports_what_was_raised(error, place, precision):
    model = seeded(BUILDS[place])
    before = digest.digest(model)
    with threads.hung(Always(place, ERRORS[error]())):
        report = gradhooks.check_gradients(model, X, Y, samples=4, precision=precision)
    assert_inconclusive(report, ERRORS[error]())
    assert digest.digest(model) == before


def test_a_test_of_a_layer_says_what_was_raised():
    with (
        threads.hung(Always("call", ValueError("enough"))),
        pytest.raises(AssertionError, match="ValueError: enough"),
    ):
        assert_gradients(threads.Watched(), X)


# The gradient is at fault


def of_shape(gradient_of_factor):
    """Multiplies by a factor for each channel."""

    class Scaling(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

        def call(self, x):
            @tf.custom_gradient
            def scaled(x, factor):
                return x * factor, lambda g: (g * factor, gradient_of_factor(g * x))

            # Through the product a tape brings a scalar to the shape of the factor.
            return scaled(
                tf.convert_to_tensor(x),
                self.factor * tf.linspace(tf.cast(0.5, x.dtype), 1.5, x.shape[-1]),
            )

    return Scaling


class Swish(layers.Layer):
    """TensorFlow sums the gradient of `beta` up, whatever its shape."""

    is_scalar = False

    def build(self, shape):
        self.beta = self.add_weight(
            shape=() if self.is_scalar else (shape[-1],), initializer="ones", name="beta"
        )

    def call(self, x):
        spread = 1.0 if self.is_scalar else tf.linspace(tf.cast(0.5, x.dtype), 1.5, x.shape[-1])
        return tf.nn.swish(x, self.beta * spread)


class ScalarSwish(Swish):
    is_scalar = True


class Numbered(layers.Layer):
    """Returns some gradients for its two inputs."""

    count = 2

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        @tf.custom_gradient
        def scaled(x, factor):
            return x * factor, lambda g: (g * factor, tf.reduce_sum(g * x, 0), tf.zeros(()))[
                : self.count
            ]

        return scaled(tf.convert_to_tensor(x), tf.convert_to_tensor(self.factor))


class TooFew(Numbered):
    count = 1


class TooMany(Numbered):
    count = 3


class Refusing(layers.Layer):
    """Its backward pass raises."""

    is_refusing = True

    def call(self, x):
        @tf.custom_gradient
        def passed(x):
            def backward(g):
                if self.is_refusing:
                    raise ValueError("no way back")
                return g

            return tf.identity(x), backward

        return passed(x)


class Willing(Refusing):
    is_refusing = False


class Factor(layers.Layer):
    """Multiplies by the Cholesky factor of a matrix.

    The gradient is NaN where the logarithm of the zeros above the diagonal is taken.
    """

    is_early = True

    def build(self, shape):
        self.root = self.add_weight(shape=(shape[-1], shape[-1]), name="root")

    def call(self, x):
        matrix = self.root @ ops.transpose(self.root) + 0.1 * ops.eye(x.shape[-1], dtype=x.dtype)
        factor = ops.cholesky(matrix)
        logs = ops.diagonal(ops.log(factor)) if self.is_early else ops.log(ops.diagonal(factor))
        self.add_loss(ops.sum(logs))
        return x @ factor


class LaterFactor(Factor):
    is_early = False


class Decomposed(layers.Layer):
    """Uses an operation that has no gradient."""

    def build(self, shape):
        self.matrix = self.add_weight(
            shape=(shape[-1], shape[-1]), initializer=lopsided, name="matrix"
        )

    def decomposed(self):
        return tf.raw_ops.Lu(input=self.matrix, output_idx_type=tf.int32).lu

    def call(self, x):
        return x @ self.decomposed()


def lopsided(shape, dtype=None):
    return ops.convert_to_tensor(
        np.random.default_rng(5).normal(size=shape) + 3 * np.eye(*shape), dtype
    )


class Undecomposed(Decomposed):
    def decomposed(self):
        return ops.exp(0.1 * ops.convert_to_tensor(self.matrix))


class Orthogonal(Decomposed):
    """Uses an operation whose gradient is not made for this case."""

    def decomposed(self):
        return tf.linalg.qr(
            tf.concat([self.matrix, self.matrix * 0.5 + 0.1], 0), full_matrices=True
        ).q[:4, :4]


class Reduced(Decomposed):
    def decomposed(self):
        return tf.linalg.qr(tf.convert_to_tensor(self.matrix)).q


# At fault, and healthy; TensorFlow trains on the first two of those at fault, and on no other.
FAULTS = {
    "swish": (Swish, ScalarSwish),
    "scalar for a vector": (of_shape(tf.reduce_sum), of_shape(lambda g: tf.reduce_sum(g, 0))),
    "matrix for a vector": (of_shape(lambda g: g), of_shape(lambda g: tf.einsum("ij->j", g))),
    "too few": (TooFew, Numbered),
    "too many": (TooMany, Numbered),
    "raises": (Refusing, Willing),
    "NaN in a factor": (Factor, LaterFactor),
    "no gradient": (Decomposed, Undecomposed),
    "half a gradient": (Orthogonal, Reduced),
}


def around(kind, **mode):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(4, "tanh", name="below"),
            kind(name="culprit"),
            layers.Dense(1, name="head"),
        ]
    )
    model.compile("sgd", "mse", **mode)
    return model


def assert_named(report):
    assert report.verdict is Verdict.FAIL, report
    assert "culprit" in " ".join(
        [*(f"{d.path} {d.sentence}" for d in report.diagnoses), *report.notes, report.error or ""]
    )


@pytest.mark.parametrize("mode", ["graph", pytest.param("eager", marks=pytest.mark.system)])
@pytest.mark.parametrize("case", FAULTS)
def test_a_gradient_at_fault_fails_and_its_twin_passes(case, mode):
    wrong, right = FAULTS[case]
    for kind in (wrong, right):
        model = seeded(lambda kind=kind: around(kind, **MODES[mode]))
        before = digest.digest(model)
        report = gradhooks.check_gradients(model, X, Y, samples=8)
        assert digest.digest(model) == before
        if kind is wrong:
            assert_named(report)
        else:
            assert report.verdict is Verdict.PASS, report


@pytest.mark.parametrize("case", ["swish", "raises", "no gradient", "too few"])
def test_a_layer_at_fault_fails_its_test(case):
    wrong, right = FAULTS[case]
    with pytest.raises(AssertionError):
        assert_gradients(wrong(name="culprit"), X)
    assert assert_gradients(right(name="culprit"), X).verdict is Verdict.PASS


@pytest.mark.parametrize("mode", ["graph", "eager"])
@pytest.mark.parametrize(
    "case", ["swish", pytest.param("scalar for a vector", marks=pytest.mark.system)]
)
def test_a_training_on_a_gradient_of_the_wrong_shape_goes_on(case, mode):
    def build(**mode):
        return around(FAULTS[case][0], **mode)

    left, check = trained(build, checking(), **MODES[mode])
    assert left == trained(build, **MODES[mode])[0]
    for report in check.reports:
        assert_named(report)


def test_a_gradient_of_the_wrong_shape_is_reported():
    with pytest.warns(gradhooks.GradientMismatchWarning, match="culprit"):
        trained(lambda: around(Swish), checking(on_failure="warn", freq="epoch"))
    with pytest.raises(gradhooks.GradientMismatchError, match="culprit"):
        trained(lambda: around(Swish), checking(on_failure="raise"))


@pytest.mark.parametrize("case", ["raises", "no gradient"])
def test_what_cannot_be_trained_is_reported_before_training_fails(case):
    check = checking()()
    model = around(FAULTS[case][0])
    with pytest.raises((ValueError, LookupError)):
        model.fit(X, Y, verbose=0, callbacks=[check])
    assert_named(check.reports[0])


# Trainings of a kind that people really do


class Solver:
    """Not a layer, and nothing unusual: the size of the outputs is worked out once."""

    def __init__(self, model):
        self.model, self.size = model, None

    def step(self, x, y):
        with tf.GradientTape() as tape:
            outputs = self.model(x, training=True)
            if self.size is None:
                self.size = tf.cast(tf.size(outputs[0]), tf.float32)
            loss = tf.reduce_mean((outputs - y) ** 2) * self.size
        variables = self.model.trainable_variables
        self.model.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss


class Solved(keras.Sequential):
    def train_step(self, data):
        return {"loss": self.solver.step(*data[:2])}


def solved(**mode):
    keras.utils.set_random_seed(0)
    model = Solved([layers.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(1)])
    model.solver = Solver(model)
    model.compile("sgd", **mode)
    return model


def squares(model, x, y, sample_weight, training):
    return tf.reduce_mean((model(x) - tf.cast(y, model.compute_dtype)) ** 2)


class Spectral(layers.Layer):
    """Scales the frequencies of its inputs, with a hand-written gradient for input and variable."""

    error = 1.0

    def build(self, shape):
        self.kernel = self.add_weight(
            shape=(shape[-1] // 2 + 1,), initializer="ones", name="kernel"
        )

    def call(self, x):
        count = x.shape[-1]
        numbers = np.arange(count)
        waves = np.exp(-2j * np.pi * np.outer(numbers, np.arange(count // 2 + 1)) / count)
        twice = np.where(np.isin(np.arange(count // 2 + 1), (0, count / 2)), 1.0, 2.0)
        real, imaginary = (tf.constant(part, x.dtype) for part in (waves.real, waves.imag))
        back = tf.constant(twice / count, x.dtype)

        @tf.custom_gradient
        def filtered(x):
            scale = tf.convert_to_tensor(self.kernel) * back

            def applied(v):
                return (v @ real * scale) @ tf.transpose(real) + (
                    v @ imaginary * scale
                ) @ tf.transpose(imaginary)

            def backward(g, variables=None):
                of_kernel = (
                    tf.reduce_sum((g @ real) * (x @ real) + (g @ imaginary) * (x @ imaginary), 0)
                    * back
                )
                return applied(g), [self.error * of_kernel]

            return applied(x), backward

        return filtered(tf.convert_to_tensor(x))


class WrongSpectral(Spectral):
    error = 1.01


class Steered(layers.Layer):
    """Decides by a number that it reads, which only eager code can."""

    def call(self, x):
        return x * 2 if float(tf.reduce_mean(x).numpy()) > 0 else x * 3

    def compute_output_shape(self, shape):
        return shape


def narrow_loss(y, outputs):
    assert outputs.dtype == tf.float32
    return tf.reduce_mean((outputs - y) ** 2, -1)


def strict_loss(y, outputs):
    if outputs.dtype != tf.float32:
        raise ValueError("outputs must be float32")
    return tf.reduce_mean((outputs - y) ** 2, -1)


def converting_loss(y, outputs):
    return tf.reduce_mean(
        (tf.convert_to_tensor(outputs, tf.float32) - tf.cast(y, tf.float32)) ** 2, -1
    )


def with_loss(loss):
    def build(**mode):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(1)])
        model.compile("adam", loss, **mode)
        return model

    return build


# How to build it, what to check, and the verdicts that it may get.
HEALTHY = (Verdict.PASS, Verdict.INCONCLUSIVE)
WRONG = (Verdict.FAIL, Verdict.INCONCLUSIVE)
TRAININGS = {
    "a helper that keeps a tensor": (solved, {"loss_fn": squares}, HEALTHY, ("graph", "eager")),
    "a spectral layer": (lambda **mode: around(Spectral, **mode), {}, HEALTHY, ("graph", "eager")),
    "a wrong spectral layer": (
        lambda **mode: around(WrongSpectral, **mode),
        {},
        WRONG,
        ("graph", "eager"),
    ),
    "a loss that asserts float32": (with_loss(narrow_loss), {}, HEALTHY, ("graph", "eager")),
    "a loss that refuses float64": (with_loss(strict_loss), {}, HEALTHY, ("graph",)),
    "a loss that converts": (with_loss(converting_loss), {}, HEALTHY, ("graph",)),
    "eager control flow": (lambda **mode: around(Steered, **mode), {}, HEALTHY, ("eager",)),
}


SELDOM = [
    ("a spectral layer", "eager"),
    ("a loss that asserts float32", "graph"),
    ("a loss that asserts float32", "eager"),
    ("a wrong spectral layer", "graph"),
    ("a wrong spectral layer", "eager"),
    ("a loss that converts", "graph"),
]


@pytest.mark.parametrize("is_at_start", [True, pytest.param(False, marks=pytest.mark.system)])
@pytest.mark.parametrize(
    ("case", "mode"),
    [
        pytest.param(case, mode, marks=[pytest.mark.system] if (case, mode) in SELDOM else [])
        for case, (*_, modes) in TRAININGS.items()
        for mode in modes
    ],
)
def test_trainings_go_on(case, mode, is_at_start):
    build, options, verdicts, _ = TRAININGS[case]
    left, check = trained(build, checking(at_start=is_at_start, **options), **MODES[mode])
    assert left == trained(build, **MODES[mode])[0]
    assert {r.verdict for r in check.reports} <= set(verdicts), check.reports[0]
    assert check.reports


@pytest.mark.parametrize("case", TRAININGS)
def test_the_function_reports_on_them_too(case):
    build, options, verdicts, modes = TRAININGS[case]
    model = seeded(build, **MODES[modes[0]])
    model.train_on_batch(X, Y)
    keras.random.uniform(())
    before = digest.digest(model)
    report = gradhooks.check_gradients(model, X, Y, samples=4, **options)
    assert report.verdict in verdicts, report
    assert digest.digest(model) == before
    model.train_on_batch(X, Y)


# Bad input


def test_bad_input_has_a_class_of_its_own():
    assert issubclass(gradhooks.BadInputError, ValueError)
    assert gradhooks.BadInputError is not ValueError
    assert "BadInputError" in gradhooks.__all__


@pytest.mark.parametrize(("name", "value"), BAD_ARGUMENTS)
def test_bad_arguments_are_bad_input(name, value):
    with pytest.raises(gradhooks.BadInputError, match=name):
        gradhooks.GradientCheck(X, Y, **{name: value})
    if name not in ONLY_OF_THE_CALLBACK:
        with pytest.raises(gradhooks.BadInputError, match=name):
            gradhooks.check_gradients(own_loss(), X, Y, **{name: value})


@pytest.mark.parametrize("case", BAD_USE)
def test_bad_use_is_bad_input(case):
    build, x, y, words = BAD_USE[case]
    given = [(b for b in ()) if case == "empty generator" else x for _ in range(2)]
    model = build()
    check = gradhooks.GradientCheck(given[0], y)
    with pytest.raises(gradhooks.BadInputError, match=words):
        model.fit(*models.data((10,), (1,), 0), verbose=0, callbacks=[check])
    assert int(model.optimizer.iterations) == 0
    with pytest.raises(gradhooks.BadInputError, match=words):
        gradhooks.check_gradients(model, given[1], y)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((abs, X), {}),
        ((layers.Dense(2), X, Y), {}),
        ((layers.Dense(2), X), {"samples": 0}),
        ((layers.Dense(2), X * np.inf), {}),
        ((layers.Lambda(lambda x: ops.argmax(x)), X), {}),
    ],
)
def test_bad_input_to_the_test_of_a_layer(arguments, options):
    with pytest.raises(gradhooks.BadInputError):
        assert_gradients(*arguments, **options)


def vector_loss(**mode):
    return with_loss(keras.losses.MeanSquaredError(reduction="none"))(**mode)


def test_bad_input_that_shows_later_stops_nothing():
    with pytest.raises(gradhooks.BadInputError, match="scalar"):
        trained(vector_loss, checking())
    left, check = trained(vector_loss, checking(at_start=False))
    assert left == trained(vector_loss)[0]
    for report in check.reports:
        assert report.verdict is Verdict.INCONCLUSIVE
        assert "scalar" in report.error
