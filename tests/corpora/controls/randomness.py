"""Layers that draw random numbers.

Right as long as numeric and analytic derivative see the same draw.
"""

import keras
from keras import layers, ops

from tests.corpora.controls.building import around, dense, layer_case
from tests.corpora.corpus import Case

IMAGE, SEQUENCE = (6, 6, 2), (6, 3)


def _conv():
    return layers.Conv2D(4, 3, padding="same", activation="tanh", name="convolution")


def stochastic_depth(seed):
    """Whole branches are dropped, one coin per example."""

    class Drop(layers.Layer):
        def __init__(self, rate, **options):
            super().__init__(**options)
            self.rate, self.seeds = rate, keras.random.SeedGenerator(3)

        def call(self, x, training=False):
            if not training:
                return x
            coin = keras.random.uniform((ops.shape(x)[0], 1), seed=self.seeds) >= self.rate
            return x * ops.cast(coin, x.dtype) / (1 - self.rate)

    return around(seed, (6,), dense(), lambda: Drop(0.4, name="drop"), dense())


def one_generator_for_two(seed):
    """Two layers share one seed generator: the order of the draws matters."""

    class Noise(layers.Layer):
        def __init__(self, seeds, **options):
            super().__init__(**options)
            self.seeds = seeds

        def call(self, x, training=False):
            return (
                x + 0.3 * keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.seeds)
                if training
                else x
            )

    seeds = keras.random.SeedGenerator(9)
    return around(
        seed,
        (6,),
        dense(),
        lambda: Noise(seeds, name="one"),
        dense(),
        lambda: Noise(seeds, name="two"),
    )


def augmentation(seed):
    """Random flips, shifts and rotations in front of the first weights."""
    return around(
        seed,
        IMAGE,
        layers.RandomFlip,
        lambda: layers.RandomTranslation(0.2, 0.2),
        lambda: layers.RandomRotation(0.1),
        _conv,
    )


CASES = [
    layer_case("dropout", (6,), dense(16), lambda: layers.Dropout(0.5), dense()),
    layer_case(
        "dropout_with_a_shape",
        SEQUENCE,
        dense(),
        lambda: layers.Dropout(0.5, noise_shape=(None, 1, 8)),
    ),
    layer_case("alpha_dropout", (6,), dense(16, "selu"), lambda: layers.AlphaDropout(0.3), dense()),
    layer_case("spatial_dropout1d", SEQUENCE, dense(8), lambda: layers.SpatialDropout1D(0.3)),
    layer_case("spatial_dropout2d", IMAGE, _conv, lambda: layers.SpatialDropout2D(0.3)),
    layer_case("spatial_dropout3d", (3, 3, 3, 2), dense(8), lambda: layers.SpatialDropout3D(0.3)),
    layer_case("gaussian_noise", (6,), dense(), lambda: layers.GaussianNoise(0.5), dense()),
    layer_case("gaussian_dropout", (6,), dense(16), lambda: layers.GaussianDropout(0.3), dense()),
    layer_case(
        "recurrent_dropout", SEQUENCE, lambda: layers.LSTM(6, dropout=0.3, recurrent_dropout=0.3)
    ),
    layer_case(
        "dropout_in_a_gru", SEQUENCE, lambda: layers.GRU(6, dropout=0.4, recurrent_dropout=0.2)
    ),
    Case("stochastic_depth", stochastic_depth),
    Case("one_generator_for_two", one_generator_for_two),
    Case("augmentation", augmentation),
]
