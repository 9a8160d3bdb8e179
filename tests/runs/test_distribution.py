"""Several devices and several processes: the same verdict everywhere, and one writer."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from gradhooks.model import distribution
from tests import needs
from tests.runs.training import stored

pytestmark = pytest.mark.system

ROOT = pathlib.Path(__file__).parents[2]
ONE_DEVICE, TWO_DEVICES = "1", "2"

# Devices are configured before anything else runs, so every count of them needs a process of its
# own.
MIRRORED = """
import contextlib, hashlib, json, sys
import tensorflow as tf

count, log_dir = int(sys.argv[1]), sys.argv[2]
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)

import keras, numpy as np, gradhooks

x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = x[:, :1]

def train(check):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
    with strategy.scope() if count > 1 else contextlib.nullcontext():
        hidden = keras.layers.Dense(3, "tanh", kernel_regularizer="l2")
        stack = [keras.Input((4,)), hidden, keras.layers.Dense(1)]
        model = keras.Sequential(stack)
        model.compile(keras.optimizers.SGD(0.1), "mse")
    callbacks = [check] if check else []
    model.fit(x, y, epochs=2, batch_size=32, verbose=0, shuffle=False, callbacks=callbacks)
    values = [keras.ops.convert_to_numpy(v) for v in model.variables]
    return hashlib.sha256(b"".join(v.tobytes() for v in values)).hexdigest()

check = gradhooks.GradientCheck(x, y, freq=1, samples=4, log_dir=log_dir)
results = {"checked": train(check), "plain": train(None)}
results["reports"] = [
    (r.step, str(r.verdict), r.loss["total"], r.loss["penalty"], r.error) for r in check.reports
]
results["drawn"] = [[(c.position, c.term) for c in r.comparisons] for r in check.reports]
print(json.dumps(results))
"""


def mirrored(count, log_dir):
    command = [sys.executable, "-c", MIRRORED, count, str(log_dir)]
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def environ(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", **more}


@needs.tensorflow("MirroredStrategy")
def test_two_devices_come_to_the_verdict_of_one(tmp_path):
    one, two = mirrored(ONE_DEVICE, tmp_path / "one"), mirrored(TWO_DEVICES, tmp_path / "two")
    for results in (one, two):
        assert results["checked"] == results["plain"]
        assert [(step, verdict, error) for step, verdict, *_, error in results["reports"]] == [
            (step, "PASS", "") for step in range(5)
        ]
    assert two["drawn"] == one["drawn"]
    for (*_, a, a_penalty, _), (*_, b, b_penalty, _) in zip(
        one["reports"], two["reports"], strict=True
    ):
        # Divided by the number of replicas it would be half of it; training itself differs in the
        # last digits.
        assert b == pytest.approx(a, rel=1e-5)
        assert b_penalty == pytest.approx(a_penalty, rel=1e-5)
    for name in ("one", "two"):
        files = sorted(p.name for p in (tmp_path / name / "gradcheck").iterdir())
        assert len(files) == 2
        assert stored(tmp_path / name) == [0, 1, 2, 3, 4]


SHARED_OUT = """
import json
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import numpy as np
import gradhooks
from gradhooks.backends.tensorflow import replicas
from gradhooks.model import distribution
from tests import models

asked, run = [], replicas.run

def watched(function, *arguments):
    context = tf.distribute.get_replica_context()
    is_mirrored = isinstance(context.strategy, tf.distribute.MirroredStrategy)
    asked.append(tf.nest.flatten(context.devices)[0][-5:] if is_mirrored else "outside")
    return run(function, *arguments)

replicas.run = watched
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model, x, y = models.cnn()

def checked():
    asked.clear()
    report = gradhooks.check_gradients(model, x, y, samples=9, train_step=False)
    return sorted(set(asked)), report.to_json()

two = checked()
distribution.strategy_of = lambda model: None
one = checked()
print(json.dumps({"devices": [two[0], one[0]], "reports": [two[1], one[1]]}))
"""


@needs.tensorflow("MirroredStrategy")
def test_two_devices_share_the_evaluations():
    done = subprocess.run(
        [sys.executable, "-c", SHARED_OUT],
        env=environ(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["devices"] == [["CPU:0", "CPU:1", "outside"], ["outside"]]
    two, one = map(json.loads, results["reports"])
    assert two["verdict"] == "PASS"
    # To the last bit: every evaluation is the same, wherever it runs.
    assert two["comparisons"] == one["comparisons"]
    assert two["evaluations"] == one["evaluations"]


KERAS_ALONE = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, numpy as np

with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(np.ones((64, 4), "float32"), np.ones((64, 1), "float32"), batch_size=32, verbose=0)
print("trained")
"""


def start_workers(command):
    """Starts two processes that know each other by `TF_CONFIG`."""
    from examples import distributed

    cluster = {"worker": [f"127.0.0.1:{port}" for port in distributed.free_ports(2)]}
    return [
        subprocess.Popen(
            command,
            env=environ(
                TF_CONFIG=json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                )
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]


@needs.tensorflow("MultiWorkerMirroredStrategy")
def test_keras_alone_cannot_fit_across_processes():
    """Without the callback.

    When this fails, Keras has learnt it, and `fit()` with the callback is to be tested.
    """
    processes = start_workers([sys.executable, "-c", KERAS_ALONE])
    for process in processes:
        text, _ = process.communicate(timeout=600)
        assert process.returncode != 0
        assert "PerReplica" in text
        assert "trained" not in text.splitlines()


@needs.tensorflow("MultiWorkerMirroredStrategy")
def test_two_processes_agree_and_one_writes(tmp_path):
    """The example, whose loop is written by hand."""
    command = [
        sys.executable,
        str(ROOT / "examples" / "distributed.py"),
        "--log-dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [
        [line.split(", ", 1)[1] for line in done.stdout.splitlines() if f"worker {i}," in line]
        for i in range(2)
    ]
    assert len(results[0]) == 3
    # The same draw, the same loss to the last digit shown, the same verdict.
    assert results[0] == results[1]
    assert all("PASS" in line for line in results[0])
    assert len(list((tmp_path / "gradcheck").iterdir())) == 2
    assert stored(tmp_path) == [0, 10, 20]


TWO = {"worker": ["a:1", "b:1"]}
LED = {"chief": ["c:1"], "worker": ["a:1", "b:1"], "ps": ["d:1"]}
TASKS = [
    ((None, None, {}), True),
    (("", 0, {}), True),
    (("worker", 0, TWO), True),
    (("worker", 1, TWO), False),
    (("chief", 0, LED), True),
    (("worker", 0, LED), False),
    (("ps", 0, LED), False),
    (("evaluator", 0, {**TWO, "evaluator": ["e:1"]}), False),
]


@pytest.mark.parametrize(("task", "expected"), TASKS)
def test_who_leads(task, expected):
    assert distribution.is_primary(*task) is expected


@pytest.mark.parametrize("cluster", [TWO, LED])
def test_one_task_leads(cluster):
    tasks = [
        (kind, number) for kind, addresses in cluster.items() for number in range(len(addresses))
    ]
    assert sum(distribution.is_primary(kind, number, cluster) for kind, number in tasks) == 1


def test_a_model_without_a_strategy_is_led_by_itself():
    assert distribution.is_chief(object())
