"""Uses of the public functions, wrong and right, for a type checker; this file is never run.

A checker must report an error in every line that ends with the comment
`error`, and in no other line.
"""

import pathlib
from typing import Any, assert_type

import numpy as np

import gradhooks
from gradhooks.testing import FunctionOracle, Oracle, assert_gradients

x, y = np.zeros((4, 3)), np.zeros((4, 1))


def misuse_the_callback() -> None:
    gradhooks.GradientCheck()  # error
    gradhooks.GradientCheck(x, y, None)  # error
    gradhooks.GradientCheck(x, y, samples="3")  # error
    gradhooks.GradientCheck(x, y, samples=3.5)  # error
    gradhooks.GradientCheck(x, y, smaples=3)  # error
    gradhooks.GradientCheck(x, y, on_failure="wran")  # error
    gradhooks.GradientCheck(x, y, on_failure=None)  # error
    gradhooks.GradientCheck(x, y, precision="float32")  # error
    gradhooks.GradientCheck(x, y, freq="epochs")  # error
    gradhooks.GradientCheck(x, y, freq=lambda: True)  # error
    gradhooks.GradientCheck(x, y, threshold="1e-7")  # error
    gradhooks.GradientCheck(x, y, sinks=print)  # error
    gradhooks.GradientCheck(x, y, sinks=["print"])  # error
    gradhooks.GradientCheck(x, y, expect={"*/kernel": "blokced"})  # error
    gradhooks.GradientCheck(x, y, expect=["*/kernel"])  # error
    gradhooks.GradientCheck(x, y, loss_fn="mse")  # error
    gradhooks.GradientCheck(x, y, log_dir=3)  # error
    gradhooks.GradientCheck(x, y, max_overhead="5%")  # error
    gradhooks.GradientCheck(x, y, verbose=None)  # error
    gradhooks.GradientCheck(x, y).report  # error # noqa: B018


def misuse_the_functions(model: Any) -> None:
    gradhooks.check_gradients(model)  # error
    gradhooks.check_gradients(model, x, y, on_failure="warn")  # error
    gradhooks.check_gradients(model, x, y, precision="float16")  # error
    gradhooks.check_gradients(model, x, y, step="3")  # error
    gradhooks.check_gradients(model, x, y).verdcit  # error # noqa: B018
    assert_gradients(model)  # error
    assert_gradients(model, x, call="call")  # error
    assert_gradients(model, x, step=3)  # error
    gradhooks.check_gradient(model, x, y)  # error


def misuse_a_function() -> None:
    gradhooks.check_function(np.sum)  # error
    gradhooks.check_function("sum", np.ones_like, x)  # error
    gradhooks.check_function(np.sum, np.ones_like, x, samples="3")  # error
    gradhooks.check_function(np.sum, np.ones_like, x, step=3)  # error


def misuse_an_oracle() -> None:
    FunctionOracle(np.sum, np.ones_like)  # error
    FunctionOracle("sum", np.ones_like, x[0])  # error
    oracle: Oracle = object()  # error
    oracle.gradient(x[0])  # error


def use(model: Any) -> None:
    check = gradhooks.GradientCheck(
        x,
        y,
        freq=lambda step: step > 3,
        on_failure="stop",
        log_dir=pathlib.Path("logs"),
        loss_fn=lambda model, x, y, sample_weight, training: model(x),
        expect={"*/kernel": "blocked"},
        sinks=[print],
    )
    assert_type(check.reports, list[gradhooks.CheckReport])
    report = gradhooks.check_gradients(model, x, y, samples=3, precision="float64")
    assert_type(report.verdict, gradhooks.Verdict)
    assert_type(assert_gradients(model, x, seed=1), gradhooks.CheckReport)
    function_report = gradhooks.check_function(np.sum, np.ones_like, {"w": x}, samples=None)
    assert_type(function_report, gradhooks.CheckReport)
    oracle: Oracle = FunctionOracle(lambda p: float(p @ p), lambda p: 2 * p, x[0])
    oracle.gradients(oracle.point())
