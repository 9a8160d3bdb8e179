"""Penalties with a wrong gradient, on weights and on activities; the data term is right."""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, features, integers, seeded, sequential
from tests.corpora.mutants import planted


class Penalty(keras.regularizers.Regularizer):
    """A penalty with a planted gradient: `forward(w)` gives a number, `rule(upstream, w)` its
    gradient.
    """

    def __init__(self, forward, rule):
        self.value = planted.function(forward, rule)

    def __call__(self, x):
        return self.value(x)


def squares(strength, factor):
    """L2 whose gradient is `factor * w` times the strength; 2 would be right."""
    return Penalty(lambda w: strength * ops.sum(w**2), lambda g, w: g * strength * factor * w)


def absolutes(strength):
    """L1 whose gradient is the weight and not its sign."""
    return Penalty(lambda w: strength * ops.sum(ops.abs(w)), lambda g, w: g * strength * w)


def orthogonality(strength):
    """|| W'W - I ||^2 with half of its gradient."""

    def error(w):
        return ops.matmul(ops.transpose(w), w) - ops.eye(w.shape[1], dtype=w.dtype)

    return Penalty(
        lambda w: strength * ops.sum(error(w) ** 2),
        lambda g, w: g * strength * 2 * ops.matmul(w, error(w)),
    )


class Detached(keras.regularizers.Regularizer):
    """A penalty computed from a detached copy of the weights.

    It is in the loss, and teaches nothing.
    """

    def __init__(self):
        self.detach = planted.stop()

    def __call__(self, x):
        return 0.02 * ops.sum(ops.square(self.detach(ops.convert_to_tensor(x))))


def activity(strength, factor):
    """An activity penalty whose gradient is off by a constant."""
    return Penalty(
        lambda a: strength * ops.sum(a**2),
        lambda g, a: g * strength * factor * a,
    )


def mlp(seed, **regularizers):
    """`planted` carries the penalty, `below` and `head` do not."""
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.Dense(8, activation="tanh", name="below"),
        layers.Dense(8, activation="tanh", name="planted", **regularizers),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 16, 6), features(rng, 16, 2)


def cnn(seed, penalty):
    rng = seeded(seed)
    model = sequential(
        (8, 8, 2),
        layers.Conv2D(4, 3, activation="tanh", name="below"),
        layers.Conv2D(4, 3, activation="tanh", kernel_regularizer=penalty, name="planted"),
        layers.Flatten(),
        layers.Dense(3, activation="softmax", name="head"),
        loss="sparse_categorical_crossentropy",
    )
    return model, features(rng, 8, 8, 8, 2), integers(rng, 3, 8)


def embedding(seed):
    rng = seeded(seed)
    model = sequential(
        (5,),
        layers.Embedding(10, 4, embeddings_regularizer=squares(0.02, 1.0), name="planted"),
        layers.Flatten(),
        layers.Dense(2, name="head"),
    )
    return model, integers(rng, 10, 8, 5), features(rng, 8, 2)


def activity_below(seed):
    """The activity penalty sits on a layer without variables."""
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.Dense(8, activation="tanh", name="below"),
        layers.Activation("softplus", activity_regularizer=activity(0.05, 1.0), name="activation"),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 16, 6), features(rng, 16, 2)


CASES = [
    Case(
        "l2_half",
        lambda s: mlp(s, kernel_regularizer=squares(0.05, 1.0)),
        "planted",
        place=("regularizer", "planted"),
        note="the 2 is missing",
    ),
    Case(
        "l2_faint_wrong_sign",
        lambda s: mlp(s, kernel_regularizer=squares(1e-4, -2.0)),
        "planted",
        place=("regularizer", "planted"),
        note="too faint to show in the sum with the data term at float32",
    ),
    Case(
        "l1_without_sign",
        lambda s: mlp(s, kernel_regularizer=absolutes(0.02)),
        "planted",
        place=("regularizer", "planted"),
        note="w in place of sign(w)",
    ),
    Case(
        "l2_of_a_bias",
        lambda s: mlp(s, bias_initializer="ones", bias_regularizer=squares(0.5, 3.0)),
        "planted",
        place=("regularizer", "planted"),
        note="a bias's penalty",
    ),
    Case(
        "orthogonality_half",
        lambda s: mlp(s, kernel_regularizer=orthogonality(0.02)),
        "planted",
        place=("regularizer", "planted"),
        note="a product rule",
    ),
    Case(
        "penalty_detached",
        lambda s: mlp(s, kernel_regularizer=Detached()),
        "planted",
        place=("regularizer", "planted"),
        note="the penalty teaches nothing",
    ),
    Case(
        "convolution_l2_off",
        lambda s: cnn(s, squares(0.02, 2.1)),
        "planted",
        place=("regularizer", "planted"),
        note="5 % off, on a convolution",
    ),
    Case(
        "embedding_l2_half",
        embedding,
        "planted",
        place=("regularizer", "planted"),
        note="on a lookup table, used and unused rows alike",
    ),
    Case(
        "activity_half",
        lambda s: mlp(s, activity_regularizer=activity(0.05, 1.0)),
        "planted",
        place=("regularizer", "planted"),
        note="an activity penalty",
    ),
    Case(
        "activity_of_an_activation",
        activity_below,
        "below",
        place=("regularizer", "activation"),
        note="an activity penalty on a layer without variables",
    ),
]
