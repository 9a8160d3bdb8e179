"""Faults inside nested models and inside wrappers of layers."""

import keras
from keras import layers

from tests.corpora.corpus import features, integers, seeded
from tests.corpora.mutants import planted
from tests.localization import activations
from tests.localization.building import ANY_CALL, Case, finish, spread
from tests.localization.loops import Leaky, rows


def block(inner):
    """Returns a builder of a `Sequential` model with a fault between two layers of its own."""

    def make():
        parts = [inner("lower"), planted.Through(activations.factor(), name="planted")]
        return keras.Sequential([*parts, inner("upper")], name="block")

    return make


def dense(name):
    return layers.Dense(8, activation="tanh", name=name)


def convolution(name):
    return layers.Conv2D(4, 3, padding="same", activation="tanh", name=name)


def sequences(name):
    return layers.GRU(8, return_sequences=True, name=name)


def two_deep():
    """A Functional model in a `Sequential` model in a Functional model."""
    x = keras.Input((8,))
    middle = planted.Through(activations.sign(), name="planted")(dense("lower")(x))
    inner = keras.Model(x, layers.Add(name="shortcut")([x, middle]), name="inner")
    return keras.Sequential([dense("before"), inner, dense("after")], name="outer")


def each_step():
    inner = planted.Dense(8, activation="tanh", on_input=planted.scale(0.8), name="planted")
    return layers.TimeDistributed(inner, name="each_step")


class Attending(layers.MultiHeadAttention):
    """Overrides a part of what the inherited `call` computes."""

    def _compute_attention(self, query, *args, **kwargs):
        return super()._compute_attention(activations.factor()(query), *args, **kwargs)


class Convolving(layers.Conv2D):
    """Overrides the operation, as its documentation proposes."""

    def convolution_op(self, inputs, kernel):
        return planted.scale(0.6)(super().convolution_op(inputs, kernel))


class Normalizing(layers.BatchNormalization):
    """Takes the statistics of the batch as constants."""

    def _moments(self, inputs, mask):
        return tuple(map(keras.ops.stop_gradient, super()._moments(inputs, mask)))


def attending():
    attention = Attending(2, 4, name="planted", flash_attention=False)
    x = keras.Input((6, 8))
    return keras.Model(x, attention(x, x), name="attending")


class SameShape(planted.Through):
    """What `TimeDistributed` wants to be told."""

    def compute_output_shape(self, shape):
        return shape


def each_step_without_weights():
    inner = SameShape(activations.swish_off(), name="planted")
    return layers.TimeDistributed(inner, name="each_step")


def frames(seed):
    """A convolution for each frame of a short film, with a wrong kernel gradient."""
    rng = seeded(seed)
    x = keras.Input((3, 6, 6, 2), name="x")
    inner = planted.Conv2D(3, 3, activation="tanh", on_kernel=planted.scale(1.4), name="planted")
    hidden = layers.TimeDistributed(inner, name="each_frame")(x)
    flat = layers.Reshape((3, 48), name="flat")(hidden)
    head = layers.Dense(2, name="head")(layers.GRU(5, name="above")(flat))
    return finish(x, head), features(rng, 6, 3, 6, 6, 2), features(rng, 6, 2)


def beside_another_input(is_nested):
    """Returns a builder of a network for tokens and numbers; the fault is on the way of the tokens.

    What the gradient is at the numbers says nothing of it.
    """

    def build(seed):
        rng = seeded(seed)
        tokens, numbers = keras.Input((4,), dtype="int32"), keras.Input((4, 3))
        words = layers.Embedding(7, 5, name="words")(tokens)
        words = planted.Through(activations.factor(), name="planted")(words)
        joined = layers.Concatenate(name="joined")([words, numbers])
        hidden = layers.GRU(5, name="above")(joined)
        inputs = [tokens, numbers]
        if is_nested:
            outer = [keras.Input((4,), dtype="int32"), keras.Input((4, 3))]
            inputs, hidden = outer, keras.Model(inputs, hidden, name="block")(outer)
        model = finish(inputs, layers.Dense(2, name="head")(hidden))
        return model, [integers(rng, 7, 8, 4), features(rng, 8, 4, 3)], features(rng, 8, 2)

    return build


def both_ways(forward, backward):
    """Returns a builder of a bidirectional layer of leaky cells with two factors."""

    def make():
        factors = planted.choose((forward, backward), (1.0, 1.0))
        ahead = layers.RNN(Leaky(4, factors[0], name="cell_ahead"), True, name="ahead")
        back = layers.RNN(
            Leaky(4, factors[1], name="cell_back"), True, go_backwards=True, name="back"
        )
        return layers.Bidirectional(ahead, backward_layer=back, name="both_ways")

    return make


CASES = [
    *spread("nested", "nested_sequential", block(dense), ["mlp"]),
    *spread("nested", "nested_sequential", block(convolution), ["conv"]),
    *spread("nested", "nested_sequential", block(sequences), ["recurrent"]),
    *spread("nested", "nested_two_deep", two_deep, ["mlp"]),
    Case("another_input", "inputs", beside_another_input(False), host="recurrent"),
    Case("another_input_nested", "inputs", beside_another_input(True), host="recurrent"),
    *spread("inherited", "inherited_attention", attending, ["attention"]),
    *spread(
        "inherited",
        "inherited_convolution",
        lambda: Convolving(4, 3, padding="same", name="planted"),
        ["conv"],
    ),
    *spread("inherited", "inherited_statistics", lambda: Normalizing(name="planted"), ["mlp"]),
    *spread("wrapper", "time_distributed_dense", each_step, ["recurrent"], call=ANY_CALL),
    *spread(
        "wrapper",
        "time_distributed_activation",
        each_step_without_weights,
        ["attention"],
        call=ANY_CALL,
    ),
    Case("time_distributed_frames", "wrapper", frames, call=ANY_CALL, host="conv"),
    *spread(
        "wrapper",
        "bidirectional_ahead",
        both_ways(0.7, 1.0),
        ["recurrent"],
        at="cell_ahead",
        call=ANY_CALL,
    ),
    *spread(
        "wrapper",
        "bidirectional_back",
        both_ways(1.0, 0.7),
        ["attention"],
        at="cell_back",
        call=ANY_CALL,
    ),
    *spread(
        "wrapper",
        "bidirectional_both",
        rows(both_ways(0.8, 0.8)),
        ["conv"],
        at=("cell_ahead", "cell_back"),
        call=ANY_CALL,
    ),
]
