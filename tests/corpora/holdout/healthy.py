"""Forty right gradients: twenty twins of what is wrong, twenty networks that easily fail."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.corpora.controls.twins import twin_of
from tests.corpora.corpus import (
    Case,
    compiled,
    dtype_policy,
    features,
    integers,
    seeded,
    sequential,
)
from tests.corpora.holdout import wrong
from tests.corpora.holdout.building import network

# Every second one; the others would be the same networks again.
TWINS = [twin_of(case) for case in wrong.CASES[::2]]


def dense(seed, activation, *, loss="mse", initializer="glorot_uniform", targets=features):
    """A network of one hidden layer."""
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.Dense(9, activation, kernel_initializer=initializer, name="hidden"),
        layers.Dense(2, name="head"),
        loss=loss,
    )
    return model, features(rng, 16, 6), targets(rng, 16, 2)


def of(function):
    """A function between two dense layers."""

    def build(seed):
        rng = seeded(seed)
        x = keras.Input((6,))
        hidden = layers.Lambda(function)(layers.Dense(6, name="hidden")(x))
        model = network(x, layers.Dense(2, name="head")(hidden), "mse")
        return model, features(rng, 16, 6), features(rng, 16, 2)

    return build


def leaky_from_zero(seed):
    """Every unit sits on its kink: the kernel and the bias are zero."""
    return dense(seed, layers.LeakyReLU(), initializer="zeros")


def poisson(seed):
    rng = seeded(seed)
    model = sequential((6,), layers.Dense(9, "elu"), layers.Dense(1, "softplus"), loss="poisson")
    return model, features(rng, 16, 6), rng.poisson(2.0, (16, 1)).astype("float32")


def hinge_at_its_kink(seed):
    """Outputs of exactly one and targets of one: every example sits on the hinge's kink."""
    rng = seeded(seed)
    model = sequential(
        (4,), layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones"), loss="hinge"
    )
    return model, features(rng, 12, 4), np.ones((12, 1), "float32")


def sorted_features(x):
    return ops.sort(x, axis=-1)


def two_largest(x):
    values, _ = ops.top_k(x, 2)
    return ops.concatenate([x, values], axis=-1)


def running_sum(x):
    return ops.cumsum(ops.sin(3.0 * x), axis=-1)


def spectrum(x):
    real, imaginary = ops.rfft(x)
    return ops.concatenate([real, imaginary], axis=-1)


def clipped_at_its_median(x):
    return ops.clip(x, -0.3, 0.3)


def steep_sine(x):
    return ops.sin(200.0 * x)


def nearly_zero_root(x):
    return ops.sqrt(ops.square(x) + 1e-10)


def covariance_root(x):
    """The Cholesky factor of a covariance."""
    centred = x - ops.mean(x, axis=0, keepdims=True)
    covariance = ops.matmul(ops.transpose(centred), centred) / 16.0
    factor = ops.cholesky(covariance + 0.1 * tf.eye(6, dtype=x.dtype))
    return ops.matmul(x, factor)


def solved(x):
    """A linear system in every layer."""
    matrix = ops.matmul(ops.transpose(x), x) + tf.eye(6, dtype=x.dtype)
    return ops.transpose(ops.solve(matrix, ops.transpose(x)))


def two_outputs(seed):
    rng = seeded(seed)
    x = keras.Input((5,))
    trunk = layers.Dense(6, "mish", name="trunk")(x)
    outputs = {
        "mean": layers.Dense(1, name="mean")(trunk),
        "kind": layers.Dense(3, name="kind")(trunk),
    }
    model = keras.Model(x, outputs, name="network")
    kind = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled(model, {"mean": "mae", "kind": kind}, loss_weights={"mean": 10.0, "kind": 0.01})
    return model, features(rng, 12, 5), {"mean": features(rng, 12, 1), "kind": integers(rng, 3, 12)}


def bidirectional_with_mask(seed):
    rng = seeded(seed)
    tokens = integers(rng, 9, 8, 7)
    tokens[:, 4:] *= integers(rng, 2, 8, 1)
    model = sequential(
        (7,),
        layers.Embedding(9, 4, mask_zero=True),
        layers.Bidirectional(layers.LSTM(3)),
        layers.Dense(1),
    )
    return model, tokens, features(rng, 8, 1)


def upsampled(seed):
    rng = seeded(seed)
    model = sequential(
        (4, 4, 2),
        layers.Conv2D(4, 3, padding="same", activation="relu6"),
        layers.UpSampling2D(interpolation="bilinear"),
        layers.Conv2DTranspose(2, 3, strides=2, padding="same"),
        layers.AveragePooling2D(2),
    )
    return model, features(rng, 6, 4, 4, 2), features(rng, 6, 8, 8, 2)


def orthogonal_and_l1(seed):
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.Dense(6, "tanh", kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.1)),
        layers.Dense(2, kernel_regularizer="l1", activity_regularizer="l2"),
    )
    return model, features(rng, 10, 6), features(rng, 10, 2)


def noisy(seed):
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.GaussianNoise(0.3, seed=seed),
        layers.Dense(8, "silu"),
        layers.BatchNormalization(),
        layers.Dropout(0.4, seed=seed),
        layers.Dense(2),
    )
    return model, features(rng, 20, 6), features(rng, 20, 2)


def weighted_with_zeros(seed):
    model, x, y = dense(seed, "gelu")
    weights = np.where(np.arange(16) % 3, 0.0, 2.0).astype("float32")
    return model, x, y, weights


def half_precision(seed):
    with dtype_policy("mixed_bfloat16"):
        return dense(seed, "tanh")


def zero_gate(seed):
    """A residual branch times zero: its weights have no gradient yet."""
    rng = seeded(seed)
    x = keras.Input((6,))
    branch = layers.Dense(6, "tanh", name="branch")(x)
    branch = layers.BatchNormalization(gamma_initializer="zeros", name="gate")(branch)
    outputs = layers.Dense(2, name="head")(x + branch)
    return network(x, outputs, "mse"), features(rng, 16, 6), features(rng, 16, 2)


ALONE = {
    "leaky_from_zero": leaky_from_zero,
    "poisson": poisson,
    "hinge_at_its_kink": hinge_at_its_kink,
    "sorted": of(sorted_features),
    "two_largest": of(two_largest),
    "running_sum": of(running_sum),
    "spectrum": of(spectrum),
    "clipped": of(clipped_at_its_median),
    "steep": of(steep_sine),
    "nearly_zero_root": of(nearly_zero_root),
    "covariance_root": of(covariance_root),
    "solved": of(solved),
    "two_outputs": two_outputs,
    "bidirectional_with_mask": bidirectional_with_mask,
    "upsampled": upsampled,
    "orthogonal_and_l1": orthogonal_and_l1,
    "noisy": noisy,
    "weighted_with_zeros": weighted_with_zeros,
    "half_precision": half_precision,
    "zero_gate": zero_gate,
}
CASES = [*TWINS, *(Case(f"holdout_{name}", build) for name, build in ALONE.items())]
