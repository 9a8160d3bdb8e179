"""Straight-through estimators that are not declared.

The loss is a staircase, the gradient says a ramp.
"""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, integers, seeded
from tests.corpora.mutants import planted
from tests.corpora.mutants.factors import dense, through


def straight_through(quantize):
    """Returns `quantize` with the gradient of the identity.

    The healthy twin does not quantize at all.
    """
    return planted.choose(planted.function(quantize, lambda g, x: g), planted.honest)


def rounded(x):
    return ops.round(2 * x) / 2


def binary(x):
    return ops.where(x >= 0, ops.ones_like(x), -ops.ones_like(x))


def binary_weights(seed):
    quantize = straight_through(lambda w: 0.4 * binary(w))
    return dense(seed, on_kernel=quantize)


def eight_levels(seed):
    """Quantization-aware training: fake-quantized weights on a grid of a few levels."""
    quantize = straight_through(lambda w: ops.clip(ops.round(w * 4), -4, 3) / 4)
    return dense(seed, on_kernel=quantize)


def hard_choice(seed):
    """One-hot forward, softmax backward, as in the straight-through Gumbel estimator."""

    def hard(x):
        return ops.one_hot(ops.argmax(x, axis=-1), x.shape[-1], dtype=x.dtype)

    def soft_gradient(g, x):
        p = ops.softmax(x)
        return p * (g - ops.sum(g * p, axis=-1, keepdims=True))

    return through(seed, planted.choose(planted.function(hard, soft_gradient), ops.softmax))


class _Codebook(layers.Layer):
    """The quantizer of a VQ-VAE.

    The nearest code forward, the gradient handed straight to the encoder.
    """

    def __init__(self, codes, **options):
        super().__init__(**options)
        self.codes = codes
        self.stop = planted.stop()

    def build(self, shape):
        self.codebook = self.add_weight(
            shape=(self.codes, shape[-1]), initializer="random_normal", name="codebook"
        )

    def call(self, x):
        codebook = ops.convert_to_tensor(self.codebook)
        distances = ops.sum((x[:, None] - codebook[None]) ** 2, axis=-1)
        nearest = ops.take(codebook, ops.argmin(distances, axis=-1), axis=0)
        self.add_loss(
            ops.mean((self.stop(x) - nearest) ** 2) + 0.25 * ops.mean((x - self.stop(nearest)) ** 2)
        )
        return x + self.stop(nearest - x)


def vector_quantizer(seed):
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    encoded = layers.Dense(3, activation="tanh", name="encoder")(x)
    quantized = _Codebook(5, name="quantizer")(encoded)
    model = compiled(keras.Model(x, layers.Dense(6, name="decoder")(quantized)))
    data = features(rng, 16, 6)
    return model, data, data


def binary_code(seed):
    """Semantic hashing: a binarized code between an encoder and a classifier."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    code = layers.Dense(8, activation="tanh", name="encoder")(x)
    code = planted.Through(straight_through(binary), name="binarize")(code)
    head = layers.Dense(3, activation="softmax", name="head")(code)
    return (
        compiled(keras.Model(x, head), "sparse_categorical_crossentropy"),
        features(rng, 16, 6),
        integers(rng, 3, 16),
    )


CASES = [
    Case(
        "straight_through_rounding",
        lambda s: through(s, straight_through(rounded)),
        "below",
        note="on activations",
    ),
    Case(
        "straight_through_binary_code",
        binary_code,
        "encoder",
        place="binarize",
        note="a binarized code",
    ),
    Case(
        "straight_through_binary_weights",
        binary_weights,
        "planted",
        note="a binary network's weights",
    ),
    Case(
        "straight_through_few_levels",
        eight_levels,
        "planted",
        note="quantization-aware training, undeclared",
    ),
    Case(
        "straight_through_hard_choice",
        hard_choice,
        "below",
        note="one-hot forward, softmax backward",
    ),
    Case(
        "vector_quantizer",
        vector_quantizer,
        "quantizer",
        place="quantizer",
        note="a VQ-VAE; codebook and encoder are both affected",
    ),
]
