"""Losses that bring their own wrong gradient.

`culprit` is the layer nearest to the loss, the head.
"""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, integers, seeded
from tests.corpora.mutants import planted


def _like(y, prediction):
    return ops.cast(y, prediction.dtype)


def loss(forward, rule):
    """A loss function with a planted gradient; `forward(p, y)` gives one number per example."""
    value = planted.function(forward, rule)

    def planted_loss(y_true, y_pred):
        return value(y_pred, _like(y_true, y_pred))

    return planted_loss


def half_missing():
    """Squared error with the 2 of its derivative missing."""

    def rule(g, p, y):
        return g[:, None] * (p - y) / p.shape[-1]

    return loss(lambda p, y: ops.mean((p - y) ** 2, axis=-1), rule)


def _huber(p, y):
    error = ops.abs(p - y)
    return ops.mean(ops.where(error < 0.5, 0.5 * error**2, 0.5 * error - 0.125), axis=-1)


def unclipped_huber():
    """The Huber loss with the squared error's derivative everywhere."""
    return loss(_huber, lambda g, p, y: g[:, None] * (p - y) / p.shape[-1])


def _cross_entropy(logits, y):
    return -ops.sum(y * ops.log_softmax(logits), axis=-1)


def smoothing_forgotten():
    """Cross entropy with label smoothing forward, and without it backward."""

    def forward(logits, y):
        return _cross_entropy(logits, 0.9 * y + 0.1 / logits.shape[-1])

    return loss(forward, lambda g, logits, y: g[:, None] * (ops.softmax(logits) - y))


def focal_without_modulation():
    """The focal loss with its modulating factor taken for a constant."""

    def forward(logits, y):
        right = ops.sum(y * ops.softmax(logits), axis=-1)
        return (1 - right) ** 2 * _cross_entropy(logits, y)

    def rule(g, logits, y):
        p = ops.softmax(logits)
        right = ops.sum(y * p, axis=-1, keepdims=True)
        return g[:, None] * (1 - right) ** 2 * (p - y)

    return loss(forward, rule)


def cosine_without_its_norm():
    """Cosine distance with the prediction's norm taken for a constant."""
    stop = planted.stop()

    def cosine_distance(y_true, y_pred):
        y = _like(y_true, y_pred)
        product = ops.sum(y * y_pred, axis=-1)
        return 1 - product / (stop(ops.norm(y_pred, axis=-1)) * ops.norm(y, axis=-1))

    return cosine_distance


class _SumForMean(keras.losses.Loss):
    """A loss object whose gradient is summed over the outputs where its value is averaged."""

    def __init__(self):
        super().__init__(name="sum_for_mean")
        self.value = planted.function(
            lambda p, y: ops.mean(ops.log(ops.cosh(p - y)), axis=-1),
            lambda g, p, y: g[:, None] * ops.tanh(p - y),
        )

    def call(self, y_true, y_pred):
        return self.value(y_pred, _like(y_true, y_pred))


def network(seed, value, classes=False):
    """A small network under the planted loss; with classes, the targets are one-hot."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    below = layers.Dense(10, activation="tanh", name="below")(x)
    model = compiled(keras.Model(x, layers.Dense(4, name="head")(below)), value)
    y = keras.utils.to_categorical(integers(rng, 4, 16), 4) if classes else features(rng, 16, 4)
    return model, features(rng, 16, 6), y


def second_output(seed):
    """Two outputs; only the second one's loss is wrong."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    outputs = {
        "right": layers.Dense(2, name="right")(trunk),
        "wrong": layers.Dense(2, name="wrong")(trunk),
    }
    model = compiled(keras.Model(x, outputs), {"right": "mse", "wrong": half_missing()})
    return (
        model,
        features(rng, 16, 6),
        {"right": features(rng, 16, 2), "wrong": features(rng, 16, 2)},
    )


class _Divergence(layers.Layer):
    """Samples a code and adds its divergence from the prior, whose gradient for the variance
    lacks a half.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(5)
        self.divergence = planted.function(
            lambda mean, spread: 0.5 * (mean**2 + ops.exp(spread) - 1 - spread),
            lambda g, mean, spread: (g * mean, g * (ops.exp(spread) - 1)),
        )

    def call(self, mean, spread):
        self.add_loss(ops.mean(ops.sum(self.divergence(mean, spread), axis=-1)))
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seeds)
        return mean + ops.exp(0.5 * spread) * noise


def divergence(seed):
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    encoded = layers.Dense(8, activation="tanh", name="encoder")(x)
    mean = layers.Dense(2, name="mean")(encoded)
    spread = layers.Dense(
        2, name="log_variance", bias_initializer=keras.initializers.Constant(0.5)
    )(encoded)
    code = _Divergence(name="sampling")(mean, spread)
    model = compiled(keras.Model(x, layers.Dense(6, name="decoder")(code)))
    data = features(rng, 16, 6)
    return model, data, data


CASES = [
    Case(
        "squared_error_half",
        lambda s: network(s, half_missing()),
        "head",
        place=("loss", "planted_loss"),
        note="the 2 of the derivative is missing",
    ),
    Case(
        "huber_unclipped",
        lambda s: network(s, unclipped_huber()),
        "head",
        place=("loss", "planted_loss"),
        note="large errors are not clipped",
    ),
    Case(
        "smoothing_forgotten",
        lambda s: network(s, smoothing_forgotten(), True),
        "head",
        place=("loss", "planted_loss"),
        note="labels smoothed forward only",
    ),
    Case(
        "focal_without_modulation",
        lambda s: network(s, focal_without_modulation(), True),
        "head",
        place=("loss", "planted_loss"),
        note="a missing term",
    ),
    Case(
        "cosine_without_its_norm",
        lambda s: network(s, cosine_without_its_norm()),
        "head",
        place=("loss", "cosine_distance"),
        note="a norm taken as constant",
    ),
    Case(
        "sum_for_mean",
        lambda s: network(s, _SumForMean()),
        "head",
        place=("loss", "sum_for_mean"),
        note="a loss object, off by the number of outputs",
    ),
    Case(
        "second_output_half",
        second_output,
        "wrong",
        place=("loss", "planted_loss"),
        note="one of two losses",
    ),
    Case(
        "divergence_half",
        divergence,
        "log_variance",
        place="sampling",
        note="a term added with add_loss, in a variational autoencoder",
    ),
]
