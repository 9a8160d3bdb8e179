"""Operations that move the loss in steps are found between parameters and loss, nowhere else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradhooks import check_gradients
from tests.corpora.mutants.planted import Through

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


def step_operations(function):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="tanh"),
            Through(function, name="middle"),
            keras.layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse")
    report = check_gradients(model, X, np.zeros((8, 2)), samples=1, train_step=False)
    return report.precision.step_operations


def through_integers(x):
    return tf.cast(tf.cast(x * 127, tf.int32), x.dtype) / 127


def in_a_loop(x):
    return tf.while_loop(lambda k, _: k < 2, lambda k, y: (k + 1, tf.round(y * 8) / 8), (0, x))[1]


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: x + tf.stop_gradient(tf.round(x * 127) / 127 - x), "Round"),
        (through_integers, "Cast"),
        (lambda x: x * tf.cast(x > 0, x.dtype), "Cast"),
        (
            lambda x: tf.quantization.fake_quant_with_min_max_args(tf.cast(x, tf.float32), -1, 1),
            "FakeQuant",
        ),
        (
            lambda x: (
                x
                + tf.gather(tf.constant([0.1, 0.2, 0.3], x.dtype), tf.argmax(x[:, :3], -1))[:, None]
            ),
            "Gather",
        ),
        (lambda x: x + tf.one_hot(tf.argmax(x, -1), 5, dtype=x.dtype), "hot"),
        (in_a_loop, "hile"),
    ],
)
def test_an_operation_that_moves_in_steps_is_named(function, operation):
    names = step_operations(function)
    assert any(operation.lower() in name.lower() for name in names), names


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.nn.relu(x),
        lambda x: tf.where(x > 0, x, 0.1 * x),
        lambda x: tf.nn.softmax(x) * tf.cast(tf.shape(x)[-1], x.dtype),
        lambda x: tf.gather(x, [0, 2, 1, 4, 3], axis=1),
        lambda x: x * tf.round(tf.ones_like(x) * 2.4),
        lambda x: tf.abs(x) + tf.sort(x, axis=-1),
        lambda x: tf.reduce_max(x, -1, keepdims=True) + x,
        lambda x: tf.reshape(tf.reshape(x, [-1]), tf.shape(x)),
    ],
)
def test_operations_that_only_choose_or_do_not_depend_on_parameters_are_not_named(function):
    assert step_operations(function) == ()
