"""Weights that no loss reaches. No derivative is wrong here: numeric and analytic are both
zero, and a check
can only name the variable. These cases are therefore kept apart from the other mutants, as
`UNREACHED`.
"""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, seeded
from tests.corpora.mutants import planted


class _ForgottenHead(keras.Model):
    """A second head is computed and never returned."""

    def __init__(self):
        super().__init__(name="forgetful")
        self.below = layers.Dense(8, activation="tanh", name="below")
        self.head = layers.Dense(2, name="head")
        self.forgotten = layers.Dense(2, name="forgotten")
        self.share = planted.choose(0.0, 1.0)

    def call(self, x):
        hidden = self.below(x)
        return self.head(hidden) + self.share * self.forgotten(hidden)


def forgotten_head(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(_ForgottenHead())
    model(x)
    return model, x, features(rng, 16, 2)


class _Overwritten(layers.Layer):
    """Computes with one kernel, and then starts again from the input with another."""

    def build(self, shape):
        self.first = self.add_weight(shape=(shape[-1], 5), name="first")
        self.second = self.add_weight(shape=(shape[-1], 5), name="second")
        self.keep = planted.choose(False, True)

    def call(self, x):
        hidden = ops.tanh(ops.matmul(x, self.first))
        again = ops.tanh(ops.matmul(x, self.second))
        return hidden + again if self.keep else again


def overwritten(seed):
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    head = layers.Dense(2, name="head")(_Overwritten(name="mixed")(x))
    return compiled(keras.Model(x, head)), features(rng, 16, 6), features(rng, 16, 2)


def output_without_a_loss(seed):
    """Of two outputs one has no loss."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    outputs = {
        "used": layers.Dense(2, name="used")(trunk),
        "unused": layers.Dense(2, name="unused")(trunk),
    }
    losses = planted.choose({"used": "mse"}, {"used": "mse", "unused": "mse"})
    targets = {"used": features(rng, 16, 2), "unused": features(rng, 16, 2)}
    return (
        compiled(keras.Model(x, outputs), losses),
        features(rng, 16, 6),
        {k: targets[k] for k in losses},
    )


CASES = [
    Case(
        "head_times_zero",
        forgotten_head,
        "forgotten",
        ("vacuous",),
        note="a head with a weight of zero",
    ),
    Case(
        "hidden_overwritten",
        overwritten,
        "first",
        ("vacuous",),
        note="a variable name used twice in call()",
    ),
    Case(
        "output_without_a_loss",
        output_without_a_loss,
        "unused",
        ("vacuous",),
        note="an output that nobody scores",
    ),
]
