"""Ten kinds of small networks whose whole gradient is too large by a tiny share.

The last layer hands its inputs on, and multiplies the gradient that comes back
by `1 + excess`, so that every parameter's gradient is wrong by that factor. The
excess is a weight that is not trained: networks of one kind differ in numbers
alone, and `judging.compiled_once` traces each kind once, for all seeds and errors.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
from keras import layers, ops

import gradhooks
from gradhooks import Reason, Verdict
from tests.corpora import corpus, judging
from tests.corpora.mutants import planted

SEEDS = range(10)
# The relative difference is half of these: 1.25, 2.5 and 5 thresholds.
ERRORS = (2.5e-7, 5e-7, 1e-6, -1e-6)
# Kinds with ReLUs, the only ones in which a loss can have a kink.
KINKED = ("relu_mlp", "convolutional")
EXAMPLES, FEATURES, STEPS, CLASSES = 24, 6, 5, 3


class Excess(layers.Layer):
    """The identity, whose gradient is too large by `excess`."""

    def __init__(self, excess, **options):
        super().__init__(**options)
        self._excess = excess
        # float32 holds 1e-6, but not 1 + 1e-6.
        self._planted = planted.function(
            lambda x, excess: ops.copy(x),
            lambda upstream, x, excess: upstream * (1 + excess),
        )

    def build(self, shape):
        initializer = keras.initializers.Constant(self._excess)
        self.excess = self.add_weight((), initializer, trainable=False, name="excess")

    def call(self, x):
        return self._planted(x, ops.cast(ops.convert_to_tensor(self.excess), x.dtype))


def mean_squares():
    return "mse"


def binary_cross_entropy():
    return keras.losses.BinaryCrossentropy(from_logits=True)


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp(activation):
    return [
        layers.Dense(8, activation, name="below"),
        layers.Dense(8, activation, name="above"),
        layers.Dense(CLASSES, name="head"),
    ]


def convolutional():
    return [
        layers.Conv2D(4, 3, activation="relu", name="below"),
        layers.Conv2D(4, 3, activation="relu", name="above"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(CLASSES, name="head"),
    ]


def normalized():
    return [
        layers.Dense(8, name="below"),
        layers.BatchNormalization(name="over_batch"),
        layers.Activation("tanh"),
        layers.Dense(8, name="above"),
        layers.LayerNormalization(name="over_features"),
        layers.Activation("tanh"),
        layers.Dense(CLASSES, name="head"),
    ]


def recurrent():
    return [
        layers.SimpleRNN(6, return_sequences=True, name="below"),
        layers.GRU(6, name="above"),
        layers.Dense(CLASSES, name="head"),
    ]


class SelfAttention(layers.Layer):
    """Attention of a sequence to itself, added to it."""

    def build(self, shape):
        self.inner = layers.MultiHeadAttention(2, 3, name="attention")
        self.inner.build(shape, shape)

    def call(self, x):
        return x + self.inner(x, x)


def attention():
    return [
        SelfAttention(name="block"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(CLASSES, name="head"),
    ]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of network.

    Args:
        name: Unique name; it is also the test's id.
        stack: Makes its layers.
        loss: Makes its loss.
        shape: Shape of one example.
    """

    name: str
    stack: Callable
    loss: Callable
    shape: tuple[int, ...] = (FEATURES,)

    def __str__(self):
        return self.name

    def build(self, seed, excess):
        """Returns `(model, x, y)`, the gradient too large by a share of `excess`."""
        rng = corpus.seeded(seed)
        stack = [*self.stack(), Excess(excess, name="excess")]
        model = corpus.sequential(self.shape, *stack, loss=self.loss())
        x = corpus.features(rng, EXAMPLES, *self.shape)
        outputs = model.output_shape[-1]
        if self.loss is mean_squares:
            return model, x, corpus.features(rng, EXAMPLES, outputs)
        if self.loss is binary_cross_entropy:
            return model, x, corpus.integers(rng, 2, EXAMPLES, outputs)
        return model, x, corpus.integers(rng, outputs, EXAMPLES)


SEQUENCE = (STEPS, FEATURES)
KINDS = (
    Kind("linear_regression", lambda: [layers.Dense(2, name="head")], mean_squares),
    Kind("logistic_regression", lambda: [layers.Dense(1, name="head")], binary_cross_entropy),
    Kind("softmax_regression", lambda: [layers.Dense(CLASSES, name="head")], cross_entropy),
    Kind("tanh_mlp", lambda: mlp("tanh"), mean_squares),
    Kind("gelu_mlp", lambda: mlp("gelu"), cross_entropy),
    Kind("relu_mlp", lambda: mlp("relu"), cross_entropy),
    Kind("convolutional", convolutional, cross_entropy, (8, 8, 2)),
    Kind("normalized", normalized, cross_entropy),
    Kind("recurrent", recurrent, mean_squares, SEQUENCE),
    Kind("attention", attention, cross_entropy, SEQUENCE),
)


def check(kind, seed, excess, **options):
    """Returns the report on a network of this kind.

    The train step is left out: it passes the same gradient on, and costs as much as the rest.
    """
    keras.utils.clear_session(free_memory=False)
    model, x, y = kind.build(seed, excess)
    return gradhooks.check_gradients(model, x, y, seed=seed, train_step=False, **options)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a check said.

    Args:
        verdict: Its `Verdict`.
        is_called_a_kink: Whether it does not fail, and speaks of a kink.
        compared: Number of derivatives compared.
        failed: Number of those that fail.
        kinks: Number of those of which a kink is said.
        text: The report as text.
    """

    verdict: Verdict
    is_called_a_kink: bool
    compared: int
    failed: int
    kinks: int
    text: str


@functools.cache
def outcomes(kind):
    """Maps 0 and each error to the `Outcome` at every seed, of networks of this kind."""
    found = {}
    with judging.compiled_once():
        for excess in (0.0, *ERRORS):
            found[excess] = [summarize(check(kind, seed, excess)) for seed in SEEDS]
    return found


def summarize(report):
    """Returns the `Outcome` of a check."""
    kinks = [c for c in report.comparisons if c.reason is Reason.KINK or c.is_kink]
    says_kink = bool(kinks) or report.reason is Reason.KINK
    return Outcome(
        verdict=report.verdict,
        is_called_a_kink=says_kink and report.verdict is not Verdict.FAIL,
        compared=len(report.comparisons),
        failed=len(report.failures),
        kinks=len(kinks),
        text=str(report),
    )
