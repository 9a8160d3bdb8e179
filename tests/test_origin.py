"""Every report says when it was made, in which fit, and with which versions."""

import pathlib
import platform
import random
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import gradhooks
from gradhooks.reports.circumstances import Origin
from gradhooks.reports.text import moment
from gradhooks.sinks.jsonl import read_reports
from tests import models

ROOT = pathlib.Path(__file__).parents[1]
VERSIONS = {
    "gradhooks": gradhooks.__version__,
    "python": platform.python_version(),
    "keras": keras.__version__,
    "tensorflow": tf.__version__,
}


def trained(*fits, **options):
    """A callback after some fits of one model, and the reports of each."""
    model, x, y = models.mlp()
    check = gradhooks.GradientCheck(x, y, samples=4, freq=4, **options)
    reports = []
    for epochs in fits:
        model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=[check])
        reports.append(check.reports)
    return reports


def test_the_reports_of_a_fit_share_an_id_and_those_of_the_next_have_another(tmp_path):
    first, second = trained(1, 1, log_dir=tmp_path)
    ids = [{report.origin.fit for report in reports} for reports in (first, second)]
    assert [len(each) for each in ids] == [1, 1]
    assert ids[0] != ids[1]
    assert all(re.fullmatch("[0-9a-f]{32}", fit) for each in ids for fit in each)
    stored, _ = read_reports(tmp_path / "gradcheck" / "reports.jsonl")
    assert [r.origin for r in stored] == [r.origin for r in (*first, *second)]


def test_a_report_knows_its_model_its_time_and_its_versions():
    before = time.time()
    model, x, y = models.mlp()
    origin = gradhooks.check_gradients(model, x, y, samples=4).origin
    assert before <= origin.time <= time.time()
    assert (origin.fit, origin.model, origin.backend) == ("", model.name, "tensorflow")
    assert origin.versions == VERSIONS
    assert re.fullmatch(r"(CPU|GPU):\d", origin.device)


def test_a_check_that_an_error_ends_has_an_origin_too():
    class Moody(keras.layers.Layer):
        is_broken = False

        def call(self, x):
            if self.is_broken:
                raise OSError("no")
            return x

    moody = Moody()
    model, x, y = models.mlp(middle=[moody])
    moody.is_broken = True
    report = gradhooks.check_gradients(model, x, y, samples=4)
    assert report.error
    assert report.origin.versions == VERSIONS


def test_mirrored_weights_have_a_device():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model, x, y = models.mlp()
    origin = gradhooks.check_gradients(model, x, y, samples=4, train_step=False).origin
    assert origin.device == "CPU:0"


def test_a_function_has_versions_and_loads_no_framework():
    code = (
        "import sys, numpy as np, gradhooks\n"
        "loss, gradient = lambda p: np.sum(p**2), lambda p: 2 * p\n"
        "report = gradhooks.check_function(loss, gradient, np.ones(3))\n"
        "origin = report.origin\n"
        "print(sorted(origin.versions), origin.time > 1e9)\n"
        "print([origin.fit, origin.model, origin.device, origin.backend])\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))\n"
        "print(report)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    known, others, loaded, *shown = done.stdout.splitlines()
    assert known == "['gradhooks', 'python'] True"
    assert (others, loaded) == ("['', '', '', '']", "set()")
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ; gradhooks {re.escape(gradhooks.__version__)}, "
        rf"python {re.escape(platform.python_version())}",
        shown[-1],
    )


def test_the_id_of_a_fit_advances_no_generator():
    def state():
        return random.getstate(), repr(np.random.get_state())

    _, x, y = models.mlp()
    check = gradhooks.GradientCheck(x, y)
    keras.utils.set_random_seed(3)
    before = state()
    check._checker.begin_fit()
    assert state() == before
    drawn = float(tf.random.uniform(()))  # TensorFlow does not show the state of its generator
    keras.utils.set_random_seed(3)
    assert float(tf.random.uniform(())) == drawn


def test_a_report_shows_its_origin_at_its_end():
    report = trained(1)[0][-1]
    origin, versions = report.origin, [f"{name} {number}" for name, number in VERSIONS.items()]
    expected = (
        f"model {origin.model} on {origin.device}; {moment(origin.time)}; {', '.join(versions)}"
    )
    shown = " ".join(str(report).split())  # the line may be folded
    assert shown.endswith(f" s {expected}")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (1_000_000_000.9, "2001-09-09T01:46:40Z"),
        (1.0, "1970-01-01T00:00:01Z"),
        (253_402_300_799.0, "9999-12-31T23:59:59Z"),
        (0.0, ""),
        (-1.0, ""),
        (1e300, ""),
        (float("inf"), ""),
        (float("nan"), ""),
    ],
)
def test_a_time_is_shown_in_iso_8601_and_an_impossible_one_not(seconds, shown):
    assert moment(seconds) == shown


def test_an_unknown_origin_is_not_shown():
    report = gradhooks.CheckReport(1, gradhooks.Verdict.PASS, gradhooks.Reason.AGREES, {})
    assert report.origin == Origin()
    assert str(report).splitlines()[-1].endswith(" s")
