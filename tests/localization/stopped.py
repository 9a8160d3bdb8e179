"""Layers that let no gradient through, and layers in which it becomes NaN."""

import keras
import tensorflow as tf
from keras import layers

from tests.corpora.mutants import planted
from tests.localization.building import HOSTS, USUAL, Case, spread


def detached():
    return planted.Through(planted.stop(), name="planted")


def rounded():
    steps = planted.choose(lambda x: tf.round(4 * x) / 4, planted.honest)
    return planted.Through(steps, name="planted")


def hard(x):
    """The position of the largest feature, where a softmax was meant."""
    return tf.one_hot(tf.argmax(x, axis=-1), x.shape[-1], dtype=x.dtype)


def one_hot():
    return planted.Through(planted.choose(hard, tf.nn.softmax), name="planted")


def shortcut():
    """The gradient does not come back through the shortcut around a healthy layer."""
    stop = planted.Through(planted.stop(), name="planted")
    inner = layers.Dense(8, activation="tanh", name="inner")
    add = layers.Add(name="merged")
    return lambda x: add([inner(x), stop(x)])


def beside_dead_units():
    """The stop is in the first branch; all units of the second one are off."""
    stop = planted.Through(planted.stop(), name="planted")
    off = keras.initializers.Constant(-5.0)
    dead = layers.Dense(8, activation="relu", bias_initializer=off, name="dead")
    add = layers.Add(name="merged")
    return lambda x: add([stop(x), dead(x)])


class Routing(layers.Layer):
    """Sends every example to the one of its experts that a layer of its own chooses.

    The gradient comes back through the experts, and not through the choice.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.choose = planted.choose(hard, tf.nn.softmax)
        self.route = layers.Dense(3, name="route")
        self.experts = [layers.Dense(8, activation="tanh", name=f"expert_{k}") for k in range(3)]

    def build(self, shape):
        for layer in (self.route, *self.experts):
            layer.build(shape)
        self.built = True

    def call(self, x):
        shares = self.choose(self.route(x))
        return sum(shares[..., k : k + 1] * self.experts[k](x) for k in range(3))


def routing():
    return Routing(name="planted")


def own_kernel():
    return planted.Dense(8, activation="tanh", on_kernel=planted.stop(), name="planted")


def guarded(function, floor):
    """Returns the function, exactly; in a twin a little beside its singularity."""
    offset = planted.choose(0.0, floor)
    return planted.Through(lambda x: function(x, offset), name="planted")


def norm(x, offset):
    return x + tf.sqrt(tf.reduce_sum(x**2, axis=-1, keepdims=True) + offset)


def root(x, offset):
    return x + tf.sqrt(x**2 + offset)


def entropy(x, offset):
    """`x log |x|`, with its limit at zero put in by `where`."""
    value = x * tf.math.log(x**2 + offset)
    return tf.where(tf.equal(x, 0), tf.zeros_like(x), value) if offset == 0 else value


def empty_example(host, function):
    """Returns a builder of a network whose fourth example is zero, and stays so up to the fault."""

    def build(seed):
        model, x, y = HOSTS[host](seed, guarded(function, 1e-2))
        x[3] = 0
        return model, x, y

    return build


CASES = [
    *spread("blocked", "stop_gradient", detached),
    *spread("blocked", "rounding", rounded, ("mlp", "conv", "attention")),
    *spread("blocked", "one_hot", one_hot),
    *spread("blocked", "stopped_shortcut", shortcut, ("mlp", "recurrent", "attention")),
    *spread("blocked", "stopped_beside_dead_units", beside_dead_units, ("mlp", "attention")),
    *spread("blocked", "hard_routing", routing, ("mlp", "recurrent", "attention")),
    *spread("blocked", "stopped_kernel", own_kernel, ("mlp", "recurrent", "attention")),
    *[
        Case(f"nan_{function.__name__}_{host}", "nan", empty_example(host, function), host=host)
        for host, function in zip(
            (*USUAL, *USUAL), (norm, root, entropy, entropy, norm, root), strict=True
        )
    ],
]
