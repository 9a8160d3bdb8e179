"""Regularizers of every kind, on weights and on activities."""

import keras
from keras import layers, ops

from tests.corpora.controls.building import around, dense, layer_case
from tests.corpora.corpus import Case, features, integers, seeded, sequential


class Smooth(keras.regularizers.Regularizer):
    """Neighbouring weights should be alike."""

    def __call__(self, x):
        return 0.1 * ops.sum(ops.square(x[1:] - x[:-1]))


def everywhere(seed):
    """Different penalties on kernels, biases, recurrent kernels, gammas and activities."""
    return around(
        seed,
        (5, 3),
        lambda: layers.LSTM(
            4,
            kernel_regularizer="l2",
            recurrent_regularizer="l1",
            return_sequences=True,
            name="lstm",
        ),
        lambda: layers.LayerNormalization(
            gamma_regularizer="l2", beta_regularizer="l2", name="norm"
        ),
        dense(
            4,
            activity_regularizer=keras.regularizers.L1L2(1e-3, 1e-2),
            bias_regularizer="l2",
            name="dense",
        ),
        lambda: layers.ActivityRegularization(l2=0.01),
    )


def embedding(seed):
    """An L2 penalty reaches the rows that no token uses."""
    rng = seeded(seed)
    table = layers.Embedding(
        30, 4, embeddings_regularizer=keras.regularizers.L2(0.02), name="table"
    )
    model = sequential((4,), table, layers.Flatten(), layers.Dense(2, name="head"))
    return model, integers(rng, 6, 8, 4), features(rng, 8, 2)


def penalty_case(name, penalty, note=""):
    return layer_case(
        name,
        (6,),
        dense(kernel_regularizer=penalty, name="penalized"),
        dense(name="free"),
        note=note,
    )


CASES = [
    penalty_case("l2", keras.regularizers.L2(0.05)),
    penalty_case("l1", keras.regularizers.L1(0.05)),
    penalty_case("l1_l2", keras.regularizers.L1L2(0.02, 0.02)),
    penalty_case("orthogonal_rows", keras.regularizers.OrthogonalRegularizer(0.05)),
    penalty_case(
        "orthogonal_columns", keras.regularizers.OrthogonalRegularizer(0.05, mode="columns")
    ),
    penalty_case("l2_enormous", keras.regularizers.L2(1e5), "the penalty drowns the data"),
    penalty_case("l2_faint", keras.regularizers.L2(1e-9), "the data drown the penalty"),
    penalty_case("penalty_by_hand", Smooth()),
    layer_case(
        "activity", (6,), dense(activity_regularizer=keras.regularizers.L2(0.1), name="dense")
    ),
    Case("penalties_everywhere", everywhere),
    Case("penalty_on_unused_rows", embedding),
]
