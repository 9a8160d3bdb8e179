"""Recurrent networks with masks, states and encoders."""

import keras
import numpy as np
from keras import layers

from tests.corpora.controls.building import classified
from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential


def _ragged(rng, x):
    """Zeroes the ends of sequences, which masks them; one is masked throughout."""
    for row, length in zip(x, rng.integers(1, x.shape[1] + 1, len(x)), strict=True):
        row[length:] = 0
    x[1] = 0
    return x


def masked(make):
    """A masked sequence of vectors into the layer that `make()` returns."""

    def build(seed):
        rng = seeded(seed)
        x = keras.Input((6, 3), name="x")
        model, y = classified(rng, x, make()(layers.Masking()(x)))
        return model, _ragged(rng, features(rng, 8, 6, 3)), y

    return build


def masked_tokens(seed):
    """Zero is padding; the embedding tells the rest of the network."""
    rng = seeded(seed)
    x = keras.Input((6,), dtype="int32", name="x")
    h = layers.Embedding(9, 5, mask_zero=True, name="table")(x)
    h = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both")(h)
    h = layers.TimeDistributed(layers.Dense(4, activation="tanh"), name="each")(h)
    model, y = classified(rng, x, layers.LSTM(4, name="last")(h))
    return model, _ragged(rng, 1 + integers(rng, 8, 8, 6)), y


def masked_attention(seed):
    """Self-attention and average pooling over what is not padding."""
    rng = seeded(seed)
    x = keras.Input((6,), dtype="int32", name="x")
    h = layers.Embedding(9, 8, mask_zero=True, name="table")(x)
    h = layers.MultiHeadAttention(2, 4, name="attention")(h, h, use_causal_mask=True)
    model, y = classified(rng, x, layers.GlobalAveragePooling1D()(h))
    tokens = _ragged(rng, 1 + integers(rng, 8, 8, 6))
    tokens[1, 0] = 3
    return model, tokens, y


def masked_loss(seed):
    """Padding reaches the loss as a mask."""
    rng = seeded(seed)
    x = keras.Input((6,), dtype="int32", name="x")
    h = layers.LSTM(5, return_sequences=True, name="lstm")(
        layers.Embedding(9, 5, mask_zero=True, name="table")(x)
    )
    head = layers.Dense(9, activation="softmax", name="head")(h)
    model = compiled(keras.Model(x, head), "sparse_categorical_crossentropy")
    tokens = _ragged(rng, 1 + integers(rng, 8, 8, 6))
    tokens[1, 0] = 3
    return model, tokens, np.roll(tokens, -1, axis=1)


def stateful(seed):
    """The state of the last batch is where the next one starts."""
    rng = seeded(seed)
    x = keras.Input(batch_shape=(8, 5, 3), name="x")
    h = layers.LSTM(5, stateful=True, name="lstm")(x)
    model = compiled(keras.Model(x, layers.Dense(2, name="head")(h)))
    return model, features(rng, 8, 5, 3), features(rng, 8, 2)


def encoder_decoder(seed):
    """The encoder's last state is the decoder's first."""
    rng = seeded(seed)
    source, target = keras.Input((5, 3), name="source"), keras.Input((4, 2), name="target")
    _, hidden, carry = layers.LSTM(5, return_state=True, name="encoder")(source)
    h = layers.LSTM(5, return_sequences=True, name="decoder")(target, initial_state=[hidden, carry])
    model = compiled(keras.Model([source, target], layers.Dense(2, name="head")(h)))
    return model, [features(rng, 8, 5, 3), features(rng, 8, 4, 2)], features(rng, 8, 4, 2)


def long_sequence(seed):
    """Forty steps: a gradient that has shrunk a lot by the time it is back at the start."""
    rng = seeded(seed)
    model = sequential((40, 3), layers.SimpleRNN(5, name="rnn"), layers.Dense(2, name="head"))
    return model, features(rng, 8, 40, 3), features(rng, 8, 2)


CASES = [
    Case(
        "masked_lstm",
        masked(lambda: layers.LSTM(5, name="lstm")),
        note="one sequence is masked throughout",
    ),
    Case("masked_gru", masked(lambda: layers.GRU(5, name="gru"))),
    Case("masked_simple_rnn", masked(lambda: layers.SimpleRNN(5, name="rnn"))),
    Case("masked_bidirectional", masked(lambda: layers.Bidirectional(layers.LSTM(4), name="both"))),
    Case("masked_tokens", masked_tokens),
    Case("masked_attention", masked_attention),
    Case("masked_loss", masked_loss),
    Case("stateful_lstm", stateful),
    Case("encoder_decoder", encoder_decoder),
    Case("forty_steps", long_sequence),
]
