"""assert_gradients(): a gradient check for tests; and an oracle that needs no model."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from gradhooks import validation
from gradhooks._types import LossFunction, MismatchKind, PrecisionName
from gradhooks.arguments import name_function
from gradhooks.check import check_once
from gradhooks.checking.function_oracle import FunctionGradients, FunctionOracle
from gradhooks.checking.oracle import Oracle
from gradhooks.function import check_function
from gradhooks.model import batch as batches
from gradhooks.model import bench as benches
from gradhooks.model import keras_internals
from gradhooks.reports.actions import advice
from gradhooks.reports.errors import bad_input
from gradhooks.reports.message import assertion_message
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport

__all__ = [
    "FunctionGradients",
    "FunctionOracle",
    "Oracle",
    "assert_function_gradients",
    "assert_gradients",
]


def assert_gradients(
    layer_or_model: Any,
    x: Any,
    y: Any = None,
    *,
    call: Callable[[Any, Any, bool], Any] | None = None,
    inputs: bool = True,
    sample_weight: Any = None,
    batch_size: int | None = 32,
    samples: int = 64,
    threshold: float | None = None,
    loss_fn: LossFunction | None = None,
    training: bool = True,
    precision: PrecisionName = "auto",
    expect: Mapping[str, MismatchKind] = MappingProxyType({}),
    seed: int = 0,
) -> CheckReport:
    """Fails a test unless the gradients of a layer, or of a compiled model, are right.

    For a compiled model, or with a `loss_fn`, the check differentiates that
    loss with respect to the weights. For anything else, usually a single
    layer, it differentiates a fixed random projection of the outputs (the sum
    of each output times a standard normal number) with respect to the weights
    and the inputs, so that an error anywhere in the backward pass shows.

    The layer or model stays as it is, except that a layer that is not built
    yet is built for the shapes of the inputs.

    Args:
        layer_or_model: A `keras.layers.Layer` or a compiled `keras.Model`.
        x: Inputs, an array or a nested structure of arrays as the layer takes
            it. Only floating-point arrays are differentiated. Keep them away
            from kinks, such as a ReLU's zero.
        y: Targets, for a compiled model or `loss_fn` only.
        call: Function `call(layer, x, training) -> outputs` for a layer that
            takes more than one argument. Defaults to `layer(x)`, with
            `training` where the layer takes it.
        inputs: Whether to check the gradient with respect to the inputs.
            Defaults to True; ignored for a compiled model or with a `loss_fn`.
        sample_weight: Weights of the examples, for a compiled model or `loss_fn`.
        batch_size: Largest number of examples used. Defaults to 32. None takes
            arrays whole; they then need no common length.
        samples: Number of parameters and inputs sampled. Defaults to 64.
        threshold: Relative difference above which a comparison can fail.
            Defaults to that of the precision in use: 1e-7 in float64.
        loss_fn: Loss to check in place of the compiled one, or of the
            projection, `loss_fn(model, x, y, sample_weight, training) -> scalar`.
        training: Value of the `training` argument of the forward pass.
            Defaults to True.
        precision: `"auto"` (default), `"float64"` or `"model"`, see
            `check_gradients`.
        expect: Intended mismatches, see `check_gradients`. Inputs have the path
            `inputs`, or `inputs_0`, `inputs_1`, ... if there are several.
        seed: Seed of the sampling and of the projection. Defaults to 0.

    Returns:
        The `gradhooks.CheckReport`, whose verdict is PASS; INCONCLUSIVE with the
        reason `declared` where `expect` declares everything, and it does differ.

    Raises:
        AssertionError: If a gradient is wrong, or if the check is inconclusive;
            the message contains the whole report.
        BadInputError: For arguments, data or a model that cannot be checked.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from gradhooks.testing import assert_gradients
    >>> x = np.random.default_rng(0).normal(size=(4, 3))
    >>> report = assert_gradients(keras.layers.Dense(2, activation="tanh"), x)
    >>> sorted({c.path for c in report.comparisons if c.index is not None})
    ['dense/bias', 'dense/kernel', 'inputs']
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    _check_layer(layer_or_model)
    validation.check_callable("call", call, "Try call=lambda layer, x, training: layer(*x).")
    validation.check_bool("inputs", inputs)
    options = validation.Options(
        batch_size=batch_size, samples=samples, threshold=threshold, loss_fn=loss_fn,
        training=training, precision=precision, expect=expect, seed=seed,
    )  # fmt: skip
    if loss_fn is not None or getattr(layer_or_model, "compiled", False):
        return _require_pass(check_once(layer_or_model, (x, y, sample_weight, None), options))
    if y is not None or sample_weight is not None:
        raise bad_input(
            "A layer without a loss has no targets.",
            "y",
            type(y).__name__,
            "y=None and sample_weight=None",
            "Try compiling the model, or passing `loss_fn`.",
        )
    fixed = batches.take_batch(x, batch_size=options.batch_size)
    if inputs and fixed.not_finite():
        raise bad_input(
            "An input must be finite to be moved.",
            "x",
            f"entries not finite: {fixed.not_finite()}",
            "finite numbers, or inputs=False",
            "Try inputs=False to check the weights alone.",
        )
    if call is None:
        _check_inputs(layer_or_model)
    bench = benches.build_bench(layer_or_model, fixed.x, call or keras_internals.forward, inputs)
    told = [*options.list_arguments()]
    if call is not None:
        told.append(("call", name_function(call, "call")))
    if not inputs:
        told.append(("inputs", "False"))
    # The batch has been cut already.
    options = dataclasses.replace(
        options, batch_size=None, loss_fn=benches.make_projection(options.seed)
    )
    report = check_once(bench, (fixed.x, None, None, None), options)
    return _require_pass(_tell_of_layer(report, layer_or_model, told))


def _tell_of_layer(
    report: CheckReport, layer: Any, arguments: Sequence[tuple[str, str]]
) -> CheckReport:
    """Returns the report of a bench as one about the layer on it."""
    origin = dataclasses.replace(report.origin, model=layer.name)
    return dataclasses.replace(report, checked="layer", origin=origin, arguments=tuple(arguments))


def assert_function_gradients(
    loss: Callable[[Any], Any], gradient: Any, parameters: Any, **options: Any
) -> CheckReport:
    """Asserts that the hand-written gradient of a plain function is right.

    Args:
        loss: As for `gradhooks.check_function`.
        gradient: Likewise.
        parameters: Likewise.
        **options: `samples`, `threshold` and `seed`, likewise.

    Returns:
        The `gradhooks.CheckReport`, whose verdict is PASS.

    Raises:
        AssertionError: If a derivative is wrong, or if the check is inconclusive;
            the message contains the whole report.
        BadInputError: For what `gradhooks.check_function` refuses.

    Example:

    >>> import numpy as np
    >>> from gradhooks.testing import assert_function_gradients
    >>> at = np.array([0.3, 1.2])
    >>> assert_function_gradients(lambda p: np.sum(np.sin(p)), np.cos, at).verdict.name
    'PASS'
    """
    __tracebackhide__ = True
    return _require_pass(check_function(loss, gradient, parameters, **options))


def _check_inputs(layer: Any) -> None:
    """Raises a `BadInputError` for a layer that takes several inputs, each by an argument."""
    try:
        arguments = inspect.signature(layer.call).parameters.values()
    except (TypeError, ValueError):
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed: list[str] = []
    for a in arguments:
        is_needed = a.kind in kinds and a.default is inspect.Parameter.empty
        if is_needed and a.name not in ("training", "mask"):
            needed.append(a.name)
    if len(needed) > 1:
        passed = ", ".join(f"x[{k}]" for k in range(len(needed)))
        raise bad_input(
            f"`call` of {layer.name} takes {len(needed)} arguments: {', '.join(needed)}.",
            "call",
            None,
            "a function call(layer, x, training) -> outputs",
            f"Try x=[...], an array for each, and call=lambda layer, x, training: layer({passed}).",
        )


def _check_layer(subject: Any) -> None:
    """Raises a `BadInputError` for what is neither a layer nor a model."""
    if not isinstance(subject, keras.layers.Layer):
        raise bad_input(
            "Gradients belong to a layer or a model.",
            "layer_or_model",
            subject,
            "a keras.layers.Layer or a compiled keras.Model",
            "Try wrapping a function in `keras.layers.Lambda`.",
        )


def _require_pass(report: CheckReport) -> CheckReport:
    """Returns the report; raises an AssertionError unless it has passed.

    What differs as declared, and nothing else, is what the test expects.
    """
    __tracebackhide__ = True
    if report.verdict is Verdict.PASS or report.reason is Reason.DECLARED:
        return report
    if report.verdict is Verdict.FAIL:
        raise AssertionError(assertion_message(report))
    meaning = "\n".join(advice(report))
    raise AssertionError(
        "nothing could be decided about the gradients, so the test does not pass.\n"
        f"{meaning}\n\n{report}"
    )
