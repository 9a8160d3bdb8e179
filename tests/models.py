"""Small healthy models, one for every kind that the tests need; each returns (model, x, y)."""

import keras
import numpy as np
from keras import layers, ops

ROWS = 64


def data(shape, targets, seed):
    """Standard normal inputs; `targets` is a number of classes, or a shape of real targets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, *shape)).astype("float32")
    if isinstance(targets, int):
        return x, rng.integers(0, targets, ROWS)
    return x, rng.normal(size=(ROWS, *targets)).astype("float32")


def compiled(model, loss="mse", optimizer="sgd", **kwargs):
    """Compiles with plain gradient descent, which is traced three times as fast as Adam."""
    model.compile(optimizer, loss, **kwargs)
    return model


def mlp(seed=0, middle=(), **kwargs):
    keras.utils.set_random_seed(seed)
    stack = [layers.Input((10,)), layers.Dense(16, "tanh", name="below"), *middle]
    stack += [layers.Dense(16, "tanh", name="above"), layers.Dense(1, name="head")]
    return compiled(keras.Sequential(stack), **kwargs), *data((10,), (1,), seed)


def cnn(seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    stack = [
        layers.Input((8, 8, 1)),
        layers.Conv2D(6, 3, name="conv"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10),
    ]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(keras.Sequential(stack), loss, **kwargs), *data((8, 8, 1), 10, seed)


def noisy(seed=0, activity_regularizer="l1", **kwargs):
    """Has all that could leave a trace: dropout, noise, batch normalization, penalties, metrics."""
    keras.utils.set_random_seed(seed)
    stack = [
        layers.Input((10,)),
        layers.Dense(16, kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.3),
        layers.GaussianNoise(0.1),
        layers.Dense(8, "tanh", activity_regularizer=activity_regularizer),
        layers.Dense(3, "softmax"),
    ]
    kwargs.setdefault("metrics", ["accuracy"])
    model = compiled(keras.Sequential(stack), "sparse_categorical_crossentropy", **kwargs)
    return model, *data((10,), 3, seed)


def lstm(seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([layers.Input((7, 4)), layers.LSTM(8), layers.Dense(1)])
    return compiled(model), *data((7, 4), (1,), seed)


def transformer(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = hidden = layers.Input((6, 8))
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 4, dropout=0.1)(hidden, hidden)
        hidden = layers.LayerNormalization()(layers.Add()([hidden, attended]))
        widened = layers.Dense(8)(layers.Dense(16, "gelu")(hidden))
        hidden = layers.LayerNormalization()(layers.Add()([hidden, widened]))
    outputs = layers.Dense(3)(layers.GlobalAveragePooling1D()(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(keras.Model(inputs, outputs), loss), *data((6, 8), 3, seed)


class VAE(keras.Model):
    """Subclassed, with its Kullback-Leibler term in `add_loss`."""

    def __init__(self):
        super().__init__()
        self.encoder = layers.Dense(8)
        self.decoder = layers.Dense(10)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x):
        mean, log_variance = ops.split(self.encoder(x), 2, axis=-1)
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seeds)
        self.add_loss(-0.5 * ops.mean(1 + log_variance - ops.square(mean) - ops.exp(log_variance)))
        return self.decoder(mean + ops.exp(log_variance / 2) * noise)


def vae(seed=0):
    keras.utils.set_random_seed(seed)
    x, _ = data((10,), 2, seed)
    model = compiled(VAE())
    model(x)
    return model, x, x


def two_in_two_out(seed=0):
    keras.utils.set_random_seed(seed)
    left, right = layers.Input((4,), name="left"), layers.Input((3,), name="right")
    hidden = layers.Dense(8, "tanh")(layers.Concatenate()([left, right]))
    outputs = {
        "a": layers.Dense(1, name="a")(hidden),
        "b": layers.Dense(3, activation="softmax", name="b")(hidden),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    losses = {"a": "mse", "b": "sparse_categorical_crossentropy"}
    compiled(model, losses, loss_weights={"a": 0.3, "b": 2.0})
    (x1, y1), (x2, y2) = data((4,), (1,), seed), data((3,), 3, seed + 1)
    return model, {"left": x1, "right": x2}, {"a": y1, "b": y2}


def frozen(seed=0):
    model, x, y = mlp(seed)
    model.get_layer("above").trainable = False
    return compiled(model), x, y


def with_policy(policy, seed=0):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        # Keras cannot add up an activity penalty in half precision and a weight penalty in single.
        return noisy(seed, activity_regularizer=None)
    finally:
        keras.config.set_dtype_policy(before)


HEALTHY = {
    "tanh MLP": mlp,
    "CNN with batch norm, ReLU, max pooling": cnn,
    "LSTM": lstm,
    "two-block transformer": transformer,
    "subclassed VAE with add_loss": vae,
    "two inputs, two outputs, loss weights": two_in_two_out,
    "frozen layer": frozen,
    "mixed_float16": lambda seed=0: with_policy("mixed_float16", seed),
    "mixed_bfloat16": lambda seed=0: with_policy("mixed_bfloat16", seed),
    "dropout and Gaussian noise": noisy,
}
