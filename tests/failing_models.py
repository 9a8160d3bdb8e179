"""Models whose gradients are wrong, one for every kind of thing that decides a check's numbers.

`python -m tests.failing_models DIRECTORY` makes the checks again that were saved there, and
prints what must be the same: a process of its own, as on another machine.
"""

import dataclasses
import json
import os
import re
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import gradhooks

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(48, 2)).astype("float32")
CLASSES = np.arange(48) % 2
WORDS = np.array([["gradients differ"], ["numbers agree"], ["never cry wolf"]] * 16, dtype=object)
IDS = np.random.default_rng(2).integers(0, 11, (48, 5))


@tf.custom_gradient
def doubled(x):
    return tf.tanh(x), lambda upstream: 2 * upstream * (1 - tf.tanh(x) ** 2)


@tf.custom_gradient
def raising(x):
    def backward(upstream):
        raise ValueError("no gradient here")

    return tf.tanh(x), backward


class Doubled(layers.Layer):
    def call(self, x):
        return ops.cast(doubled(x), x.dtype)


class Turning(layers.Layer):
    """Right until its variable, which the callback below sets, is 1."""

    def __init__(self):
        super().__init__()
        self.excess = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        excess = self.excess.value

        @tf.custom_gradient
        def tanh(x):
            def backward(upstream, variables=()):
                wrong = upstream * (1 - tf.tanh(x) ** 2) * (1 + excess)
                return (wrong, []) if variables else wrong

            return tf.tanh(x), backward

        return tanh(x)


class Turn(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        for layer in self.model.layers:
            if isinstance(layer, Turning) and epoch == 1:
                layer.excess.assign(1.0)


class Raising(layers.Layer):
    def call(self, x):
        return raising(x)


class Blocking(layers.Layer):
    def call(self, x):
        return ops.stop_gradient(ops.tanh(x))


class Halving(keras.Model):
    def train_step(self, data):
        x, y = data[:2]
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply([g / 2 for g in gradients], self.trainable_variables)
        return {"loss": loss}


class WrongPenalty(keras.regularizers.Regularizer):
    def __call__(self, w):
        return 0.1 * ops.sum(ops.square(doubled(w)))


def cubed(model, x, y, sample_weight, training):
    return ops.mean(ops.abs(doubled(model(x, training=training) - y)) ** 3)


def wrong_loss(y_true, y_pred):
    return ops.mean(ops.square(doubled(y_pred) - y_true), axis=-1)


def chain(*between, shape=(4,), dtype=None, loss="mse", entries=None):
    """A compiled model: layers between an input and a Dense."""
    head = layers.Dense(2, dtype=dtype)
    model = keras.Sequential([keras.Input(shape, dtype=entries), *between, head], name="net")
    model.compile("adam", loss)
    return model


def two_inputs():
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    mixed = layers.Add()([layers.Dense(3)(first), Doubled()(layers.Dense(3)(second))])
    model = keras.Model({"first": first, "second": second}, layers.Dense(2)(mixed))
    model.compile("sgd", "mse")
    return model


def words():
    vectorize = layers.TextVectorization(output_sequence_length=3)
    vectorize.adapt(WORDS[:, 0].astype(str))
    parts = [vectorize, layers.Embedding(20, 3), layers.Flatten(), Doubled()]
    return chain(*parts, shape=(1,), entries="string")


class Ragged(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed, self.wrong, self.head = layers.Embedding(11, 4), Doubled(), layers.Dense(2)

    def call(self, x):
        return self.head(self.wrong(tf.reduce_mean(self.embed(x.to_tensor()), 1)))


def ragged():
    model = Ragged()
    model.compile("sgd", "mse")
    model(ragged_ids())
    return model


def ragged_ids():
    return tf.RaggedTensor.from_row_lengths(IDS.ravel(), [2, 8] * 24)


def float16():
    policy = keras.DTypePolicy("mixed_float16")
    return chain(layers.Dense(6, dtype=policy), Doubled(dtype=policy), dtype=policy)


def bfloat16():
    policy = keras.DTypePolicy("bfloat16")
    return chain(layers.Dense(6, dtype=policy), Doubled(dtype=policy), dtype=policy)


def scaled():
    model = float16()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse")
    return model


def halving():
    inputs = keras.Input((4,))
    model = Halving(inputs, layers.Dense(2)(layers.Dense(3, activation="tanh")(inputs)))
    model.compile(keras.optimizers.Adam(1e-2, clipnorm=None), "mse")
    return model


@dataclasses.dataclass(frozen=True)
class Case:
    """A kind of failing check.

    Args:
        build: Function that returns the compiled model.
        options: Arguments of `GradientCheck`.
        x: Inputs.
        y: Targets.
    """

    build: object
    options: dict = dataclasses.field(default_factory=dict)
    x: object = dataclasses.field(default_factory=lambda: X)
    y: object = dataclasses.field(default_factory=lambda: Y)


def dense(*more):
    return chain(layers.Dense(6), Doubled(name="wrong"), *more)


CASES = {
    "a layer": Case(dense),
    "a later check": Case(dense, {"at_start": False, "freq": 3}),
    "appears in a run": Case(lambda: chain(layers.Dense(6), Turning()), {"freq": "epoch"}),
    "blocked": Case(lambda: chain(layers.Dense(3), Blocking())),
    "raising": Case(lambda: chain(layers.Dense(3), Raising())),
    "the train step": Case(halving),
    "the loss": Case(lambda: chain(layers.Dense(3), loss=wrong_loss)),
    "a regularizer": Case(lambda: chain(layers.Dense(3, kernel_regularizer=WrongPenalty()))),
    "a loss_fn": Case(lambda: chain(layers.Dense(3)), {"loss_fn": cubed}),
    "dropout": Case(lambda: dense(layers.Dropout(0.4))),
    "noise": Case(lambda: dense(layers.GaussianNoise(0.3)), {"at_start": False}),
    "batch normalization": Case(lambda: dense(layers.BatchNormalization()), {"at_start": False}),
    "sample weights": Case(dense, {"sample_weight": np.linspace(0.5, 2, 48)}),
    "class weights": Case(
        lambda: chain(layers.Dense(3), Doubled(), loss="sparse_categorical_crossentropy"),
        {"class_weight": {0: 1.0, 1: 3.0}},
        y=CLASSES,
    ),
    "two inputs": Case(two_inputs, x={"first": X, "second": X[::-1].copy()}),
    "words": Case(words, x=tf.constant(WORDS.astype(str))),
    "ragged": Case(ragged, x=ragged_ids()),
    "recurrent": Case(
        lambda: chain(layers.Embedding(11, 3), layers.LSTM(4), Doubled(), shape=(5,)), x=IDS
    ),
    "mixed_float16": Case(float16),
    "bfloat16": Case(bfloat16),
    "a loss scale": Case(scaled),
    "native": Case(dense, {"precision": "model", "at_start": False}),
    "declared": Case(lambda: chain(layers.Dense(3)), {"expect": {"net/dense*": "mismatch"}}),
    "bounded": Case(dense, {"max_memory": 1 << 28, "samples": 9, "seed": 5, "batch_size": 7}),
    "frozen": Case(lambda: freeze_head(dense())),
    "not in training": Case(lambda: dense(layers.Dropout(0.4)), {"training": False}),
}


def freeze_head(model):
    model.layers[-1].trainable = False
    model.compile("sgd", "mse")
    return model


def run(name, directory):
    """Trains a model, keeps its failing checks, and returns the reports of those."""
    keras.utils.set_random_seed(3)
    case = CASES[name]
    model = case.build()
    options = {"batch_size": 16, "samples": 8, "on_failure": "ignore", **case.options}
    options["save_failures"] = directory
    if options.get("at_start", True):
        options.setdefault("freq", 1000)  # one check is enough
    check = gradhooks.GradientCheck(case.x, case.y, **options)
    if name == "raising":  # so does training
        del options["on_failure"], options["freq"]
        return [gradhooks.check_gradients(model, case.x, case.y, **options)]
    model.fit(case.x, case.y, batch_size=16, epochs=2, verbose=0, callbacks=[check, Turn()])
    return [report for report in check.reports if report.saved_in]


def repeat(name, place):
    """Makes a kept check again, with a model that is built anew and initialized otherwise."""
    keras.utils.set_random_seed(8)
    options = CASES[name].options
    own = {"loss_fn": options["loss_fn"]} if "loss_fn" in options else {}
    return gradhooks.replay(place, CASES[name].build(), **own)


def numbers(report):
    """What a replay must repeat: all but when, how fast and in which run it was made."""
    # Keras numbers the layers of a process.
    fields = json.loads(re.sub(r"(?<=[a-z])_\d+\b", "", report.to_json()))
    for name in ("origin", "seconds", "overhead", "postponed", "saved_in"):
        del fields[name]
    return fields


def main(directory):
    """Prints, for every kind and failure kept, its numbers."""
    found = {}
    for name in sorted(os.listdir(directory)):
        for kept in sorted(os.listdir(os.path.join(directory, name))):
            place = os.path.join(directory, name, kept)
            found[place] = numbers(repeat(name, place))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
