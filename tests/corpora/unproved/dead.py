"""Layers that are dead, or next to it, beside a few parameters that live."""

from functools import partial

import keras
import tensorflow as tf
from keras import layers

from tests.corpora.corpus import compiled, features, integers, seeded
from tests.corpora.unproved.building import WIDTH, Entry, applied, multiplied, regression, stem

IDENTITIES, BATCH = 20_000, 16


def constant(value):
    return keras.initializers.Constant(value)


def dead_units(factor):
    seeded(0)
    inputs, hidden = stem(factor)
    dead = layers.Dense(16, "relu", bias_initializer=constant(-100.0), name="dead")(inputs)
    dead = layers.Dense(16, "relu", name="above_dead")(dead)
    return regression(inputs, layers.Concatenate()([hidden, dead]))


def zero_branches(factor):
    """Branches that end in zeros, as residual networks begin.

    What is inside of them has no gradient yet.
    """
    seeded(0)
    inputs, hidden = stem(factor)
    for number in range(6):
        inner = layers.Dense(16, "tanh", name=f"inner_{number}")(hidden)
        hidden = layers.Add()(
            [hidden, layers.Dense(WIDTH, kernel_initializer="zeros", name=f"zero_{number}")(inner)]
        )
    return regression(inputs, hidden)


def gated(factor, bias):
    """A gate that lets nothing through, or everything: its own gradient is far below rounding."""
    seeded(0)
    inputs, hidden = stem(factor)
    gate = layers.Dense(WIDTH, "sigmoid", bias_initializer=constant(bias), name="gate")(inputs)
    branch = layers.Multiply()([gate, layers.Dense(WIDTH, "tanh", name="branch")(inputs)])
    return regression(inputs, layers.Add()([hidden, branch]))


def tiny_layer(factor):
    seeded(0)
    inputs, hidden = stem(factor)
    tiny = applied(lambda x: x * 1e-12, layers.Dense(WIDTH, "tanh", name="tiny")(inputs))
    return regression(inputs, layers.Add()([hidden, tiny]))


def recommender(factor):
    rng = seeded(0)
    users, items = (
        keras.Input((), dtype="int32", name="users"),
        keras.Input((), dtype="int32", name="items"),
    )
    user = multiplied(factor, layers.Embedding(IDENTITIES, 16, name="user_table")(users))
    item = layers.Embedding(IDENTITIES, 16, name="item_table")(items)
    outputs = layers.Dense(1, name="head")(layers.Concatenate()([user, item]))
    x = {name: integers(rng, IDENTITIES, BATCH) for name in ("users", "items")}
    return (
        compiled(keras.Model({"users": users, "items": items}, outputs)),
        x,
        features(rng, BATCH, 1),
        {"samples": 8},
    )


def unused_experts(factor):
    """Every row goes to the first of six."""
    seeded(0)
    inputs, hidden = stem(factor)
    router = layers.Dense(6, bias_initializer=constant([9.0] + [0.0] * 5), name="router")
    shares = layers.Softmax()(router(hidden))
    chosen = applied(lambda s: s * tf.one_hot(tf.argmax(s, -1), 6, dtype=s.dtype), shares)
    experts = [layers.Dense(WIDTH, "tanh", name=f"expert_{k}")(hidden) for k in range(6)]
    mixed = applied(
        lambda all_: tf.einsum("be,ebw->bw", all_[0], tf.stack(all_[1:])), [chosen, *experts]
    )
    return regression(inputs, mixed)


ENTRIES = (
    Entry("dead units", dead_units, is_measurable=True),
    Entry("branches that end in zeros", zero_branches, is_measurable=True),
    Entry("shut gate", partial(gated, bias=-60.0), is_measurable=True),
    Entry("open gate", partial(gated, bias=60.0), is_measurable=True),
    Entry("layer times 1e-12", tiny_layer, is_measurable=True),
    Entry("recommender", recommender, is_measurable=True),
    Entry("unused experts", unused_experts, is_measurable=True),
)
