"""Train steps run on copies: nothing that a step could write to is written to."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradhooks
from gradhooks import Verdict

GLOBAL = tf.Variable(1.0, trainable=False)
DATA = np.random.default_rng(0).normal(size=(2, 16, 4)).astype("float32")


class Net(keras.Sequential):
    def __init__(self, **options):
        super().__init__([layers.Input((4,)), layers.Dense(4, "tanh"), layers.Dense(4)], **options)
        self.numbers = tf.random.Generator.from_seed(3)
        self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)
        self.rows = iter(tf.data.Dataset.range(1000))

    def train_step(self, data):
        x, y = data
        self.aside(x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


class DrawsFromAll(Net):
    def aside(self, x):
        return [g.normal(tf.shape(x)) for g in (self.numbers, tf.random.get_global_generator())] + [
            tf.random.normal(tf.shape(x))
        ]


class AssignsAGlobal(Net):
    def aside(self, x):
        GLOBAL.assign_add(1.0)


class FillsATable(Net):
    def aside(self, x):
        key = tf.constant([1], tf.int64)
        self.table.insert(key, self.table.lookup(key) + 1)


class AdvancesAnIterator(Net):
    def aside(self, x):
        next(self.rows)


class DifferentiatesInAGraph(Net):
    """Needs a graph: its function cannot run eagerly."""

    @tf.function
    def gradients(self, x, y):
        loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        return loss, tf.gradients(loss, [v.value for v in self.trainable_variables])

    def train_step(self, data):
        loss, gradients = self.gradients(*data)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


# Kind -> whether the step can be recorded. A step that advances what cannot be copied is refused.
KINDS = {
    DrawsFromAll: True,
    AssignsAGlobal: True,
    DifferentiatesInAGraph: True,
    FillsATable: False,
    AdvancesAnIterator: False,
}


def train(kind, is_eager, *callbacks):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    tf.random.get_global_generator().reset_from_seed(5)
    GLOBAL.assign(1.0)
    model = kind()
    model.compile("adam", "mse", run_eagerly=is_eager)
    model.fit(*DATA, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    variables = [*model.variables, *model.optimizer.variables]
    states = [model.numbers.state, tf.random.get_global_generator().state, GLOBAL]
    bits = [v.numpy().tobytes() for v in [*variables, *states]]
    return (
        bits,
        int(next(model.rows)),
        model.table.lookup(tf.constant([1], tf.int64)).numpy().tolist(),
    )


@pytest.mark.parametrize("is_eager", [False, True], ids=["graph", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_to(kind, is_eager):
    plain = train(kind, is_eager)
    check = gradhooks.GradientCheck(*DATA, freq=1, samples=4)
    assert train(kind, is_eager, check) == plain
    assert {r.verdict for r in check.reports} == {Verdict.PASS}
    recorded = [c.verdict for r in check.reports for c in r.comparisons if c.term == "trained"]
    assert set(recorded) == {Verdict.PASS if KINDS[kind] else Verdict.INCONCLUSIVE}
