"""What replicas add up to: a step that forgets to divide is caught.

How far the weights really move is the judge.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import needs

pytestmark = [pytest.mark.system, needs.tensorflow("MirroredStrategy")]

ROOT = pathlib.Path(__file__).parents[2]

# Devices are configured before anything else runs, so this has a process of its own; all cases
# share it.
REPLICAS = """
import json
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras, numpy as np, gradhooks
from keras import layers, ops

ROWS = 32
rng = np.random.default_rng(0)
x, y = rng.normal(size=(ROWS, 4)).astype("float32"), rng.normal(size=(ROWS, 1)).astype("float32")

class Own(keras.Sequential):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.loss_of(x, y, self(x, training=True))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {"loss": loss}

def replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync

def own(loss_of):
    return type("Own", (Own,), {"loss_of": loss_of})

def squares(y, p):
    return tf.reduce_mean(tf.square(p - y), -1)

def divided(self, x, y, p):
    return tf.reduce_mean(squares(y, p)) / replicas()

STEPS = {
    "undivided": own(lambda self, x, y, p: tf.reduce_mean(squares(y, p))),
    "undivided, eagerly": own(lambda self, x, y, p: tf.reduce_mean(squares(y, p))),
    "undivided, convolutional": own(lambda self, x, y, p: tf.reduce_mean(squares(y, p))),
    "undivided, recurrent": own(lambda self, x, y, p: tf.reduce_mean(squares(y, p))),
    "penalty of every replica": own(
        lambda self, x, y, p: divided(self, x, y, p) + tf.add_n(self.losses)
    ),
    "penalty of every replica, convolutional": own(
        lambda self, x, y, p: divided(self, x, y, p) + tf.add_n(self.losses)
    ),
    "penalty divided": own(
        lambda self, x, y, p: divided(self, x, y, p)
        + tf.nn.scale_regularization_loss(tf.add_n(self.losses))
    ),
    "divided, convolutional": own(divided),
    "divided, recurrent": own(divided),
    "divided twice": own(lambda self, x, y, p: self.compute_loss(x, y, p) / replicas()),
    "Keras' own": keras.Sequential,
    "compute_loss": own(lambda self, x, y, p: self.compute_loss(x, y, p)),
    "divided": own(lambda self, x, y, p: tf.reduce_mean(squares(y, p)) / replicas()),
    "divided, eagerly": own(lambda self, x, y, p: tf.reduce_mean(squares(y, p)) / replicas()),
    "divided by what the model knows": own(
        lambda self, x, y, p: (
            tf.reduce_mean(squares(y, p)) / self.distribute_strategy.num_replicas_in_sync
        )
    ),
    "averaged": own(lambda self, x, y, p: tf.nn.compute_average_loss(squares(y, p))),
    "averaged over all": own(
        lambda self, x, y, p: tf.nn.compute_average_loss(squares(y, p), global_batch_size=ROWS)
    ),
    "a loss of Keras": own(lambda self, x, y, p: keras.losses.MeanSquaredError()(y, p)),
    "summed": keras.Sequential,
    "reduced by hand": own(
        lambda self, x, y, p: tf.reduce_sum(squares(y, p)) / tf.cast(
            tf.distribute.get_replica_context().all_reduce("SUM", tf.shape(x)[0]), tf.float32)
    ),
    "statistics of all": keras.Sequential,
    "dropout": own(lambda self, x, y, p: self.compute_loss(x, y, p)),
}

def built(name, strategy):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    middle = {
        "statistics of all": [layers.BatchNormalization(synchronized=True)],
        "dropout": [layers.Dropout(0.3)],
    }.get(name, [])
    loss = keras.losses.MeanSquaredError(reduction="sum") if name == "summed" else "mse"
    with strategy.scope():
        has_penalty = name == "Keras' own" or "penalty" in name
        options = {"activation": "tanh", "kernel_regularizer": "l2" if has_penalty else None}
        stack = [keras.Input((4,)), layers.Dense(3, **options)]
        if "convolutional" in name:
            flat = layers.Flatten()
            stack[1:] = [layers.Reshape((2, 2, 1)), layers.Conv2D(3, (2, 1), **options), flat]
        if "recurrent" in name:
            stack[1:] = [layers.Reshape((2, 2)), layers.SimpleRNN(3, **options)]
        model = STEPS[name]([*stack, *middle, layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1e-3), loss, run_eagerly="eagerly" in name)
    return model

def moved(model):
    before = [np.array(v) for v in model.trainable_variables]
    model.fit(x, y, batch_size=ROWS, verbose=0, shuffle=False)
    pairs = zip(model.trainable_variables, before)
    return np.concatenate([np.ravel(np.array(v) - b) for v, b in pairs])

one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
results = {}
for name in STEPS:
    report = gradhooks.check_gradients(built(name, two), x, y, samples=4)
    there, here = moved(built(name, two)), moved(built(name, one))
    results[name] = {
        "verdict": str(report.verdict), "notes": report.notes, "error": report.error,
        "trained": sorted({str(c.verdict) for c in report.comparisons if c.term == "trained"}),
        "sentence": report.diagnoses[0].sentence if report.diagnoses else "",
        "farther": float(there @ here / (here @ here)),
    }
print(json.dumps(results))
"""

WRONG = {
    "undivided": (
        2.0,
        "2 times the gradient, for every variable: a mean per replica that is not divided by the",
    ),
    "undivided, eagerly": (2.0, "2 times the gradient"),
    "undivided, convolutional": (2.0, "2 times the gradient, for every variable: a mean per"),
    "undivided, recurrent": (2.0, "2 times the gradient, for every variable: a mean per"),
    "divided twice": (
        0.5,
        "0.5 times the gradient, for every variable: divided twice by the number of replicas (2)?",
    ),
}
# These go farther by the penalty alone, so that the weights do not tell by how much.
TWICE = ["penalty of every replica", "penalty of every replica, convolutional"]
RIGHT = [
    "Keras' own",
    "compute_loss",
    "divided",
    "divided, eagerly",
    "divided, convolutional",
    "divided, recurrent",
    "penalty divided",
    "divided by what the model knows",
    "averaged",
    "a loss of Keras",
    "reduced by hand",
    "statistics of all",
    "dropout",
]
# Right for a share of the global batch, and for nothing else.
NOT_CHECKED = ["averaged over all", "summed"]


@pytest.fixture(scope="module")
def results():
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS], env=environ, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_case_is_looked_at(results):
    assert sorted(results) == sorted([*WRONG, *TWICE, *RIGHT, *NOT_CHECKED])


@pytest.mark.parametrize("case", WRONG)
def test_what_moves_the_weights_too_far_fails(results, case):
    found, (factor, words) = results[case], WRONG[case]
    assert found["farther"] == pytest.approx(factor, rel=1e-2)
    assert found["verdict"] == "FAIL"
    assert words in found["sentence"]


@pytest.mark.parametrize("case", TWICE)
def test_a_penalty_that_every_replica_adds_fails(results, case):
    found = results[case]
    assert found["verdict"] == "FAIL"
    assert "each of the 2 replicas adds all of it?" in found["sentence"]


@pytest.mark.parametrize("case", RIGHT)
def test_what_moves_them_as_one_device_does_passes(results, case):
    found = results[case]
    if case != "dropout":  # its masks differ
        assert found["farther"] == pytest.approx(1.0, rel=1e-2)
    assert (found["verdict"], found["trained"], found["notes"], found["error"]) == (
        "PASS",
        ["PASS"],
        [],
        "",
    )


@pytest.mark.parametrize("case", NOT_CHECKED)
def test_what_is_not_known_is_said(results, case):
    found = results[case]
    assert found["farther"] == pytest.approx(1.0, rel=1e-2)
    assert found["verdict"] == "PASS"
    (note,) = found["notes"]
    assert note.startswith("under MirroredStrategy what the 2 replicas add up to was not checked")
