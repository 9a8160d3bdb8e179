"""Losses with a wrong gradient: compiled ones, one of several, `loss_fn`, `compute_loss`."""

import keras
import tensorflow as tf
from keras import layers

from tests.corpora.mutants import planted
from tests.localization.building import HOSTS, USUAL, Case, conv, mlp, nothing, recurrent, spread


def squares(p, y):
    return tf.reduce_mean((p - y) ** 2, axis=-1)


def half():
    """Squared error with the 2 of its derivative missing."""
    value = planted.function(squares, lambda g, p, y: g[:, None] * (p - y) / p.shape[-1])

    def half_error(y_true, y_pred):
        return value(y_pred, tf.cast(y_true, y_pred.dtype))

    return half_error


class SummedLoss(keras.losses.Loss):
    """The log of the hyperbolic cosine; its gradient is summed where its value is averaged."""

    def __init__(self):
        super().__init__(name="summed")
        self.value = planted.function(
            lambda p, y: tf.reduce_mean(tf.math.log(tf.cosh(p - y)), axis=-1),
            lambda g, p, y: g[:, None] * tf.tanh(p - y),
        )

    def call(self, y_true, y_pred):
        return self.value(y_pred, tf.cast(y_true, y_pred.dtype))


def make_nothing():
    return nothing


def two_outputs(host):
    """Returns a builder of a network with a second output, whose loss is wrong."""

    def build(seed):
        model, x, y = host(seed, nothing)
        hidden = model.get_layer("head").input
        outputs = {"first": model.output, "second": layers.Dense(2, name="second_head")(hidden)}
        model = keras.Model(model.input, outputs, name="network")
        losses = {"first": "mse", "second": half()}
        model.compile(keras.optimizers.SGD(0.01), losses, jit_compile=False)
        return model, x, {"first": y, "second": 0.5 - y}

    return build


def own_function():
    """A function for `loss_fn` whose gradient has the wrong size."""
    value = planted.function(squares, lambda g, p, y: g[:, None] * 1.5 * (p - y) / p.shape[-1])

    def loss_by_hand(model, x, y, sample_weight, training):
        prediction = model(x, training=training)
        return tf.reduce_mean(value(prediction, tf.cast(y, prediction.dtype)))

    return loss_by_hand


def with_loss_fn(host):
    """Returns a builder of a network that is not compiled: its loss is what `loss_fn` says."""

    def build(seed):
        model, x, y = host(seed, nothing)
        model = keras.Model(model.input, model.output, name="network")
        return model, x, y, {"loss_fn": own_function()}

    return build


class OwnLoss(keras.Model):
    """A model that computes its loss itself."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.value = planted.function(
            squares, lambda g, p, y: g[:, None] * tf.sign(p - y) / p.shape[-1]
        )

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean(self.value(y_pred, tf.cast(y, y_pred.dtype)))


def loss(name, make_loss, at):
    """Returns one case per network for a loss given to `compile`."""

    def options():
        return {"loss": make_loss()}

    return spread("loss", name, make_nothing, USUAL, options, kind="loss", at=at)


CASES = [
    *loss("loss_function", half, "half_error"),
    *loss("loss_object", SummedLoss, "summed"),
    *[
        Case(
            f"loss_of_an_output_{host.__name__}",
            "loss",
            two_outputs(host),
            kind="loss",
            at=("second", "half_error", "second/half_error"),
            host=host.__name__,
        )
        for host in (mlp, conv, recurrent)
    ],
    *[
        Case(
            f"loss_fn_{name}",
            "loss",
            with_loss_fn(HOSTS[name]),
            kind="loss",
            at=("loss_by_hand", "loss_fn"),
            host=name,
        )
        for name in ("mlp", "conv", "attention")
    ],
    *spread(
        "loss",
        "compute_loss",
        make_nothing,
        USUAL,
        lambda: {"model_class": OwnLoss},
        kind="loss",
        at=("compute_loss", "network"),
    ),
]
