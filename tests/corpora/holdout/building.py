"""Ten networks of the hold-out, each with places where a defect can be planted."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.corpora.corpus import compiled, features, integers, seeded
from tests.corpora.mutants import planted

NOTHING = planted.honest


def network(inputs, outputs, loss, **options):
    """A compiled functional model."""
    return compiled(keras.Model(inputs, outputs, name="network"), loss, **options)


def softmax_regression(seed, *, on_kernel=NOTHING, on_output=NOTHING):
    """Multinomial logistic regression on twelve features."""
    rng = seeded(seed)
    x = keras.Input((12,))
    logits = planted.Dense(5, on_kernel=on_kernel, on_output=on_output, name="logits")(x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return network(x, logits, loss), features(rng, 24, 12), integers(rng, 5, 24)


def tabular(seed, *, on_embedded=NOTHING, on_joined=NOTHING):
    """Two categories and four numbers, embedded and joined, with a swish in between."""
    rng = seeded(seed)
    category, numbers = keras.Input((2,), dtype="int32"), keras.Input((4,))
    embedded = layers.Embedding(7, 3, name="table")(category)
    embedded = planted.Through(on_embedded)(layers.Flatten()(embedded))
    joined = layers.Concatenate()([embedded, numbers])
    hidden = layers.Dense(9, name="joined")(joined)
    hidden = layers.Activation("swish")(planted.Through(on_joined)(hidden))
    outputs = layers.Dense(1, name="price")(hidden)
    batch = [integers(rng, 7, 20, 2), features(rng, 20, 4)]
    return network([category, numbers], outputs, "mse"), batch, features(rng, 20, 1)


def self_normalizing(seed, *, on_first=NOTHING, on_second=NOTHING):
    """Scaled exponential units and alpha dropout."""
    rng = seeded(seed)
    x = keras.Input((8,))
    hidden = layers.Dense(10, "selu", kernel_initializer="lecun_normal", name="first")(x)
    hidden = layers.AlphaDropout(0.1, seed=seed)(planted.Through(on_first)(hidden))
    hidden = layers.Dense(6, "selu", kernel_initializer="lecun_normal", name="second")(hidden)
    outputs = layers.Dense(1, "sigmoid", name="risk")(planted.Through(on_second)(hidden))
    return (
        network(x, outputs, "binary_crossentropy"),
        features(rng, 16, 8),
        integers(rng, 2, 16, 1).astype("float32"),
    )


def signal(seed, *, on_early=NOTHING, on_late=NOTHING):
    """A convolution over time with a global maximum."""
    rng = seeded(seed)
    x = keras.Input((20, 2))
    hidden = layers.Conv1D(5, 3, activation="tanh", name="early")(x)
    hidden = layers.Conv1D(6, 3, dilation_rate=2, name="late")(planted.Through(on_early)(hidden))
    hidden = layers.GlobalMaxPooling1D()(ops.softplus(planted.Through(on_late)(hidden)))
    return (
        network(x, layers.Dense(2, name="angles")(hidden), "huber"),
        features(rng, 10, 20, 2),
        features(rng, 10, 2),
    )


def separable(seed, *, on_depth=NOTHING, on_groups=NOTHING):
    """Depthwise separable convolutions with group normalization."""
    rng = seeded(seed)
    x = keras.Input((9, 9, 3))
    hidden = layers.SeparableConv2D(8, 3, name="depthwise")(x)
    hidden = planted.Through(on_depth)(hidden)
    hidden = layers.GroupNormalization(4, name="groups")(hidden)
    hidden = layers.Activation("gelu")(planted.Through(on_groups)(hidden))
    hidden = layers.GlobalAveragePooling2D()(hidden)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    outputs = layers.Dense(4, name="classes")(hidden)
    return network(x, outputs, loss), features(rng, 8, 9, 9, 3), integers(rng, 4, 8)


def tagger(seed, *, on_words=NOTHING, on_states=NOTHING):
    """A gated recurrent unit that tags every word."""
    rng = seeded(seed)
    x = keras.Input((6,), dtype="int32")
    words = planted.Through(on_words)(layers.Embedding(11, 4, name="words")(x))
    states = layers.GRU(5, return_sequences=True, name="states")(words)
    states = planted.Through(on_states)(states)
    outputs = layers.TimeDistributed(layers.Dense(3, name="tags"))(states)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return network(x, outputs, loss), integers(rng, 11, 9, 6), integers(rng, 3, 9, 6)


def encoder(seed, *, on_attended=NOTHING, on_wide=NOTHING):
    """One block of a transformer encoder."""
    rng = seeded(seed)
    x = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    hidden = layers.LayerNormalization(name="inner")(x + planted.Through(on_attended)(attended))
    wide = layers.Dense(16, "gelu", name="wide")(hidden)
    narrow = layers.Dense(8, name="narrow")(planted.Through(on_wide)(wide))
    hidden = layers.LayerNormalization(name="outer")(hidden + narrow)
    outputs = layers.Dense(1, name="score")(layers.GlobalAveragePooling1D()(hidden))
    return network(x, outputs, "mse"), features(rng, 7, 5, 8), features(rng, 7, 1)


class Tied(layers.Layer):
    """An autoencoder whose decoder is the transpose of its encoder."""

    def __init__(self, on_code, on_transposed, **options):
        super().__init__(**options)
        self.on_code, self.on_transposed = on_code, on_transposed

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")
        self.bias = self.add_weight(shape=(4,), initializer="zeros", name="bias")

    def call(self, x):
        kernel = tf.convert_to_tensor(self.kernel)
        code = self.on_code(ops.tanh(ops.matmul(x, kernel) + self.bias))
        return ops.matmul(code, self.on_transposed(ops.transpose(kernel)))


def autoencoder(seed, *, on_code=NOTHING, on_transposed=NOTHING):
    """Tied weights: one kernel, used twice."""
    rng = seeded(seed)
    x = keras.Input((10,))
    batch = features(rng, 18, 10)
    return network(x, Tied(on_code, on_transposed, name="tied")(x), "mse"), batch, batch


def siamese(seed, *, on_embedding=NOTHING, on_similarity=NOTHING):
    """Two inputs through one network, compared by their cosine."""
    rng = seeded(seed)
    one, other = keras.Input((6,)), keras.Input((6,))
    embed = layers.Dense(5, "elu", name="embed")
    first, second = (planted.Through(on_embedding)(embed(x)) for x in (one, other))
    norms = ops.norm(first, axis=-1) * ops.norm(second, axis=-1)
    similarity = ops.sum(first * second, axis=-1) / (norms + 1e-3)
    similarity = planted.Through(on_similarity)(ops.expand_dims(similarity, -1))
    outputs = layers.Dense(1, name="calibrated")(similarity)
    batch = [features(rng, 14, 6), features(rng, 14, 6)]
    return network([one, other], outputs, "mse"), batch, features(rng, 14, 1)


def experts(seed, *, on_gate=NOTHING, on_expert=NOTHING):
    """Three experts, weighted by a gate."""
    rng = seeded(seed)
    x = keras.Input((7,))
    gate = planted.Through(on_gate)(layers.Dense(3, name="gate")(x))
    shares = ops.softmax(gate)
    opinions = [layers.Dense(2, "tanh", name=f"expert_{k}")(x) for k in range(3)]
    opinions[1] = planted.Through(on_expert)(opinions[1])
    mixed = ops.einsum("bk,bkd->bd", shares, ops.stack(opinions, axis=1))
    outputs = layers.Dense(2, name="mixed")(mixed)
    return network(x, outputs, "log_cosh"), features(rng, 15, 7), features(rng, 15, 2)
