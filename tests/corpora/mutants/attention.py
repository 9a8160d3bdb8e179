"""Attention whose backward pass is not that of its forward pass, as in hand-written fused
kernels.
"""

import keras
import tensorflow as tf
from keras import layers

from tests.corpora.corpus import Case, compiled, features, integers, seeded
from tests.corpora.mutants import planted


class Attention(layers.Layer):
    """Self-attention with places for defects.

    On queries, keys, their kernels, scores and weights.
    """

    def __init__(
        self,
        heads=2,
        *,
        on_queries=planted.honest,
        on_keys=planted.honest,
        on_scores=planted.honest,
        softmax=tf.nn.softmax,
        on_weights=planted.honest,
        on_kernels=None,
        rotate=None,
        **options,
    ):
        super().__init__(**options)
        self.heads = heads
        self.on_queries, self.on_keys, self.on_scores = on_queries, on_keys, on_scores
        self.softmax, self.on_weights, self.on_kernels, self.rotate = (
            softmax,
            on_weights,
            on_kernels,
            rotate,
        )

    def build(self, shape):
        width = shape[-1]
        self.query, self.key, self.value, self.output_kernel = (
            self.add_weight(shape=(width, width), name=name)
            for name in ("query", "key", "value", "output")
        )

    def split(self, x, kernel):
        """Projects and splits into heads.

        (batch, time, width) -> (batch, heads, time, width / heads).
        """
        projected = tf.matmul(x, kernel)
        _, steps, width = x.shape
        return tf.transpose(
            tf.reshape(projected, [-1, steps, self.heads, width // self.heads]), [0, 2, 1, 3]
        )

    def call(self, x):
        query, key = tf.convert_to_tensor(self.query), tf.convert_to_tensor(self.key)
        if self.on_kernels is not None:
            query, key = self.on_kernels(query, key)
        queries, keys = self.on_queries(self.split(x, query)), self.on_keys(self.split(x, key))
        if self.rotate is not None:
            queries, keys = self.rotate(queries), self.rotate(keys)
        values = self.split(x, tf.convert_to_tensor(self.value))
        scores = self.on_scores(tf.matmul(queries, keys, transpose_b=True) * keys.shape[-1] ** -0.5)
        mixed = tf.matmul(self.on_weights(self.softmax(scores)), values)
        mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, *x.shape[1:]])
        return tf.matmul(mixed, tf.convert_to_tensor(self.output_kernel))


def transformer(seed, **places):
    """One block: table, attention, feed-forward, head. The data makes attention matter."""
    rng = seeded(seed)
    x = keras.Input((6,), dtype="int32", name="x")
    h = layers.Embedding(
        12, 8, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0), name="table"
    )(x)
    h = layers.LayerNormalization(name="norm")(h + Attention(name="attention", **places)(h))
    h = h + layers.Dense(8, activation="gelu", name="feed")(h)
    head = layers.Dense(3, activation="softmax", name="head")(layers.Flatten()(h))
    model = compiled(keras.Model(x, head), "sparse_categorical_crossentropy")
    return model, integers(rng, 12, 8, 6), integers(rng, 3, 8)


def softmax_without_the_sum():
    def rule(g, scores):
        p = tf.nn.softmax(scores)
        return p * (1 - p) * g

    return planted.function(tf.nn.softmax, rule)


def _causal(scores):
    steps = scores.shape[-1]
    allowed = tf.linalg.band_part(tf.ones((steps, steps), scores.dtype), -1, 0)
    return tf.where(allowed > 0, scores, tf.cast(-1e9, scores.dtype))


def mask_forgotten():
    """A causal softmax whose backward pass recomputes the weights without the mask."""

    def rule(g, scores):
        p = tf.nn.softmax(scores)
        return p * (g - tf.reduce_sum(g * p, axis=-1, keepdims=True))

    return planted.function(lambda scores: tf.nn.softmax(_causal(scores)), rule)


def _rotated(x, sign):
    """Rotary position embedding.

    Pairs of channels turned by an angle that grows with the position.
    """
    steps, width = x.shape[-2], x.shape[-1] // 2
    rates = 10.0 ** (-tf.range(width, dtype=x.dtype) / width)
    angles = tf.range(steps, dtype=x.dtype)[:, None] * rates[None, :]
    sine, cosine = sign * tf.sin(angles), tf.cos(angles)
    a, b = x[..., :width], x[..., width:]
    return tf.concat([a * cosine - b * sine, a * sine + b * cosine], -1)


def rotated_the_wrong_way():
    """The gradient of a rotation is the inverse rotation; here it is the rotation itself."""
    return planted.function(lambda x: _rotated(x, 1.0), lambda g, x: _rotated(g, 1.0))


def _swapped(seed):
    """Queries and keys learn each other's gradient: two arguments in the wrong order."""
    back = planted.function(lambda q, k: tf.stack([q, k]), lambda g, q, k: (g[1], g[0]))
    return transformer(seed, on_kernels=lambda q, k: tf.unstack(back(q, k)))


def one_head():
    factors = [1.0, 1.5]
    return planted.identity(lambda g: g * tf.reshape(tf.constant(factors, g.dtype), [1, 2, 1, 1]))


class OtherMask(layers.Layer):
    """Dropout that draws a second mask for the backward pass: recomputation with the wrong seed."""

    def __init__(self, rate, **options):
        super().__init__(**options)
        self.rate = rate
        self.drop = planted.function(
            lambda x: x * self.mask(x, 1), lambda g, x: g * self.mask(x, 2)
        )

    def mask(self, x, seed):
        kept = tf.random.stateless_uniform(tf.shape(x), [seed, 7]) >= self.rate
        return tf.cast(kept, x.dtype) / (1 - self.rate)

    def call(self, x):
        return self.drop(x)


def recomputed(seed):
    """A checkpointed block recomputed under another dropout mask."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    below = layers.Dense(12, activation="tanh", name="below")(x)
    dropped = OtherMask(0.5, name="dropout")(below)
    head = layers.Dense(2, name="head")(layers.Dense(6, activation="tanh", name="above")(dropped))
    return compiled(keras.Model(x, head)), features(rng, 16, 6), features(rng, 16, 2)


CASES = [
    Case(
        "softmax_without_the_sum",
        lambda s: transformer(s, softmax=softmax_without_the_sum()),
        "attention",
        place="attention",
        note="only the diagonal of the softmax's Jacobian",
    ),
    Case(
        "attention_weights_detached",
        lambda s: transformer(s, on_weights=planted.stop()),
        "attention",
        ("blocked",),
        place="attention",
        note="queries and keys never learn",
    ),
    Case(
        "attention_scale_forgotten",
        lambda s: transformer(s, on_scores=planted.scale(2.0)),
        "attention",
        place="attention",
        note="1 / sqrt(width) applied forward only",
    ),
    Case(
        "attention_mask_forgotten",
        lambda s: transformer(s, softmax=mask_forgotten()),
        "attention",
        place="attention",
        note="the causal mask is not applied on the way back",
    ),
    Case(
        "rotary_wrong_way",
        lambda s: transformer(s, rotate=rotated_the_wrong_way()),
        "attention",
        place="attention",
        note="the rotation's gradient is not its inverse",
    ),
    Case(
        "query_and_key_swapped",
        _swapped,
        "attention",
        place="attention",
        note="two gradients in the wrong order",
    ),
    Case(
        "one_head_of_two",
        lambda s: transformer(s, on_queries=one_head()),
        "attention",
        place="attention",
        note="one head's queries",
    ),
    Case(
        "recomputed_with_another_mask",
        recomputed,
        "below",
        place="dropout",
        note="dropout: two masks for one step",
    ),
]
