"""Whole networks as people build them, in miniature."""

import os
import tempfile

import keras
from keras import layers, ops

from tests.corpora.controls.building import around, classified, dense
from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential


def mlp(seed):
    return around(seed, (8,), dense(16), dense(16), dense(16), batch=16)


def cnn(seed):
    """ReLU, batch normalization, max pooling."""
    rng = seeded(seed)
    x = keras.Input((12, 12, 3), name="x")
    h = x
    for name, filters in (("first", 6), ("second", 8)):
        h = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(h)
        h = layers.BatchNormalization(name=f"{name}_norm")(h)
        h = layers.MaxPooling2D(2)(layers.ReLU()(h))
    model, y = classified(
        rng, x, layers.Dense(8, activation="relu", name="hidden")(layers.Flatten()(h))
    )
    return model, features(rng, 8, 12, 12, 3), y


def _block(h, name, width=8):
    """A transformer block."""
    attended = layers.MultiHeadAttention(2, width // 2, dropout=0.1, name=f"{name}_attention")(h, h)
    h = layers.LayerNormalization(name=f"{name}_norm1")(h + layers.Dropout(0.1)(attended))
    fed = layers.Dense(width, name=f"{name}_out")(
        layers.Dense(2 * width, activation="gelu", name=f"{name}_in")(h)
    )
    return layers.LayerNormalization(name=f"{name}_norm2")(h + fed)


def transformer(seed):
    """Two blocks over tokens."""
    rng = seeded(seed)
    x = keras.Input((6,), dtype="int32", name="x")
    h = layers.Embedding(13, 8, name="table")(x)
    h = _block(_block(h, "first"), "second")
    model, y = classified(rng, x, layers.GlobalAveragePooling1D()(h))
    return model, integers(rng, 13, 8, 6), y


class _Variational(keras.Model):
    """A subclassed variational autoencoder: a sampled code, and a divergence through add_loss."""

    def __init__(self):
        super().__init__(name="variational")
        self.encoder = layers.Dense(10, activation="relu", name="encoder")
        self.mean, self.spread = layers.Dense(2, name="mean"), layers.Dense(2, name="spread")
        self.decoder = keras.Sequential(
            [layers.Dense(10, activation="relu", name="hidden"), layers.Dense(6, name="output")],
            name="decoder",
        )
        self.seeds = keras.random.SeedGenerator(4)

    def call(self, x):
        hidden = self.encoder(x)
        mean, spread = self.mean(hidden), self.spread(hidden)
        self.add_loss(
            0.1 * ops.mean(0.5 * ops.sum(ops.square(mean) + ops.exp(spread) - 1 - spread, axis=-1))
        )
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seeds)
        return self.decoder(mean + ops.exp(0.5 * spread) * noise)


def variational(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(_Variational())
    model(x)
    return model, x, x


def two_by_two(seed):
    """Two inputs, two outputs, loss weights, named by dictionaries."""
    rng = seeded(seed)
    numbers, words = (
        keras.Input((5,), name="numbers"),
        keras.Input((4,), dtype="int32", name="words"),
    )
    read = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4, name="table")(words))
    h = layers.Concatenate()([layers.Dense(6, activation="tanh", name="dense")(numbers), read])
    outputs = {
        "score": layers.Dense(1, name="score")(h),
        "label": layers.Dense(3, activation="softmax", name="label")(h),
    }
    model = compiled(
        keras.Model({"numbers": numbers, "words": words}, outputs),
        {"score": "mse", "label": "sparse_categorical_crossentropy"},
        loss_weights={"score": 0.2, "label": 3.0},
    )
    x = {"numbers": features(rng, 8, 5), "words": integers(rng, 9, 8, 4)}
    return model, x, {"score": features(rng, 8, 1), "label": integers(rng, 3, 8)}


def dict_inputs(seed):
    """A subclassed model that takes a dictionary."""

    class Reads(keras.Model):
        def __init__(self):
            super().__init__(name="reads")
            self.left, self.right = layers.Dense(4, name="left"), layers.Dense(4, name="right")
            self.head = layers.Dense(2, name="head")

        def call(self, inputs):
            return self.head(ops.tanh(self.left(inputs["a"]) * self.right(inputs["b"])))

    rng = seeded(seed)
    x = {"a": features(rng, 8, 3), "b": features(rng, 8, 5)}
    model = compiled(Reads())
    model(x)
    return model, x, features(rng, 8, 2)


def unbuilt(seed):
    """A subclassed model that nobody has called yet: it has no variables."""

    class Plain(keras.Model):
        def __init__(self):
            super().__init__(name="plain")
            self.below = layers.Dense(8, activation="tanh", name="below")
            self.head = layers.Dense(2, name="head")

        def call(self, x, training=False):
            return self.head(self.below(x))

    rng = seeded(seed)
    return compiled(Plain()), features(rng, 16, 6), features(rng, 16, 2)


def frozen(seed):
    """The first layer and a batch normalization are frozen: fine-tuning."""
    model, x, y = around(
        seed,
        (6,),
        dense(name="frozen", trainable=False),
        lambda: layers.BatchNormalization(trainable=False),
        dense(),
    )
    return model, x, y


def lora(seed):
    """Low-rank adaptation of a dense layer, an einsum layer and a table.

    One factor each starts at zero.
    """
    rng = seeded(seed)
    x = keras.Input((5,), dtype="int32", name="x")
    table = layers.Embedding(11, 6, name="table")
    einsum = layers.EinsumDense(
        "abc,cd->abd", (None, 6), bias_axes="d", activation="tanh", name="einsum"
    )
    linear = layers.Dense(6, activation="tanh", name="linear")
    model, y = classified(rng, x, layers.GlobalAveragePooling1D()(linear(einsum(table(x)))))
    for layer in (table, einsum, linear):
        layer.enable_lora(2)
    return compiled(model, "sparse_categorical_crossentropy"), integers(rng, 11, 8, 5), y


def lora_after_a_step(seed):
    """The same after some training, when both factors count."""
    model, x, y = lora(seed)
    for layer in ("table", "einsum", "linear"):
        for variable in model.get_layer(layer).trainable_variables:
            if "lora" in variable.path and not variable.numpy().any():
                variable.assign(keras.random.normal(variable.shape, stddev=0.1, seed=seed))
    return model, x, y


def quantized_below(seed):
    """A frozen int8 layer on the raw inputs; everything trainable lies above it."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    frozen_layer = layers.Dense(8, name="frozen")
    model, y = classified(rng, x, layers.Dense(8, activation="tanh", name="above")(frozen_layer(x)))
    frozen_layer.quantize("int8")
    frozen_layer.trainable = False
    return compiled(model, "sparse_categorical_crossentropy"), features(rng, 8, 6), y


def shared(seed):
    """One layer used three times, and a siamese distance."""
    rng = seeded(seed)
    first, second = keras.Input((6,), name="first"), keras.Input((6,), name="second")
    once = layers.Dense(6, activation="tanh", name="shared")
    distance = layers.Subtract()([once(once(first)), once(second)])
    model = compiled(keras.Model([first, second], layers.Dense(1, name="head")(distance)))
    return model, [features(rng, 16, 6), features(rng, 16, 6)], features(rng, 16, 1)


def tied_embedding(seed):
    """Input and output table are one."""

    class Tied(keras.Model):
        def __init__(self):
            super().__init__(name="tied")
            self.table = layers.Embedding(9, 5, name="table")
            self.mixer = layers.GRU(5, return_sequences=True, name="mixer")

        def call(self, tokens):
            return ops.matmul(self.mixer(self.table(tokens)), ops.transpose(self.table.embeddings))

    rng = seeded(seed)
    tokens = integers(rng, 9, 8, 5)
    model = compiled(Tied(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(tokens)
    return model, tokens, integers(rng, 9, 8, 5)


def u_net(seed):
    """Down, up, and across."""
    rng = seeded(seed)
    x = keras.Input((8, 8, 1), name="x")
    top = layers.Conv2D(4, 3, padding="same", activation="relu", name="down1")(x)
    middle = layers.Conv2D(6, 3, padding="same", activation="relu", name="down2")(
        layers.MaxPooling2D(2)(top)
    )
    bottom = layers.Conv2D(8, 3, padding="same", activation="relu", name="bottom")(
        layers.MaxPooling2D(2)(middle)
    )
    up = layers.Concatenate()([layers.Conv2DTranspose(6, 2, strides=2, name="up2")(bottom), middle])
    up = layers.Concatenate()(
        [layers.UpSampling2D(2)(layers.Conv2D(4, 3, padding="same", name="mix")(up)), top]
    )
    head = layers.Conv2D(1, 1, activation="sigmoid", name="head")(up)
    model = compiled(keras.Model(x, head), "binary_crossentropy")
    return model, features(rng, 8, 8, 8, 1), integers(rng, 2, 8, 8, 8, 1).astype("float32")


def res_net(seed):
    """Two residual blocks, the second with a strided shortcut."""
    rng = seeded(seed)
    x = keras.Input((8, 8, 3), name="x")
    h = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    for name, filters, strides in (("first", 4, 1), ("second", 8, 2)):
        inner = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_a"
        )(h)
        inner = layers.ReLU()(layers.BatchNormalization(name=f"{name}_a_norm")(inner))
        inner = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_b")(inner)
        inner = layers.BatchNormalization(name=f"{name}_b_norm")(inner)
        short = (
            h
            if strides == 1
            else layers.Conv2D(filters, 1, strides=strides, name=f"{name}_short")(h)
        )
        h = layers.ReLU()(layers.Add()([inner, short]))
    model, y = classified(rng, x, layers.GlobalAveragePooling2D()(h))
    return model, features(rng, 8, 8, 8, 3), y


def squeeze_excite(seed):
    """An inverted bottleneck: expand, depthwise, squeeze and excite, project."""
    rng = seeded(seed)
    x = keras.Input((8, 8, 4), name="x")
    h = layers.Conv2D(8, 1, activation="swish", name="expand")(x)
    h = layers.DepthwiseConv2D(3, padding="same", activation="swish", name="depthwise")(h)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(h)
    gate = layers.Conv2D(2, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid", name="excite")(gate)
    h = layers.Add()([layers.Conv2D(4, 1, name="project")(layers.Multiply()([h, gate])), x])
    model, y = classified(rng, x, layers.GlobalAveragePooling2D()(h))
    return model, features(rng, 8, 8, 8, 4), y


def loaded(seed):
    """Saved to disk and loaded again."""
    model, x, y = cnn(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.keras")
        model.save(path)
        return keras.saving.load_model(path), x, y


def gated(seed):
    """A highway layer: a gate mixes a layer with its input."""

    class Highway(layers.Layer):
        def build(self, shape):
            self.mix, self.gate = (
                self.add_weight(shape=(shape[-1], shape[-1]), name=name) for name in ("mix", "gate")
            )

        def call(self, x):
            gate = ops.sigmoid(ops.matmul(x, self.gate) - 1)
            return gate * ops.tanh(ops.matmul(x, self.mix)) + (1 - gate) * x

    return around(seed, (6,), lambda: Highway(name="first"), lambda: Highway(name="second"))


def hyper(seed):
    """A network that computes the weights of another."""

    class Hyper(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.writer = layers.Dense(18, name="writer")

        def call(self, x):
            kernels = ops.reshape(self.writer(x), (-1, 6, 3))
            return ops.einsum("bi,bio->bo", x, ops.tanh(kernels))

    return around(seed, (6,), lambda: Hyper(name="hyper"))


def triplets(seed):
    """Triplets with a margin: some are satisfied, some are not."""

    class Triplet(layers.Layer):
        def call(self, anchor, near, far):
            gap = ops.sum(ops.square(anchor - near), axis=-1) - ops.sum(
                ops.square(anchor - far), axis=-1
            )
            self.add_loss(ops.mean(ops.relu(gap + 0.5)))
            return anchor

    rng = seeded(seed)
    inputs = [keras.Input((6,), name=name) for name in ("anchor", "near", "far")]
    embed = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, name="embed"), layers.UnitNormalization()], name="tower"
    )
    model = compiled(keras.Model(inputs, Triplet(name="triplet")(*map(embed, inputs))), None)
    return model, [features(rng, 16, 6) for _ in inputs], None


def adam(seed):
    """Weight decay, clipping, averaging, accumulation.

    What the optimizer does is not the gradient.
    """
    rng = seeded(seed)
    optimizer = keras.optimizers.AdamW(
        1e-3, weight_decay=0.1, clipnorm=0.01, use_ema=True, gradient_accumulation_steps=2
    )
    model = sequential(
        (6,),
        layers.Dense(8, activation="tanh", name="below"),
        layers.Dense(2, name="head"),
        optimizer=optimizer,
    )
    return model, features(rng, 16, 6), features(rng, 16, 2)


def constrained(seed):
    """Constraints act after the step; they are no part of the loss."""
    return around(
        seed,
        (6,),
        dense(kernel_constraint="unit_norm", bias_constraint="non_neg", name="bound"),
        dense(),
    )


def single_parameter(seed):
    """One weight, one number."""
    rng = seeded(seed)
    model = sequential((1,), layers.Dense(1, use_bias=False, name="only"))
    return model, features(rng, 16, 1), features(rng, 16, 1)


def one_example(seed):
    """A batch of one, with layer normalization."""
    return around(seed, (6,), dense(), layers.LayerNormalization, batch=1)


CASES = [
    Case("tanh_mlp", mlp),
    Case("relu_batch_norm_max_pool", cnn),
    Case("two_block_transformer", transformer),
    Case("variational_autoencoder", variational),
    Case("two_inputs_two_outputs", two_by_two),
    Case("dictionary_inputs", dict_inputs),
    Case("unbuilt_model", unbuilt),
    Case("frozen_layers", frozen),
    Case("lora", lora, note="a zero factor: half of the new weights have no gradient yet"),
    Case("lora_after_a_step", lora_after_a_step),
    Case("quantized_below", quantized_below),
    Case("shared_layer", shared),
    Case("tied_embedding", tied_embedding),
    Case("u_net", u_net),
    Case("res_net", res_net),
    Case("squeeze_excite", squeeze_excite),
    Case("saved_and_loaded", loaded),
    Case("highway", gated),
    Case("hyper_network", hyper),
    Case("triplets", triplets),
    Case("elaborate_optimizer", adam),
    Case("constrained_weights", constrained),
    Case("single_parameter", single_parameter),
    Case("batch_of_one", one_example),
]
