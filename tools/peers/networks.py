"""The five networks that are measured, each compiled, with one fixed batch."""

import keras
import numpy as np
from keras import layers

CLASSES = 10


def _compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=False)
    return model


def _batch(shape, count, integers=None):
    rng = np.random.default_rng(0)
    x = (
        rng.normal(size=(count, *shape)).astype("float32")
        if integers is None
        else rng.integers(integers, size=(count, *shape))
    )
    return x, rng.integers(CLASSES, size=count)


def digits():
    """The network of the digits example, dense."""
    stack = [
        keras.Input((64,)),
        layers.Dense(128, "relu"),
        layers.Dense(64, "relu"),
        layers.Dense(CLASSES),
    ]
    return _compiled(keras.Sequential(stack)), *_batch((64,), 32)


def cnn():
    """Two convolutions on 28 by 28 images."""
    stack = [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(CLASSES),
    ]
    return _compiled(keras.Sequential(stack)), *_batch((28, 28, 1), 32)


def lstm():
    """20 tokens through an embedding and an LSTM."""
    stack = [keras.Input((20,)), layers.Embedding(1000, 64), layers.LSTM(64), layers.Dense(CLASSES)]
    return _compiled(keras.Sequential(stack)), *_batch((20,), 32, 1000)


def transformer():
    """Two encoder blocks on 20 tokens."""
    tokens = keras.Input((20,))
    x = layers.Embedding(1000, 64)(tokens)
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 16)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(64)(layers.Dense(128, "gelu")(x)))
    outputs = layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x))
    return _compiled(keras.Model(tokens, outputs)), *_batch((20,), 32, 1000)


def resnet50():
    """ResNet50 on 8 images of 64 by 64."""
    model = keras.applications.ResNet50(
        weights=None, input_shape=(64, 64, 3), classes=CLASSES, classifier_activation=None
    )
    return _compiled(model), *_batch((64, 64, 3), 8)


def large_transformer():
    """Six encoder blocks of width 512 on 64 tokens: 27 million parameters."""
    tokens = keras.Input((64,))
    x = layers.Embedding(16000, 512)(tokens)
    for _ in range(6):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(8, 64)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(512)(layers.Dense(2048, "gelu")(x)))
    outputs = layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x))
    return _compiled(keras.Model(tokens, outputs)), *_batch((64,), 8, 16000)


NETWORKS = {f.__name__: f for f in (digits, cnn, lstm, transformer, resnet50)}
# The same, and one that is too large for a table of other tools.
EVERY = {**NETWORKS, "large_transformer": large_transformer}


def chain(depth=3, width=64, rows=32):
    """A dense network of any depth and width, and a batch of any size."""
    hidden = [layers.Dense(width, "tanh") for _ in range(depth)]
    return _compiled(
        keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(CLASSES)])
    ), *_batch((64,), rows)


class TooLarge(layers.Layer):
    """The identity with a gradient 1.001 times too large."""

    def call(self, x):
        @keras.ops.custom_gradient
        def identity(x):
            def grad(*args, upstream=None):
                return 1.001 * (args[0] if upstream is None else upstream)

            return x, grad

        return identity(x)


def relu_network(is_wrong):
    """A float32 ReLU network as people have it, healthy or wrong."""
    keras.utils.set_random_seed(0)
    middle = [TooLarge()] if is_wrong else []
    stack = [
        keras.Input((64,)),
        layers.Dense(64, "relu"),
        *middle,
        layers.Dense(64, "relu"),
        layers.Dense(CLASSES),
    ]
    return _compiled(keras.Sequential(stack)), *_batch((64,), 32)
