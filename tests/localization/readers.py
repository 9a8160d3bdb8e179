"""Weights that several places read, of which one sends back a wrong gradient."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.corpora.corpus import compiled, features, seeded
from tests.corpora.mutants import planted
from tests.localization.building import HOSTS, Case, chain, nothing, spread


class Decoder(layers.Layer):
    """Multiplies by the transpose of another layer's kernel."""

    def __init__(self, encoder, on_kernel=planted.honest, **options):
        super().__init__(**options)
        self.encoder, self.on_kernel = [encoder], on_kernel

    def call(self, x):
        kernel = tf.convert_to_tensor(self.encoder[0].kernel)
        return ops.matmul(x, self.on_kernel(ops.transpose(kernel)))


def second_reader():
    encoder = layers.Dense(4, activation="tanh", name="encoder")
    return chain(encoder, Decoder(encoder, planted.scale(0.5), name="planted"))


def first_reader():
    encoder = planted.Dense(4, activation="tanh", on_kernel=planted.scale(0.5), name="planted")
    return chain(encoder, Decoder(encoder, name="decoder"))


def stopped_reader():
    encoder = layers.Dense(4, activation="tanh", name="encoder")
    return chain(encoder, Decoder(encoder, planted.stop(), name="planted"))


class Tied(keras.Model):
    """Decodes with the transpose of the encoder's kernel; that use has a wrong gradient."""

    def __init__(self):
        super().__init__(name="tied")
        self.encoder = layers.Dense(4, activation="tanh", name="encoder")
        self.fault = planted.scale(0.5)

    def call(self, x):
        code = self.encoder(x)
        kernel = tf.convert_to_tensor(self.encoder.kernel)
        return ops.matmul(code, self.fault(ops.transpose(kernel)))


def tied(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(Tied())
    model(x)
    return model, x, x


class Handing(layers.Layer):
    """Adds a weight of its own and hands the sum to a layer of its own."""

    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],), name="shift")
        self.inner.build(shape)
        self.built = True

    def call(self, x):
        return self.inner(x + self.shift)


def make_handing(fault):
    """Returns a maker of `Handing` around a layer with a fault."""
    return lambda: Handing(planted.Through(fault, name="planted"), name="handing")


def in_the_loss(host):
    """Returns a builder of a network whose loss reads its first kernel, with a wrong gradient."""

    def build(seed):
        model, x, y = HOSTS[host](seed, nothing)
        kernel = model.trainable_variables[0]
        value = planted.function(lambda w: 0.1 * tf.reduce_sum(w**2), lambda g, w: g * 0.1 * w)

        def error_and_kernel(y_true, y_pred):
            error = ops.mean(ops.square(y_true - y_pred), axis=-1)
            return error + value(tf.convert_to_tensor(kernel))

        return compiled(model, error_and_kernel), x, y

    return build


CASES = [
    *spread("reader", "second_reader", second_reader),
    *spread("reader", "first_reader", first_reader),
    *spread("reader", "stopped_reader", stopped_reader, ("mlp", "attention")),
    *spread("reader", "reader_hands_on", make_handing(planted.scale(1.5))),
    *spread("reader", "reader_hands_on_to_stopped", make_handing(planted.stop())),
    Case("reader_in_a_model", "reader", tied, at="tied", note="a kernel, used outside its layer"),
    *[
        Case(
            f"reader_in_the_loss_{host}",
            "reader",
            in_the_loss(host),
            kind="loss",
            at="error_and_kernel",
            host=host,
        )
        for host in ("mlp", "conv", "recurrent")
    ],
]
