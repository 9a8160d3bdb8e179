"""Layers that are made of keyword arguments alone: shape of the inputs, and three sets of them."""

F, T, I1, I2, I3 = (5,), (6, 3), (8, 3), (6, 6, 3), (4, 4, 4, 2)
# Layers of which the inputs are whole numbers below this one.
WHOLE = {"Embedding": 7, "ReversibleEmbedding": 7}
_POOLS = [{"pool_size": 2}, {"pool_size": 3, "strides": 2}, {"pool_size": 2, "padding": "same"}]
_GLOBAL = [{}, {"keepdims": True}, {"data_format": "channels_first"}]
_CONVOLUTIONS = [
    {"filters": 2, "kernel_size": 2},
    {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "tanh"},
    {"filters": 3, "kernel_size": 2, "use_bias": False, "padding": "same"},
]
_SEPARABLE = [
    {"filters": 2, "kernel_size": 2},
    {"filters": 3, "kernel_size": 3, "padding": "same", "depth_multiplier": 2},
    {"filters": 2, "kernel_size": 2, "activation": "gelu", "use_bias": False},
]
_DEPTHWISE = [
    {"kernel_size": 2},
    {"kernel_size": 3, "padding": "same", "depth_multiplier": 2, "activation": "tanh"},
    {"kernel_size": 2, "strides": 2, "use_bias": False},
]
_MEMORIES = [
    {"filters": 2, "kernel_size": 2},
    {"filters": 2, "kernel_size": 2, "return_sequences": True, "padding": "same"},
    {"filters": 3, "kernel_size": 1, "go_backwards": True, "use_bias": False},
]
_RECURRENT = [
    {"units": 4},
    {"units": 3, "return_sequences": True, "go_backwards": True},
    {"units": 4, "activation": "sigmoid", "use_bias": False, "dropout": 0.3},
]
_CELLS = [{"units": 4}, {"units": 5, "use_bias": False}, {"units": 5, "activation": "sigmoid"}]
_DROPOUTS = [{"rate": 0.3}, {"rate": 0.6, "seed": 2}, {"rate": 0.0}]
_MERGES = [{}, {"name": "merge"}, {"dtype": "float64"}]
_TWO = (T, T)

LAYERS = {
    "Activation": (F, [{"activation": name} for name in ("tanh", "gelu", "softplus")]),
    "ActivityRegularization": (F, [{"l2": 0.1}, {"l1": 0.1}, {"l1": 0.1, "l2": 0.2}]),
    "AdaptiveAveragePooling1D": (I1, [{"output_size": n} for n in (2, 3, 4)]),
    "AdaptiveAveragePooling2D": (I2, [{"output_size": n} for n in (2, 3, (2, 4))]),
    "AdaptiveAveragePooling3D": (I3, [{"output_size": n} for n in (2, 4, (2, 4, 2))]),
    "AdaptiveMaxPooling1D": (I1, [{"output_size": n} for n in (2, 3, 4)]),
    "AdaptiveMaxPooling2D": (I2, [{"output_size": n} for n in (2, 3, (2, 4))]),
    "AdaptiveMaxPooling3D": (I3, [{"output_size": n} for n in (2, 4, (2, 4, 2))]),
    "Add": (_TWO, _MERGES),
    "AdditiveAttention": (_TWO, [{}, {"use_scale": False}, {"dropout": 0.3}]),
    "AlphaDropout": (F, _DROPOUTS),
    "Attention": (_TWO, [{}, {"use_scale": True}, {"score_mode": "concat", "dropout": 0.2}]),
    "Average": (_TWO, _MERGES),
    "AveragePooling1D": (I1, _POOLS),
    "AveragePooling2D": (I2, _POOLS),
    "AveragePooling3D": (I3, _POOLS),
    "BatchNormalization": (I2, [{}, {"scale": False, "momentum": 0.5}, {"renorm": True}]),
    "Concatenate": (_TWO, [{}, {"axis": 1}, {"axis": 2}]),
    "Conv1D": (I1, [*_CONVOLUTIONS[:2], {"filters": 2, "kernel_size": 2, "padding": "causal"}]),
    "Conv1DTranspose": (I1, _CONVOLUTIONS),
    "Conv2D": (I2, [*_CONVOLUTIONS[:2], {"filters": 3, "kernel_size": 2, "groups": 3}]),
    "Conv2DTranspose": (I2, _CONVOLUTIONS),
    "Conv3D": (I3, _CONVOLUTIONS),
    "Conv3DTranspose": (I3, _CONVOLUTIONS),
    "ConvLSTM1D": ((3, 4, 2), _MEMORIES),
    "ConvLSTM2D": ((3, 4, 4, 2), _MEMORIES),
    "ConvLSTM3D": ((2, 3, 3, 3, 1), _MEMORIES),
    "Cropping1D": (I1, [{"cropping": n} for n in (1, 2, (0, 3))]),
    "Cropping2D": (I2, [{"cropping": n} for n in (1, (2, 1), ((0, 1), (2, 0)))]),
    "Cropping3D": (I3, [{"cropping": n} for n in (1, (1, 0, 1), ((0, 1), (1, 0), (1, 1)))]),
    "Dense": (F, [{"units": 4}, {"units": 3, "activation": "gelu"}, {"units": 2, "lora_rank": 2}]),
    "DepthwiseConv1D": (I1, _DEPTHWISE),
    "DepthwiseConv2D": (I2, _DEPTHWISE),
    "Dot": (_TWO, [{"axes": 1}, {"axes": 2}, {"axes": 2, "normalize": True}]),
    "Dropout": (F, _DROPOUTS),
    "ELU": (F, [{}, {"alpha": 0.5}, {"alpha": 2.0}]),
    "EinsumDense": (
        T,
        [
            {"equation": "abc,cd->abd", "output_shape": (6, 4)},
            {"equation": "abc,cd->abd", "output_shape": (6, 4), "bias_axes": "d"},
            {"equation": "abc,bcd->ad", "output_shape": 4, "activation": "tanh"},
        ],
    ),
    "Embedding": (
        (4,),
        [
            {"input_dim": 7, "output_dim": 3},
            {"input_dim": 7, "output_dim": 4, "mask_zero": True},
            {"input_dim": 7, "output_dim": 3, "lora_rank": 2},
        ],
    ),
    "Flatten": (I2, [{}, {"data_format": "channels_first"}, {"name": "flat"}]),
    "GRU": (T, [*_RECURRENT[:2], {"units": 3, "reset_after": False}]),
    "GRUCell": ((F, F), []),
    "GaussianDropout": (F, _DROPOUTS),
    "GaussianNoise": (F, [{"stddev": 0.1}, {"stddev": 1.0, "seed": 1}, {"stddev": 0.0}]),
    "GlobalAveragePooling1D": (I1, _GLOBAL),
    "GlobalAveragePooling2D": (I2, _GLOBAL),
    "GlobalAveragePooling3D": (I3, _GLOBAL),
    "GlobalMaxPooling1D": (I1, _GLOBAL),
    "GlobalMaxPooling2D": (I2, _GLOBAL),
    "GlobalMaxPooling3D": (I3, _GLOBAL),
    "GroupNormalization": ((4, 6), [{"groups": 2}, {"groups": 6}, {"groups": 3, "scale": False}]),
    "GroupQueryAttention": (
        _TWO,
        [
            {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1},
            {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2, "use_bias": False},
            {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 2, "dropout": 0.2},
        ],
    ),
    "Identity": (F, [{}, {"name": "same"}, {"dtype": "float64"}]),
    "LSTM": (T, [*_RECURRENT[:2], {"units": 3, "unit_forget_bias": False, "unroll": True}]),
    "LayerNormalization": (T, [{}, {"axis": (1, 2)}, {"scale": False, "center": False}]),
    "LeakyReLU": (F, [{}, {"negative_slope": 0.1}, {"negative_slope": 0.9}]),
    "Masking": (T, [{}, {"mask_value": 1.0}, {"mask_value": -1.0}]),
    "MaxPooling1D": (I1, _POOLS),
    "MaxPooling2D": (I2, _POOLS),
    "MaxPooling3D": (I3, _POOLS),
    "Maximum": (_TWO, _MERGES),
    "Minimum": (_TWO, _MERGES),
    "MultiHeadAttention": (
        _TWO,
        [
            {"num_heads": 2, "key_dim": 2},
            {"num_heads": 1, "key_dim": 3, "value_dim": 2, "output_shape": 4},
            {"num_heads": 2, "key_dim": 2, "use_bias": False, "dropout": 0.2},
        ],
    ),
    "Multiply": (_TWO, _MERGES),
    "PReLU": (T, [{"alpha_initializer": "ones"}, {"shared_axes": [1]}, {}]),
    "Permute": (T, [{"dims": (2, 1)}, {"dims": (1, 2)}, {"dims": (2, 1), "name": "turned"}]),
    "RMSNormalization": (T, [{}, {"axis": -1, "epsilon": 1.0}, {"epsilon": 0.1}]),
    "ReLU": (F, [{}, {"max_value": 1.0}, {"negative_slope": 0.2, "threshold": 0.1}]),
    "RepeatVector": (F, [{"n": 2}, {"n": 3}, {"n": 1}]),
    "Reshape": (T, [{"target_shape": (18,)}, {"target_shape": (3, 6)}, {"target_shape": (-1, 2)}]),
    "ReversibleEmbedding": ((4,), [{"input_dim": 7, "output_dim": 3}]),
    "SeparableConv1D": (I1, _SEPARABLE),
    "SeparableConv2D": (I2, _SEPARABLE),
    "SimpleRNN": (T, _RECURRENT),
    "Softmax": (T, [{}, {"axis": 1}, {"axis": (1, 2)}]),
    "SpatialDropout1D": (I1, _DROPOUTS),
    "SpatialDropout2D": (I2, _DROPOUTS),
    "SpatialDropout3D": (I3, _DROPOUTS),
    "Subtract": (_TWO, _MERGES),
    "UnitNormalization": (T, [{}, {"axis": 1}, {"axis": (1, 2)}]),
    "UpSampling1D": (I1, [{"size": 2}, {"size": 3}, {"size": 1}]),
    "UpSampling2D": (
        I2,
        [{"size": 2}, {"interpolation": "bilinear"}, {"size": (2, 3), "interpolation": "bicubic"}],
    ),
    "UpSampling3D": (I3, [{"size": 2}, {"size": (1, 2, 1)}, {"size": 1}]),
    "ZeroPadding1D": (I1, [{"padding": n} for n in (1, 2, (0, 3))]),
    "ZeroPadding2D": (I2, [{"padding": n} for n in (1, (2, 1), ((0, 1), (2, 0)))]),
    "ZeroPadding3D": (I3, [{"padding": n} for n in (1, (1, 0, 2), ((0, 1), (1, 0), (1, 1)))]),
}
del LAYERS["GRUCell"], LAYERS["ReversibleEmbedding"]  # among the compound ones
