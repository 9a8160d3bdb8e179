"""Models that are spread over devices, and over processes."""

import os
import pathlib
import subprocess
import sys

import jax  # noqa: F401, this file is for JAX
import pytest

ROOT = pathlib.Path(__file__).parents[2]

TRAINING = """
import sys
import keras
import numpy as np
from keras import layers
import gradhooks

distribution = keras.distribution
assert len(distribution.list_devices()) == 8
if sys.argv[1] == "data":
    distribution.set_distribution(distribution.DataParallel())
else:
    mesh = distribution.DeviceMesh((4, 2), ("batch", "model"), distribution.list_devices())
    layouts = distribution.LayoutMap(mesh)
    layouts[".*dense.*kernel"] = (None, "model")
    distribution.set_distribution(
        distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    )

def train(with_check):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(64, 8)).astype("float32"), rng.integers(0, 4, 64)
    model = keras.Sequential([
        keras.Input((8,)),
        layers.Dense(16, activation="tanh", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.Dropout(0.2),
        layers.Dense(4),
    ])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # Fourteen examples do not divide by the number of devices.
    check = gradhooks.GradientCheck(x[:14], y[:14], samples=4, freq=3, verbose=0)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[check] if with_check else [])
    return model.get_weights(), check.reports

plain, _ = train(False)
checked, reports = train(True)
print(all((a == b).all() for a, b in zip(plain, checked)))
print({report.verdict.name for report in reports})
print(max(report.relative_difference["trained"] for report in reports) < 1e-6)
"""


def run(*command, **environment):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, timeout=500
    )


@pytest.mark.system
@pytest.mark.parametrize("kind", ["data", "model"])
def test_over_eight_devices(kind):
    result = run("-c", TRAINING, kind, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert result.stdout.splitlines()[-3:] == ["True", "{'PASS'}", "True"], result.stderr


@pytest.mark.system
def test_two_processes_come_to_one_verdict_and_one_writes():
    result = run(str(ROOT / "examples" / "distributed_jax.py"))
    said = [line for line in result.stdout.splitlines() if line.startswith("process")]
    assert len(said) == 6, result.stderr
    assert {line.partition(", ")[2] for line in said[:3]} == {
        line.partition(", ")[2] for line in said[3:]
    }
    assert all("PASS" in line for line in said)
    assert "written: ['gradcheck']" in result.stdout
