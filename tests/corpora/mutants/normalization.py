"""Normalizations that forget what their statistics depend on, and scales that learn wrongly."""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential
from tests.corpora.mutants import planted
from tests.corpora.mutants.factors import dense, mlp
from tests.corpora.mutants.transposed import images


class Normalize(layers.Layer):
    """Normalizes over `axes`, with places for defects.

    On the mean, the variance, gamma and beta.
    """

    def __init__(
        self,
        axes,
        *,
        on_mean=planted.honest,
        on_variance=planted.honest,
        on_gamma=planted.honest,
        **options,
    ):
        super().__init__(**options)
        self.axes = axes
        self.on_mean, self.on_variance, self.on_gamma = on_mean, on_variance, on_gamma

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", name="beta")

    def call(self, x):
        centred = x - self.on_mean(ops.mean(x, axis=self.axes, keepdims=True))
        variance = self.on_variance(ops.mean(ops.square(centred), axis=self.axes, keepdims=True))
        return (
            self.on_gamma(planted.tensor(self.gamma)) * centred / ops.sqrt(variance + 1e-3)
            + self.beta
        )


class RootMeanSquare(layers.Layer):
    """Divides by the root of the mean square, which it takes for a constant."""

    def __init__(self, **options):
        super().__init__(**options)
        self.detach = planted.stop()

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return (
            self.scale
            * x
            * self.detach(ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6))
        )


def over_the_batch(seed, **places):
    """A normalization over the batch, after a linear layer."""
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.Dense(8, name="below"),
        Normalize(0, name="normalize", **places),
        layers.Activation("tanh"),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 16, 6), features(rng, 16, 2)


def in_a_cnn(seed, **places):
    return images(seed, lambda: Normalize((0, 1, 2), name="normalize", **places))


def over_features(seed, make, **places):
    return mlp(
        seed, lambda: layers.Dense(8, name="linear"), lambda: make(name="normalize", **places)
    )


def weight_norm(seed):
    """Weight normalization with a detached norm: the direction's gradient is not projected."""
    stop = planted.stop()

    def normalized(kernel):
        return kernel / stop(ops.norm(kernel, axis=0, keepdims=True))

    return dense(seed, on_kernel=normalized)


class OwnSpectralNormalization(keras.layers.SpectralNormalization):
    """A layer of one's own: what is known of Keras' need not hold for it."""


def spectral(seed):
    """The power iteration's vectors are constants in the gradient, as in Keras' own layer."""
    wrap = planted.choose(OwnSpectralNormalization, lambda layer, name: layer)
    return mlp(
        seed,
        lambda: wrap(layers.Dense(8, activation="tanh", name="spectral_dense"), name="spectral"),
    )


def gamma_in_a_transformer(seed):
    """The scale of one of two layer normalizations learns at half speed."""

    def normalize(name, **places):
        return Normalize(-1, name=name, **places)

    rng = seeded(seed)
    x = keras.Input((5,), dtype="int32", name="x")
    h = layers.Embedding(11, 8, name="table")(x)
    h = normalize("norm_below")(h + layers.MultiHeadAttention(2, 4, name="attention")(h, h))
    h = normalize("norm_planted", on_gamma=planted.scale(0.5))(
        h + layers.Dense(8, activation="gelu", name="feed")(h)
    )
    head = layers.Dense(3, activation="softmax", name="head")(layers.GlobalAveragePooling1D()(h))
    model = compiled(keras.Model(x, head), "sparse_categorical_crossentropy")
    return model, integers(rng, 11, 8, 5), integers(rng, 3, 8)


CASES = [
    Case(
        "batch_statistics_detached",
        lambda s: over_the_batch(s, on_mean=planted.stop(), on_variance=planted.stop()),
        "below",
        place="normalize",
        note="mean and variance of the batch taken for constants",
    ),
    Case(
        "batch_mean_detached",
        lambda s: over_the_batch(s, on_mean=planted.stop()),
        "below",
        place="normalize",
        note="the mean alone",
    ),
    Case(
        "batch_variance_in_a_cnn",
        lambda s: in_a_cnn(s, on_variance=planted.stop()),
        "below",
        place="normalize",
        note="the variance alone",
    ),
    Case(
        "layer_variance_detached",
        lambda s: over_features(s, Normalize, axes=-1, on_variance=planted.stop()),
        "linear",
        place="normalize",
        note="layer normalization without its projection",
    ),
    Case(
        "root_mean_square_detached",
        lambda s: over_features(s, RootMeanSquare),
        "linear",
        place="normalize",
        note="RMS normalization without its projection",
    ),
    Case(
        "gamma_only",
        lambda s: in_a_cnn(s, on_gamma=planted.scale(1.3)),
        "normalize",
        place="normalize",
        note="only gamma is wrong",
    ),
    Case(
        "gamma_in_a_transformer",
        gamma_in_a_transformer,
        "norm_planted",
        place="norm_planted",
        note="one gamma of two",
    ),
    Case(
        "weight_norm_detached",
        weight_norm,
        "planted",
        note="a norm of the kernel taken for a constant",
    ),
    Case(
        "spectral_undeclared",
        spectral,
        "spectral",
        place="spectral",
        note="derived from a layer of Keras' own",
    ),
]
