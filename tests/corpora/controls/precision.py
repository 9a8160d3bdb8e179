"""Every dtype policy, and models that hide a lower precision than their policy says."""

import keras
from keras import layers, ops

from tests.corpora.controls.building import around, between, classified, dense
from tests.corpora.corpus import (
    Case,
    compiled,
    dtype_policy,
    features,
    integers,
    only_on,
    seeded,
    sequential,
)

TENSORFLOW_ONLY = "tests.corpora.controls.tensorflow_only"
JAX_ONLY = "tests.corpora.controls.jax_only"


def mlp_at(policy):
    def build(seed):
        with dtype_policy(policy):
            return around(seed, (6,), dense(16, "relu"), dense(16), batch=16)

    return build


def cnn_at(policy):
    def build(seed):
        with dtype_policy(policy):
            rng = seeded(seed)
            x = keras.Input((6, 6, 2), name="x")
            h = layers.Conv2D(4, 3, use_bias=False, name="convolution")(x)
            h = layers.ReLU()(layers.BatchNormalization(name="norm")(h))
            h = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(h))
            head = layers.Dense(3, activation="softmax", dtype="float32", name="head")(h)
            model = compiled(keras.Model(x, head), "sparse_categorical_crossentropy")
        return model, features(rng, 8, 6, 6, 2), integers(rng, 3, 8)

    return build


def transformer_at(policy):
    def build(seed):
        with dtype_policy(policy):
            rng = seeded(seed)
            x = keras.Input((5,), dtype="int32", name="x")
            h = layers.Embedding(11, 8, name="table")(x)
            h = layers.LayerNormalization(name="norm")(
                h + layers.MultiHeadAttention(2, 4, name="attention")(h, h)
            )
            model, y = classified(rng, x, layers.GlobalAveragePooling1D()(h))
        return model, integers(rng, 11, 8, 5), y

    return build


def by_layer(seed):
    """Each layer at another precision."""
    return around(
        seed,
        (6,),
        dense(dtype="float32"),
        dense(dtype="mixed_bfloat16"),
        dense(dtype="float64"),
        dense(dtype="mixed_float16"),
    )


class _NarrowNorm(layers.Layer):
    """Computes its statistics in float32 whatever comes in, as many published RMS norms do."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        narrow = ops.cast(x, "float32")
        narrow = narrow * ops.rsqrt(ops.mean(ops.square(narrow), axis=-1, keepdims=True) + 1e-6)
        return ops.cast(narrow, x.dtype) * self.scale


def nested(seed):
    """A functional model used as a layer casts what it gets to its own input's dtype."""
    rng = seeded(seed)
    inner_x = keras.Input((8,), name="inner_x")
    inner = keras.Model(
        inner_x, layers.Dense(8, activation="tanh", name="inside")(inner_x), name="inner"
    )
    x = keras.Input((6,), name="x")
    h = inner(layers.Dense(8, activation="tanh", name="below")(x))
    model = compiled(keras.Model(x, layers.Dense(2, name="head")(h)))
    return model, features(rng, 8, 6), features(rng, 8, 2)


def nested_twice(seed):
    """A sequential model inside a sequential model, used twice."""
    rng = seeded(seed)
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, activation="tanh", name="inside")], name="inner"
    )
    outer = keras.Sequential(
        [keras.Input((6,)), inner, layers.LayerNormalization(name="norm")], name="outer"
    )
    x = keras.Input((6,), name="x")
    model = compiled(keras.Model(x, layers.Dense(2, name="head")(outer(outer(x)))))
    return model, features(rng, 8, 6), features(rng, 8, 2)


class _Box:
    """Something Keras does not look into."""

    def __init__(self, content):
        self.content = content


class _Untracked(layers.Layer):
    """Holds a weightless layer where no list of layers shows it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.box = _Box(layers.LayerNormalization(center=False, scale=False))

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

    def call(self, x):
        return self.box.content(ops.matmul(x, self.kernel))


class _ZerosWithoutDtype(layers.Layer):
    """Starts a sum at zeros that were made without a dtype."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")

    def call(self, x):
        total = ops.zeros((ops.shape(x)[0], 5))
        for step in range(x.shape[1]):
            total = ops.tanh(total + ops.cast(ops.matmul(x[:, step], self.kernel), total.dtype))
        return ops.cast(total, x.dtype)


def pooled_volume(seed):
    """Pooling in three dimensions has no float64 kernel on every device."""
    return around(
        seed,
        (4, 4, 4, 2),
        lambda: layers.Conv3D(3, 3, padding="same", name="convolution"),
        lambda: layers.MaxPooling3D(2),
        lambda: layers.Conv3D(3, 2, padding="same", name="upper"),
        lambda: layers.AveragePooling3D(2),
    )


def float_inputs(seed):
    """Float64 data into a float32 model."""
    rng = seeded(seed)
    model = sequential((6,), layers.Dense(8, activation="tanh"), layers.Dense(2, name="head"))
    return model, features(rng, 8, 6).astype("float64"), features(rng, 8, 2).astype("float64")


CASES = [
    *(
        Case(f"{policy}_mlp", mlp_at(policy))
        for policy in ("mixed_float16", "mixed_bfloat16", "float16", "float64")
    ),
    *(
        Case(f"{policy}_cnn", cnn_at(policy))
        for policy in ("mixed_float16", "mixed_bfloat16", "float64")
    ),
    *(
        Case(f"{policy}_transformer", transformer_at(policy))
        for policy in ("mixed_float16", "mixed_bfloat16")
    ),
    Case("bfloat16_mlp", mlp_at("bfloat16")),
    Case("a_policy_per_layer", by_layer),
    Case("hidden_cast_in_a_norm", between(_NarrowNorm), note="ops.cast to float32"),
    *only_on("tensorflow", TENSORFLOW_ONLY, "hidden_tensorflow_cast"),
    *only_on("jax", JAX_ONLY, "hidden_jax_cast"),
    Case("hidden_cast_of_a_nested_model", nested, note="the inner Input's dtype"),
    Case("nested_sequential_twice", nested_twice),
    Case("untracked_layer", between(_Untracked), note="its policy cannot be found"),
    *only_on("tensorflow", TENSORFLOW_ONLY, "complex64_mixing"),
    *only_on("jax", JAX_ONLY, "complex64_mixing"),
    Case(
        "zeros_without_dtype",
        lambda s: around(s, (4, 6), _ZerosWithoutDtype),
        note="made at floatx",
    ),
    *only_on(
        "tensorflow",
        TENSORFLOW_ONLY,
        "fixed_float32_constant",
        "local_response_normalization",
    ),
    Case("pooling_in_three_dimensions", pooled_volume, note="no float64 kernel on CPU"),
    Case("float64_inputs", float_inputs),
]
