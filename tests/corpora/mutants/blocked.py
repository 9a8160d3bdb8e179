"""Paths through which no gradient comes back.

Detached branches, rounding, argmax, excursions to NumPy.
"""

import keras
from keras import layers, ops

from tests.corpora.corpus import (
    Case,
    compiled,
    features,
    integers,
    only_on,
    seeded,
    sequential,
)
from tests.corpora.mutants import planted
from tests.corpora.mutants.factors import through

BLOCKED = ("blocked",)


def one_of_two_branches(seed):
    """Two branches are added; the second is detached, a leftover from an experiment."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    kept = layers.Dense(8, activation="tanh", name="kept")(trunk)
    branch = layers.Dense(8, activation="tanh", name="branch")(trunk)
    branch = planted.Through(planted.stop(), name="detach")(branch)
    head = layers.Dense(2, name="head")(layers.Add()([kept, branch]))
    return compiled(keras.Model(x, head)), features(rng, 16, 6), features(rng, 16, 2)


def residual_block(seed):
    """The shortcut of a residual block is detached: all below learns from half of its gradient."""
    rng = seeded(seed)
    x = keras.Input((6, 6, 2), name="x")
    below = layers.Conv2D(4, 3, padding="same", activation="tanh", name="below")(x)
    inner = layers.Conv2D(4, 3, padding="same", activation="tanh", name="inner")(below)
    shortcut = planted.Through(planted.stop(), name="shortcut")(below)
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([inner, shortcut]))
    head = layers.Dense(3, activation="softmax", name="head")(pooled)
    model = compiled(keras.Model(x, head), "sparse_categorical_crossentropy")
    return model, features(rng, 8, 6, 6, 2), integers(rng, 3, 8)


def attended_values_only(seed):
    """A gate whose own gradient is cut: the product rule loses its second term."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    values = layers.Dense(8, activation="tanh", name="values")(x)
    gate = layers.Dense(8, activation="sigmoid", name="gate")(x)
    gate = planted.Through(planted.stop(), name="detach")(gate)
    head = layers.Dense(2, name="head")(layers.Multiply()([values, gate]))
    return compiled(keras.Model(x, head)), features(rng, 16, 6), features(rng, 16, 2)


def one_of_two_heads(seed):
    """One head of two is fed by a detached trunk: its loss never reaches it."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    detached = planted.Through(planted.stop(), name="detach")(trunk)
    outputs = {
        "first": layers.Dense(2, name="first")(trunk),
        "second": layers.Dense(2, name="second")(detached),
    }
    model = compiled(keras.Model(x, outputs), {"first": "mse", "second": "mse"})
    return (
        model,
        features(rng, 16, 6),
        {"first": features(rng, 16, 2), "second": features(rng, 16, 2)},
    )


def stopped(seed):
    return through(seed, planted.stop())


def rounded(seed):
    return through(seed, planted.choose(lambda x: ops.round(4 * x) / 4, planted.honest))


def through_integers(seed):
    def to_integer_and_back(x):
        return ops.cast(ops.cast(8 * x, "int32"), x.dtype) / 8

    return through(seed, planted.choose(to_integer_and_back, planted.honest))


class _HardAttention(layers.Layer):
    """Looks at the highest-scoring position only: argmax, then one-hot."""

    def __init__(self, **options):
        super().__init__(**options)
        self.weights_of = planted.choose(self.hard, ops.softmax)

    @staticmethod
    def hard(scores):
        return ops.one_hot(ops.argmax(scores, axis=-1), scores.shape[-1], dtype=scores.dtype)

    def build(self, shape):
        self.scores = self.add_weight(
            shape=(shape[-1], 1), name="scores", initializer="glorot_uniform"
        )

    def call(self, x):
        weights = self.weights_of(ops.squeeze(ops.matmul(x, self.scores), -1))
        return ops.einsum("bt,btd->bd", weights, x)


def argmax(seed):
    rng = seeded(seed)
    model = sequential((8, 4), _HardAttention(name="attention"), layers.Dense(2, name="head"))
    return model, features(rng, 16, 8, 4), features(rng, 16, 2)


class _HardGate(layers.Layer):
    """Lets a value pass where its gate is positive."""

    def __init__(self, **options):
        super().__init__(**options)
        self.open = planted.choose(lambda gate: ops.cast(gate > 0, gate.dtype), ops.sigmoid)

    def build(self, shape):
        self.gate = self.add_weight(
            shape=(shape[-1], shape[-1]), name="gate", initializer="glorot_uniform"
        )

    def call(self, x):
        return x * self.open(ops.matmul(x, self.gate))


def hard_gate(seed):
    rng = seeded(seed)
    model = sequential((6,), _HardGate(name="gated"), layers.Dense(2, name="head"))
    return model, features(rng, 16, 6), features(rng, 16, 2)


CASES = [
    Case(
        "detached_branch",
        one_of_two_branches,
        "branch",
        BLOCKED,
        place="detach",
        note="stop_gradient on one of two branches",
    ),
    Case(
        "detached_shortcut",
        residual_block,
        "below",
        place="shortcut",
        note="stop_gradient on the shortcut of a residual block",
    ),
    Case(
        "detached_gate",
        attended_values_only,
        "gate",
        BLOCKED,
        place="detach",
        note="stop_gradient on a gate",
    ),
    Case(
        "detached_head",
        one_of_two_heads,
        "trunk",
        place="detach",
        note="stop_gradient in front of one of two heads",
    ),
    Case("stop_gradient", stopped, "below", BLOCKED, note="stop_gradient in the only path"),
    Case("rounding", rounded, "below", BLOCKED, note="quantization without a gradient"),
    Case(
        "through_integers", through_integers, "below", BLOCKED, note="a cast to integers and back"
    ),
    *only_on("tensorflow", "tests.corpora.mutants.tensorflow_only", "through_numpy"),
    Case(
        "argmax",
        argmax,
        "attention",
        BLOCKED,
        place="attention",
        note="argmax and one-hot where a softmax was meant",
    ),
    Case(
        "hard_gate", hard_gate, "gate", BLOCKED, place="gated", note="a comparison used as a gate"
    ),
]
