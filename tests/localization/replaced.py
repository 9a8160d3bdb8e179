"""Layers whose backward pass is not in the `call` of their class: quantized, or replaced in one."""

from keras import layers, ops

from tests.corpora.mutants import planted
from tests.localization.building import HOSTS, Case, spread


class Rounding(layers.Dense):
    """A dense layer of one's own that is quantized: its rounding is not one that is known."""


def quantized(host):
    """Returns a builder of a network with a quantized layer; not quantized in the twin."""

    def build(seed):
        model, x, y = HOSTS[host](seed, Rounding(8, name="planted"))
        if planted.choose(True, False):
            model.get_layer("planted").quantize("int8", type_check=False)
        model.compile("sgd", "mse", jit_compile=False)
        return model, x, y

    return build


def one_instance():
    """A dense layer whose `call` is another function in this instance alone."""
    layer = layers.Dense(8, name="planted")
    fault, call = planted.scale(0.7), layer.call

    def call_and_scale(x, training=None):
        return fault(ops.tanh(call(x, training=training)))

    layer.call = call_and_scale
    return layer


CASES = [
    *[
        Case(f"quantized_{host}", "replaced", quantized(host), host=host)
        for host in ("mlp", "attention")
    ],
    *spread("replaced", "call_of_an_instance", one_instance, ("mlp", "attention")),
]
