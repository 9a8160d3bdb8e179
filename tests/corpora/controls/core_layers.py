"""Every layer of Keras that has weights, in a network as small as it can be."""

import keras
from keras import layers

from tests.corpora.controls.building import around, dense, layer_case
from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential


def tokens(seed, *middle):
    """Token inputs, 12 of them in a row of 5, and a dense head."""
    rng = seeded(seed)
    model = sequential(
        (5,), *(make() for make in middle), layers.Flatten(), layers.Dense(2, name="head")
    )
    return model, integers(rng, 12, 8, 5), features(rng, 8, 2)


def attends(seed, make, inputs=1):
    """A layer that takes `inputs` copies of one sequence: query, value, key."""
    rng = seeded(seed)
    x = keras.Input((5, 8), name="x")
    hidden = layers.Dense(8, name="below")(x)
    hidden = make()([hidden] * inputs) if inputs > 1 else make()(hidden, hidden)
    head = layers.Dense(2, name="head")(layers.GlobalAveragePooling1D()(hidden))
    return compiled(keras.Model(x, head)), features(rng, 8, 5, 8), features(rng, 8, 2)


def reversible(seed):
    """Reads tokens and predicts tokens with one table."""
    rng = seeded(seed)
    x = keras.Input((5,), dtype="int32", name="x")
    table = layers.ReversibleEmbedding(11, 6, name="table")
    hidden = layers.Dense(6, activation="tanh", name="mixer")(table(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = compiled(keras.Model(x, table(hidden, reverse=True)), loss)
    return model, integers(rng, 11, 8, 5), integers(rng, 11, 8, 5)


def adapted(seed):
    """A Normalization layer that has seen data: its statistics are not trainable."""
    rng = seeded(seed)
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(5 + 3 * features(rng, 64, 6))
    model = sequential(
        (6,), normalization, layers.Dense(8, activation="tanh"), layers.Dense(2, name="head")
    )
    return model, 5 + 3 * features(rng, 8, 6), features(rng, 8, 2)


def merges(seed):
    """Every merging layer once."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    a, b = (layers.Dense(5, activation="tanh", name=name)(x) for name in ("a", "b"))
    merged = [
        make()([a, b])
        for make in (
            layers.Add,
            layers.Subtract,
            layers.Multiply,
            layers.Average,
            layers.Maximum,
            layers.Minimum,
            lambda: layers.Dot(1, normalize=True),
        )
    ]
    head = layers.Dense(2, name="head")(layers.Concatenate()(merged))
    return compiled(keras.Model(x, head)), features(rng, 8, 6), features(rng, 8, 2)


def reshapes(seed):
    """Padding, cropping, resizing, permuting, pooling: the layers that move numbers around."""
    return around(
        seed,
        (6, 6, 2),
        lambda: layers.Conv2D(4, 3, padding="same", name="convolution"),
        lambda: layers.ZeroPadding2D(1),
        lambda: layers.Cropping2D(((1, 0), (0, 1))),
        lambda: layers.UpSampling2D(2, interpolation="bilinear"),
        lambda: layers.AveragePooling2D(2),
        lambda: layers.MaxPooling2D(2),
        lambda: layers.Permute((3, 1, 2)),
        lambda: layers.Reshape((4, 9)),
        lambda: layers.LSTM(4, name="lstm"),
        lambda: layers.RepeatVector(2),
        lambda: layers.GlobalMaxPooling1D(),
    )


def _group(**options):
    return layers.GroupQueryAttention(4, 4, 2, name="attention", **options)


SEQUENCE, IMAGE, VOLUME = (7, 3), (6, 6, 2), (4, 4, 4, 2)

CASES = [
    layer_case("dense", (6,), dense(name="dense")),
    layer_case("dense_without_bias", (6,), dense(use_bias=False, name="dense")),
    layer_case(
        "einsum_dense",
        (4, 6),
        lambda: layers.EinsumDense("abc,cde->abde", (4, 2, 3), bias_axes="de"),
    ),
    Case("embedding", lambda s: tokens(s, lambda: layers.Embedding(12, 4, name="table"))),
    Case("reversible_embedding", reversible, note="both directions of one table"),
    layer_case("conv1d", SEQUENCE, lambda: layers.Conv1D(4, 3, activation="tanh")),
    layer_case(
        "conv1d_causal_dilated",
        SEQUENCE,
        lambda: layers.Conv1D(4, 2, padding="causal", dilation_rate=2),
    ),
    layer_case("conv2d", IMAGE, lambda: layers.Conv2D(4, 3, activation="tanh")),
    layer_case(
        "conv2d_grouped_strided",
        IMAGE,
        lambda: layers.Conv2D(4, 3, strides=2, groups=2, padding="same"),
    ),
    layer_case(
        "conv2d_in_groups_of_one", IMAGE, lambda: layers.Conv2D(4, 3, groups=2, dilation_rate=2)
    ),
    layer_case("conv1d_grouped", (7, 6), lambda: layers.Conv1D(4, 3, groups=2, activation="tanh")),
    layer_case("conv3d_grouped", VOLUME, lambda: layers.Conv3D(4, 2, groups=2, activation="tanh")),
    layer_case("conv3d", VOLUME, lambda: layers.Conv3D(3, 2, activation="tanh")),
    layer_case("conv1d_transpose", SEQUENCE, lambda: layers.Conv1DTranspose(4, 3, strides=2)),
    layer_case(
        "conv2d_transpose", IMAGE, lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same")
    ),
    layer_case("conv3d_transpose", VOLUME, lambda: layers.Conv3DTranspose(2, 2, strides=2)),
    layer_case("depthwise_conv1d", SEQUENCE, lambda: layers.DepthwiseConv1D(3, depth_multiplier=2)),
    layer_case("depthwise_conv2d", IMAGE, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)),
    layer_case("separable_conv1d", SEQUENCE, lambda: layers.SeparableConv1D(4, 3)),
    layer_case("separable_conv2d", IMAGE, lambda: layers.SeparableConv2D(4, 3)),
    layer_case("simple_rnn", SEQUENCE, lambda: layers.SimpleRNN(5)),
    layer_case("lstm", SEQUENCE, lambda: layers.LSTM(5)),
    layer_case("gru", SEQUENCE, lambda: layers.GRU(5)),
    layer_case("gru_reset_before", SEQUENCE, lambda: layers.GRU(5, reset_after=False, unroll=True)),
    layer_case(
        "stacked_cells", SEQUENCE, lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])
    ),
    layer_case(
        "bidirectional",
        SEQUENCE,
        lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
    ),
    layer_case("conv_lstm1d", (3, 5, 2), lambda: layers.ConvLSTM1D(3, 2)),
    layer_case("conv_lstm2d", (3, 4, 4, 2), lambda: layers.ConvLSTM2D(3, 2)),
    layer_case("conv_lstm3d", (2, 3, 3, 3, 1), lambda: layers.ConvLSTM3D(2, 2), batch=4),
    layer_case(
        "time_distributed",
        SEQUENCE,
        lambda: layers.TimeDistributed(layers.Dense(4, activation="tanh")),
    ),
    layer_case(
        "batch_normalization", (6,), dense(activation=None), layers.BatchNormalization, batch=16
    ),
    layer_case("layer_normalization", (6,), dense(), layers.LayerNormalization),
    layer_case("rms_normalization", (6,), dense(), layers.RMSNormalization),
    layer_case(
        "group_normalization",
        IMAGE,
        lambda: layers.Conv2D(4, 3),
        lambda: layers.GroupNormalization(2),
    ),
    layer_case("unit_normalization", (6,), dense(), layers.UnitNormalization),
    Case("normalization_adapted", adapted, note="statistics that are not trainable"),
    Case(
        "multi_head_attention",
        lambda s: attends(s, lambda: layers.MultiHeadAttention(2, 4, name="attention")),
    ),
    Case("group_query_attention", lambda s: attends(s, _group)),
    Case("attention_scaled", lambda s: attends(s, lambda: layers.Attention(use_scale=True), 2)),
    Case(
        "attention_concatenated", lambda s: attends(s, lambda: layers.Attention(True, "concat"), 2)
    ),
    Case(
        "additive_attention",
        lambda s: attends(s, lambda: layers.AdditiveAttention(use_scale=True), 2),
    ),
    layer_case(
        "prelu",
        (6,),
        dense(activation=None),
        lambda: layers.PReLU(alpha_initializer="random_normal"),
    ),
    layer_case("spectrogram", (64, 1), lambda: layers.STFTSpectrogram("log", 16, 8, 16)),
    Case(
        "merging_layers", merges, note="maximum and minimum have ties nowhere, yet kinks everywhere"
    ),
    Case("moving_numbers_around", reshapes),
]
