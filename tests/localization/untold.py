"""Faults whose place no measurement at the layers tells; a healthy layer must not be named."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.corpora.corpus import compiled, features, seeded
from tests.corpora.mutants import planted
from tests.localization.building import Case, finish


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


class Keeper(layers.Layer):
    """Keeps what it computes, for a layer farther up that asks for it."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.inner = layers.Dense(units, activation="tanh", name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        outputs = self.inner(x)
        self.kept = [outputs]
        return outputs


class Asker(layers.Layer):
    """Adds what another layer has kept; its gradient is lost on the way."""

    def __init__(self, keeper, **options):
        super().__init__(**options)
        self.keeper = [keeper]
        self.fault = planted.stop()

    def call(self, x):
        return x + self.fault(self.keeper[0].kept[0])


class SidePath(keras.Model):
    """A shortcut that is no argument of any layer."""

    def __init__(self):
        super().__init__(name="side_path")
        self.below = layers.Dense(8, activation="tanh", name="below")
        self.keeper = Keeper(8, name="keeper")
        self.between = layers.Dense(8, activation="tanh", name="between")
        self.asker = Asker(self.keeper, name="asker")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.asker(self.between(self.keeper(self.below(x)))))


def side_path(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(SidePath())
    model(x)
    return model, x, features(rng, 16, 2)


def penalty_in_the_loss(seed):
    """The loss reads a layer's kernel, and gives it a wrong gradient."""
    rng = seeded(seed)
    x = keras.Input((6, 6, 2), name="x")
    below = layers.Conv2D(4, 3, activation="tanh", name="below")
    hidden = layers.GlobalAveragePooling2D(name="pool")(below(x))
    head = layers.Dense(2, name="head")(hidden)
    value = planted.function(lambda w: 0.1 * tf.reduce_sum(w**2), lambda g, w: g * 0.1 * w)

    def error_and_kernel(y_true, y_pred):
        error = ops.mean(ops.square(y_true - y_pred), axis=-1)
        return error + value(tf.convert_to_tensor(below.kernel))

    model = finish(x, head, error_and_kernel)
    return model, features(rng, 8, 6, 6, 2), features(rng, 8, 2)


CASES = [
    Case(
        "untold_tied_kernel",
        "untold",
        tied,
        at="tied",
        must_be_named=False,
        note="a layer's kernel, used outside of it",
    ),
    Case(
        "untold_side_path",
        "untold",
        side_path,
        at="asker",
        others=(("layer", "side_path"),),
        must_be_named=False,
        note="a tensor that is no argument",
    ),
    Case(
        "untold_kernel_in_the_loss",
        "untold",
        penalty_in_the_loss,
        kind="loss",
        at="error_and_kernel",
        must_be_named=False,
        host="conv",
        note="a layer's kernel, used in the loss",
    ),
]
