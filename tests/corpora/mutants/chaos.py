"""Wrong gradients in networks that multiply small differences.

The derivative holds over a tiny way only.

What keeps healthy networks of this kind from failing must not let these pass.
"""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, seeded
from tests.corpora.mutants import planted


def normalized(seed, depth, width, examples, factor):
    """Dense layers, each under batch normalization.

    Half way up the gradient is multiplied by a factor.
    """
    rng = seeded(seed)
    model = keras.Sequential([layers.Input((8,))], name="network")
    for k in range(depth):
        model.add(layers.Dense(width, use_bias=False, name=f"dense_{k}"))
        model.add(layers.BatchNormalization(name=f"norm_{k}"))
        model.add(layers.ReLU(name=f"relu_{k}"))
        if k == depth // 2:
            model.add(planted.Through(planted.scale(factor), name="planted"))
    model.add(layers.Dense(1, name="head"))
    return compiled(model), features(rng, examples, 8), features(rng, examples, 1)


class Iterated(layers.Layer):
    """The logistic map, again and again, with a gradient that is wrong by a factor."""

    def __init__(self, times, factor):
        super().__init__(name="map")
        self._times, self._planted = times, planted.scale(factor)

    def call(self, x):
        x = self._planted(ops.sigmoid(x))
        for _ in range(self._times):
            x = 3.9 * x * (1.0 - x)
        return x


def iterated(seed, times, factor):
    rng = seeded(seed)
    stack = [layers.Dense(6, name="below"), Iterated(times, factor), layers.Dense(1, name="head")]
    return (
        compiled(keras.Sequential([layers.Input((4,)), *stack])),
        features(rng, 8, 4),
        features(rng, 8, 1),
    )


CASES = [
    Case(name, build, culprit, ("mismatch",), place=place, chaotic=True, note=note)
    for name, build, culprit, place, note in (
        (
            "one_percent_under_25_norms",
            lambda s: normalized(s, 25, 16, 6, 1.01),
            "norm_12",
            "planted",
            "a factor of 1.01 half way",
        ),
        (
            "doubled_under_30_norms",
            lambda s: normalized(s, 30, 16, 6, 2.0),
            "norm_15",
            "planted",
            "a factor of 2 half way",
        ),
        (
            "one_percent_before_20_iterations",
            lambda s: iterated(s, 20, 1.01),
            "below",
            "map",
            "a factor of 1.01",
        ),
        (
            "doubled_before_30_iterations",
            lambda s: iterated(s, 30, 2.0),
            "below",
            None,  # the noise of the loss hides the gradient behind the layer
            "a factor of 2",
        ),
    )
]
