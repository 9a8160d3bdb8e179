"""Networks that multiply small differences, rounding among them.

Their derivatives hold over a tiny way only.

Batch normalization over few examples divides by what little is left of their
differences; a recurrent state, or an iterated map, may double them at each step.
"""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, seeded, sequential


def normalized(depth, width, examples):
    """Dense layers, each under batch normalization."""

    def build(seed):
        rng = seeded(seed)
        blocks = [
            block
            for _ in range(depth)
            for block in (
                layers.Dense(width, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
            )
        ]
        model = sequential((8,), *blocks, layers.Dense(1))
        return model, features(rng, examples, 8), features(rng, examples, 1)

    return build


def residual(seed):
    """Residual blocks under batch normalization, over few examples."""
    rng = seeded(seed)
    x = keras.Input((6, 6, 3))
    h = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    for _ in range(12):
        inner = layers.ReLU()(layers.BatchNormalization()(h))
        h = h + layers.Conv2D(8, 3, padding="same", use_bias=False)(inner)
    h = layers.ReLU()(layers.BatchNormalization()(h))
    model = compiled(keras.Model(x, layers.Dense(1)(layers.GlobalAveragePooling2D()(h))))
    return model, features(rng, 3, 6, 6, 3), features(rng, 3, 1)


def recurrent(gain, steps):
    """A tanh network whose state wanders chaotically: recurrent weights above one."""

    def build(seed):
        rng = seeded(seed)
        cell = layers.SimpleRNN(
            12, recurrent_initializer=keras.initializers.RandomNormal(stddev=gain / 12**0.5)
        )
        model = sequential((steps, 2), cell, layers.Dense(1))
        return model, features(rng, 6, steps, 2), features(rng, 6, 1)

    return build


class _Iterated(layers.Layer):
    """The logistic map, again and again: close values part by a factor of about two each time."""

    def __init__(self, times):
        super().__init__(name="map")
        self._times = times

    def call(self, x):
        x = ops.sigmoid(x)
        for _ in range(self._times):
            x = 3.9 * x * (1.0 - x)
        return x


def iterated(times):
    def build(seed):
        rng = seeded(seed)
        model = sequential(
            (4,), layers.Dense(6, name="below"), _Iterated(times), layers.Dense(1, name="head")
        )
        return model, features(rng, 8, 4), features(rng, 8, 1)

    return build


CASES = [
    Case(name, build, chaotic=True)
    for name, build in (
        ("normalized_25_layers", normalized(25, 16, 6)),
        ("normalized_20_layers", normalized(20, 32, 4)),
        ("normalized_40_layers", normalized(40, 16, 4)),
        ("residual_over_few_examples", residual),
        ("chaotic_state", recurrent(2.0, 30)),
        ("very_chaotic_state", recurrent(3.0, 60)),
        ("iterated_map_10_times", iterated(10)),
        ("iterated_map_20_times", iterated(20)),
        ("iterated_map_30_times", iterated(30)),
    )
]
