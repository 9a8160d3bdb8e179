"""Shared weights of which only one use counts."""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, integers, seeded
from tests.corpora.mutants import planted


class _Twice(layers.Layer):
    """Applies one square kernel twice; its second use is detached."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.detach = planted.stop()

    def build(self, shape):
        self.kernel = self.add_weight(
            shape=(self.units, self.units), initializer="orthogonal", name="kernel"
        )

    def call(self, x):
        kernel = planted.tensor(self.kernel)
        return ops.tanh(ops.matmul(ops.tanh(ops.matmul(x, kernel)), self.detach(kernel)))


def used_twice(seed):
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    below = layers.Dense(8, activation="tanh", name="below")(x)
    head = layers.Dense(2, name="head")(_Twice(8, name="planted")(below))
    return compiled(keras.Model(x, head)), features(rng, 16, 6), features(rng, 16, 2)


class _TiedAutoencoder(keras.Model):
    """Decodes with the transpose of the encoder's kernel; that use is detached."""

    def __init__(self):
        super().__init__(name="autoencoder")
        self.encoder = layers.Dense(4, activation="tanh", name="encoder")
        self.detach = planted.stop()

    def call(self, x):
        code = self.encoder(x)
        return ops.matmul(code, self.detach(ops.transpose(self.encoder.kernel)))


def tied_autoencoder(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(_TiedAutoencoder())
    model(x)
    return model, x, x


class _LanguageModel(keras.Model):
    """Reads and writes with the same table; the gradient of the writing is lost."""

    def __init__(self):
        super().__init__(name="language_model")
        self.table = layers.Embedding(9, 5, name="table")
        self.mixer = layers.LSTM(5, return_sequences=True, name="mixer")
        self.detach = planted.stop()

    def call(self, tokens):
        hidden = self.mixer(self.table(tokens))
        return ops.matmul(hidden, self.detach(ops.transpose(self.table.embeddings)))


def tied_embedding(seed):
    rng = seeded(seed)
    tokens = integers(rng, 9, 8, 5)
    model = compiled(_LanguageModel(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(tokens)
    return model, tokens, integers(rng, 9, 8, 5)


def one_leg_of_two(seed):
    """A siamese network whose second leg is detached, as in SimSiam, where nobody meant it."""
    rng = seeded(seed)
    first, second = keras.Input((6,), name="first"), keras.Input((6,), name="second")
    leg = layers.Dense(4, activation="tanh", name="leg")
    right = planted.Through(planted.stop(), name="detach")(leg(second))
    head = layers.Dense(1, name="head")(layers.Multiply()([leg(first), right]))
    model = compiled(
        keras.Model([first, second], head), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    return model, [features(rng, 16, 6), features(rng, 16, 6)], integers(rng, 2, 16, 1)


CASES = [
    Case("kernel_used_twice", used_twice, "planted", note="one of two uses of a kernel counts"),
    Case(
        "tied_autoencoder",
        tied_autoencoder,
        "encoder/kernel",
        place="autoencoder",
        note="the decoder's use of a tied kernel is lost",
    ),
    Case(
        "tied_embedding_half",
        tied_embedding,
        "table",
        place="language_model",
        note="the output's use of a tied embedding is lost",
    ),
    Case(
        "one_leg_of_two",
        one_leg_of_two,
        "leg",
        place="detach",
        note="one leg of a siamese network learns",
    ),
]
