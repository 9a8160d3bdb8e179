"""Small builders that the controls share."""

import keras
from keras import layers

from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential

LOGITS = keras.losses.SparseCategoricalCrossentropy


def around(seed, shape, *middle, batch=8, **options):
    """A regression network: what the functions in `middle` make, and a dense `head`.

    Layers draw their initial seeds when they are made, so they are made here,
    after the seeding.
    """
    rng = seeded(seed)
    model = sequential(
        shape,
        *(make() for make in middle),
        layers.Flatten(),
        layers.Dense(2, name="head"),
        **options,
    )
    return model, features(rng, batch, *shape), features(rng, batch, 2)


def between(make, shape=(6,)):
    """The layer that `make()` returns between two dense ones."""
    return lambda seed: around(seed, shape, dense(6), make, dense(6))


def layer_case(name, shape, *middle, batch=8, note="", options=None):
    """A case around one layer, or a few."""
    return Case(
        name,
        lambda seed: around(seed, shape, *middle, batch=batch),
        note=note,
        options=options or {},
    )


def classified(rng, x, hidden, classes=3, loss="sparse_categorical_crossentropy", **options):
    """Puts a softmax `head` on a graph of layers; returns the compiled model and 8 labels."""
    head = layers.Dense(classes, activation="softmax", name="head")(hidden)
    return compiled(keras.Model(x, head), loss, **options), integers(rng, classes, 8)


def dense(units=8, activation="tanh", **options):
    """Returns a function that makes a dense layer."""
    return lambda: layers.Dense(units, activation=activation, **options)
