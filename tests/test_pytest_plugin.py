"""The plugin of pytest, in real runs of pytest."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from keras import layers

import gradhooks
from gradhooks.testing import assert_function_gradients, assert_gradients
from tests.test_testing import rows

ROOT = pathlib.Path(gradhooks.__file__).parents[1]

TESTS = """
import keras
import numpy as np
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@tf.custom_gradient
def double(x):
    return 2.0 * x, lambda upstream: upstream


class Planted(keras.layers.Layer):
    def call(self, x):
        return double(x)


def test_right(gradcheck):
    assert gradcheck(keras.layers.Dense(2), X, samples=4).verdict.name == "PASS"


def test_wrong(gradcheck):
    gradcheck(Planted(), X, samples=4)


def test_function(gradcheck):
    gradcheck.function(lambda p: np.sum(np.sin(p)), np.cos, np.ones(3))


def test_wrong_function(gradcheck):
    gradcheck.function(lambda p: np.sum(np.sin(p)), np.sin, np.ones(3))
"""

NO_CHECKS = """
import sys


def test_nothing_is_imported():
    assert not {"keras", "tensorflow", "numpy"} & set(sys.modules)
"""


def run_pytest(folder, text, *arguments):
    """The exit code and what a run of pytest prints, with the plugin and no other."""
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "gradhooks.pytest_plugin", "-p"]
    command += ["no:cacheprovider", "-q", *arguments]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "workers"])
def test_a_run_ends_with_a_line_on_its_checks(tmp_path, workers):
    code, printed = run_pytest(tmp_path, TESTS, *workers)
    assert code == 1
    assert re.search(r"^gradhooks: 4 gradient checks, 2 failed, \d+\.\d s$", printed, re.MULTILINE)
    assert "2 failed, 2 passed" in printed


def test_a_failure_shows_the_line_of_the_test_and_nothing_inside(tmp_path):
    _, printed = run_pytest(tmp_path, TESTS, "-k", "test_wrong")
    assert ">       gradcheck(Planted(), X, samples=4)" in printed
    assert "the backward pass of `planted`" in printed
    assert ">       gradcheck.function(" in printed
    assert "_require_pass" not in printed
    assert (
        re.findall(r"^(\S+\.py):\d+: AssertionError", printed, re.MULTILINE) == ["test_it.py"] * 2
    )


def test_without_checks_nothing_is_imported_and_nothing_said(tmp_path):
    code, printed = run_pytest(tmp_path, NO_CHECKS)
    assert (code, "gradhooks" in printed) == (0, False), printed


def test_pytest_finds_it(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("gradhooks")


class Sum(layers.Layer):
    def call(self, left, right):
        return left + right


class Mode(layers.Layer):
    def call(self, x, training):
        return 2.0 * x if training else x


def test_a_layer_of_two_inputs_is_told_how():
    x = [rows(4, 3), rows(4, 3, seed=1)]
    with pytest.raises(gradhooks.BadInputError, match=r"layer\(x\[0\], x\[1\]\)"):
        assert_gradients(Sum(), x)
    report = assert_gradients(Sum(), x, call=lambda layer, x, training: layer(x[0], x[1]))
    assert {"inputs_0", "inputs_1"} <= {c.path for c in report.comparisons}


def test_the_argument_training_is_no_input():
    assert_gradients(Mode(), rows(4, 3))


def test_a_function_that_is_right_passes_and_one_that_is_wrong_does_not():
    assert (
        assert_function_gradients(lambda p: p @ p, lambda p: 2 * p, rows(5)).verdict.name == "PASS"
    )
    with pytest.raises(AssertionError, match=r"gradhooks\.check_function\("):
        assert_function_gradients(lambda p: p @ p, lambda p: 2.1 * p, rows(5))
