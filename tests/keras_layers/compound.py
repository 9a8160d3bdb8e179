"""Layers around other layers, cells, and quantized layers: how each is made, and its inputs."""

import numpy as np
from keras import layers

_F, _T, _I = (5,), (6, 3), (6, 6, 3)


def call_cell(layer, x, training):
    """Calls a cell with one state, or with two."""
    inputs, *states = x
    return layer(inputs, states, training=training)


def call_reversed(layer, x, training):
    return layer(x, reverse=True)


def quantized(make, shape, mode):
    """Makes a layer that is built, and then quantized."""

    def make_quantized():
        layer = make()
        layer(np.zeros((1, *shape), "float32"))
        layer.quantize(mode)
        return layer

    return make_quantized


def reversible(**keywords):
    """Makes an embedding that is built."""

    def make():
        layer = layers.ReversibleEmbedding(7, 5, **keywords)
        layer(np.zeros((1, 2), "int32"))
        return layer

    return make


def _dense():
    return layers.Dense(4, activation="tanh")


def _einsum():
    return layers.EinsumDense("abc,cd->abd", output_shape=(6, 4), bias_axes="d")


def _cell_inputs(units, states):
    return ((3,), *[(units,)] * states)


LAYERS = {
    "Bidirectional": [
        (lambda: layers.Bidirectional(layers.LSTM(3)), (_T,)),
        (lambda: layers.Bidirectional(layers.GRU(2, return_sequences=True), "sum"), (_T,)),
        (lambda: layers.Bidirectional(layers.SimpleRNN(2), "mul"), (_T,)),
    ],
    "GRUCell": [
        (lambda: layers.GRUCell(4), _cell_inputs(4, 1), call_cell),
        (lambda: layers.GRUCell(3, reset_after=False), _cell_inputs(3, 1), call_cell),
        (lambda: layers.GRUCell(3, use_bias=False), _cell_inputs(3, 1), call_cell),
    ],
    "LSTMCell": [
        (lambda: layers.LSTMCell(4), _cell_inputs(4, 2), call_cell),
        (lambda: layers.LSTMCell(3, use_bias=False), _cell_inputs(3, 2), call_cell),
        (lambda: layers.LSTMCell(3, activation="sigmoid"), _cell_inputs(3, 2), call_cell),
    ],
    "SimpleRNNCell": [
        (lambda: layers.SimpleRNNCell(4), _cell_inputs(4, 1), call_cell),
        (lambda: layers.SimpleRNNCell(3, use_bias=False), _cell_inputs(3, 1), call_cell),
        (lambda: layers.SimpleRNNCell(3, activation="sigmoid"), _cell_inputs(3, 1), call_cell),
    ],
    "Pipeline": [
        (lambda: layers.Pipeline([layers.Rescaling(2.0), layers.Rescaling(0.5)]), (_F,)),
        (lambda: layers.Pipeline([layers.CenterCrop(4, 4)]), (_I,)),
        (lambda: layers.Pipeline([layers.RandomFlip(seed=1), layers.Rescaling(0.5)]), (_I,)),
    ],
    "RNN": [
        (lambda: layers.RNN(layers.GRUCell(3)), (_T,)),
        (lambda: layers.RNN(layers.LSTMCell(2), return_sequences=True), (_T,)),
        (lambda: layers.RNN([layers.SimpleRNNCell(3), layers.SimpleRNNCell(2)]), (_T,)),
    ],
    "ReversibleEmbedding": [
        (reversible(), (_F,), call_reversed),
        (reversible(tie_weights=False), (_F,), call_reversed),
        (reversible(logit_soft_cap=3.0), (_F,), call_reversed),
    ],
    "SpectralNormalization": [
        (lambda: layers.SpectralNormalization(_dense()), (_F,)),
        (lambda: layers.SpectralNormalization(layers.Conv2D(2, 2), power_iterations=3), (_I,)),
        (lambda: layers.SpectralNormalization(layers.Conv1D(2, 2)), (_T,)),
    ],
    "StackedRNNCells": [
        (lambda: layers.RNN(layers.StackedRNNCells([layers.GRUCell(2)])), (_T,)),
        (lambda: layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2)] * 1)), (_T,)),
        (
            lambda: layers.RNN(
                layers.StackedRNNCells([layers.SimpleRNNCell(3), layers.GRUCell(2)])
            ),
            (_T,),
        ),
    ],
    "TimeDistributed": [
        (lambda: layers.TimeDistributed(_dense()), (_T,)),
        (lambda: layers.TimeDistributed(layers.Conv1D(2, 2)), ((3, 4, 2),)),
        (lambda: layers.TimeDistributed(layers.LayerNormalization()), (_T,)),
    ],
    "QuantizedDense": [(quantized(_dense, _F, mode), (_F,)) for mode in ("int8", "int4", "float8")],
    "QuantizedEinsumDense": [
        (quantized(_einsum, _T, mode), (_T,)) for mode in ("int8", "int4", "float8")
    ],
}
