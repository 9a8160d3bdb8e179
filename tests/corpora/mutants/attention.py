"""Attention whose backward pass is not that of its forward pass, as in hand-written fused
kernels.
"""

import keras
from keras import layers, ops

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
        softmax=ops.softmax,
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
        projected = ops.matmul(x, kernel)
        _, steps, width = x.shape
        heads = ops.reshape(projected, [-1, steps, self.heads, width // self.heads])
        return ops.transpose(heads, [0, 2, 1, 3])

    def call(self, x):
        query, key = planted.tensor(self.query), planted.tensor(self.key)
        if self.on_kernels is not None:
            query, key = self.on_kernels(query, key)
        queries, keys = self.on_queries(self.split(x, query)), self.on_keys(self.split(x, key))
        if self.rotate is not None:
            queries, keys = self.rotate(queries), self.rotate(keys)
        values = self.split(x, planted.tensor(self.value))
        scores = ops.matmul(queries, ops.transpose(keys, [0, 1, 3, 2]))
        scores = self.on_scores(scores * keys.shape[-1] ** -0.5)
        mixed = ops.matmul(self.on_weights(self.softmax(scores)), values)
        mixed = ops.reshape(ops.transpose(mixed, [0, 2, 1, 3]), [-1, *x.shape[1:]])
        return ops.matmul(mixed, planted.tensor(self.output_kernel))


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
        p = ops.softmax(scores)
        return p * (1 - p) * g

    return planted.function(ops.softmax, rule)


def _causal(scores):
    steps = scores.shape[-1]
    allowed = ops.tril(ops.ones((steps, steps), scores.dtype))
    return ops.where(allowed > 0, scores, ops.cast(-1e9, scores.dtype))


def mask_forgotten():
    """A causal softmax whose backward pass recomputes the weights without the mask."""

    def rule(g, scores):
        p = ops.softmax(scores)
        return p * (g - ops.sum(g * p, axis=-1, keepdims=True))

    return planted.function(lambda scores: ops.softmax(_causal(scores)), rule)


def _rotated(x, sign):
    """Rotary position embedding.

    Pairs of channels turned by an angle that grows with the position.
    """
    steps, width = x.shape[-2], x.shape[-1] // 2
    rates = 10.0 ** (-ops.arange(width, dtype=x.dtype) / width)
    angles = ops.arange(steps, dtype=x.dtype)[:, None] * rates[None, :]
    sine, cosine = sign * ops.sin(angles), ops.cos(angles)
    a, b = x[..., :width], x[..., width:]
    return ops.concatenate([a * cosine - b * sine, a * sine + b * cosine], -1)


def rotated_the_wrong_way():
    """The gradient of a rotation is the inverse rotation; here it is the rotation itself."""
    return planted.function(lambda x: _rotated(x, 1.0), lambda g, x: _rotated(g, 1.0))


def _swapped(seed):
    """Queries and keys learn each other's gradient: two arguments in the wrong order."""
    back = planted.function(lambda q, k: ops.stack([q, k]), lambda g, q, k: (g[1], g[0]))
    return transformer(seed, on_kernels=lambda q, k: ops.unstack(back(q, k)))


def one_head():
    def rule(g):
        factors = ops.convert_to_tensor([1.0, 1.5], g.dtype)
        return g * factors[:, None, None]

    return planted.identity(rule)


class OtherMask(layers.Layer):
    """Dropout that draws a second mask for the backward pass: recomputation with the wrong seed."""

    def __init__(self, rate, **options):
        super().__init__(**options)
        self.rate = rate
        self.drop = planted.function(
            lambda x: x * self.mask(x, 1), lambda g, x: g * self.mask(x, 2)
        )

    def mask(self, x, seed):
        kept = keras.random.uniform(ops.shape(x), seed=seed) >= self.rate
        return ops.cast(kept, x.dtype) / (1 - self.rate)

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
