"""assert_gradients(): a gradient check for the test suite of whoever writes layers, losses and models."""

from types import MappingProxyType

import numpy as np

from gradhooks import validation
from gradhooks.check import check_gradients
from gradhooks.model import batch as batches
from gradhooks.model import keras_internals, untouched
from gradhooks.reports.errors import BadInputError, bad_input
from gradhooks.reports.message import advice, failure_message
from gradhooks.reports.reasons import Verdict

# The projection is drawn apart from the samples, which come from the same seed.
_PROJECTION = 1


def assert_gradients(
    layer_or_model,
    x,
    y=None,
    *,
    call=None,
    inputs=True,
    sample_weight=None,
    batch_size=32,
    samples=64,
    threshold=None,
    loss_fn=None,
    training=True,
    precision="auto",
    expect=MappingProxyType({}),
    seed=0,
):
    """Fails a test unless the gradients of a layer, or of a compiled model, are right.

    A compiled model is checked by its own loss, or by `loss_fn`, in its
    weights. Anything else, a single layer above all, is checked in its weights
    and in its inputs: the loss is then a fixed random projection of the
    outputs, the sum of each output times a standard normal number, so that an
    error anywhere in the backward pass shows.

    Nothing of the layer or model is changed; a layer that is not built yet is
    built for the shapes of the inputs.

    Args:
        layer_or_model: A `keras.layers.Layer` or a compiled `keras.Model`.
        x: Inputs, an array or a nested structure of arrays as the layer takes
            it. Floating-point arrays are differentiated with respect to,
            integers are not. Keep them away from kinks, such as a ReLU's zero.
        y: Targets, for a compiled model or `loss_fn` only.
        call: Function `call(layer, x, training) -> outputs` for a layer that
            takes more than one argument. Defaults to `layer(x)`, with
            `training` where the layer takes it.
        inputs: Whether to check the gradient with respect to the inputs.
            Defaults to True; always False where a compiled loss or a `loss_fn`
            is checked.
        sample_weight: Weights of the examples, for a compiled model or `loss_fn`.
        batch_size: Largest number of examples used. Defaults to 32. None takes
            arrays as they are, which need no common length then.
        samples: Number of parameters and inputs sampled. Defaults to 64.
        threshold: Relative difference above which a comparison can fail.
            Defaults to that of the precision in use: 1e-7 in float64.
        loss_fn: Loss to check in place of the compiled one, or of the
            projection, `loss_fn(model, x, y, sample_weight, training) -> scalar`.
        training: Value of the `training` argument of the forward pass.
        precision: `"auto"`, `"float64"` or `"model"`, see `check_gradients`.
        expect: Mismatches that are meant, see `check_gradients`. Inputs have
            the paths `inputs`, or `inputs_0`, `inputs_1` ... where there are several.
        seed: Seed of the sampling and of the projection.

    Returns:
        The `gradhooks.CheckReport`, whose verdict is PASS.

    Raises:
        AssertionError: If a gradient is wrong, or if nothing could be decided;
            the message holds the whole report.
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
    import keras

    if not isinstance(layer_or_model, keras.layers.Layer):
        raise bad_input(
            "Gradients belong to a layer or a model.",
            "layer_or_model",
            layer_or_model,
            "a keras.layers.Layer or a compiled keras.Model",
            "Try wrapping a function in `keras.layers.Lambda`.",
        )
    validation.optional_callable("call", call, "Try call=lambda layer, x, training: layer(*x).")
    validation.flag("inputs", inputs)
    validation.natural_int("seed", seed, "Try seed=0.")
    options = {
        "samples": samples,
        "threshold": threshold,
        "training": training,
        "precision": precision,
        "expect": expect,
        "seed": seed,
        "batch_size": batch_size,
    }
    if loss_fn is not None or getattr(layer_or_model, "compiled", False):
        return _asserted(
            check_gradients(
                layer_or_model, x, y, sample_weight=sample_weight, loss_fn=loss_fn, **options
            )
        )
    if y is not None or sample_weight is not None:
        raise bad_input(
            "A layer without a loss has no targets.",
            "y",
            type(y).__name__,
            "y=None and sample_weight=None",
            "Try compiling the model, or passing `loss_fn`.",
        )
    fixed = batches.take_batch(x, batch_size=validation.batch_size(batch_size))
    if inputs and fixed.not_finite():
        raise bad_input(
            "An input must be finite to be moved.",
            "x",
            f"entries not finite: {fixed.not_finite()}",
            "finite numbers, or inputs=False",
            "Try inputs=False to check the weights alone.",
        )
    bench = _bench(layer_or_model, fixed.x, call or _called, inputs)
    return _asserted(
        check_gradients(bench, fixed.x, loss_fn=_projection(seed), **options | {"batch_size": None})
    )


def _asserted(report):
    if report.verdict is Verdict.PASS:
        return report
    if report.verdict is Verdict.FAIL:
        raise AssertionError(f"{failure_message(report)}\n\n{report}")
    meaning = "\n".join(advice(report))
    raise AssertionError(
        f"nothing could be decided about the gradients, so nothing is proved.\n{meaning}\n\n{report}"
    )


def _called(layer, x, training):
    return keras_internals.forward(layer, x, training)


def _bench(layer, x, call, is_checking_inputs):
    """A model around the layer, whose weights are the layer's weights and the inputs."""
    import keras

    class Bench(keras.Model):
        """Calls a layer on what it holds in variables, and on what cannot be differentiated."""

        def __init__(self):
            super().__init__(name="bench")
            self.subject = layer
            arrays = keras.tree.flatten(x)
            held = [is_checking_inputs and np.issubdtype(a.dtype, np.floating) for a in arrays]
            self.held = [
                keras.Variable(
                    a, dtype=a.dtype.name, name=f"inputs_{i}" if sum(held) > 1 else "inputs"
                )
                if h
                else None
                for i, (a, h) in enumerate(zip(arrays, held, strict=True))
            ]

        def call(self, x, training=False):
            own = iter(self.held)
            mixed = keras.tree.map_structure(lambda a: _first_of(next(own), a), x)
            return call(layer, mixed, training)

    bench = Bench()
    bench.built = True
    if not layer.built:
        _build(layer, x, call)
    return bench


def _build(layer, x, call):
    """Builds a layer as Keras does, by calling it; what it has beside weights stays as it is."""
    import keras

    before = [(v, keras.ops.copy(v)) for v in layer.variables]
    try:
        with untouched.whole():
            call(layer, keras.tree.map_structure(keras.ops.convert_to_tensor, x), False)
    except Exception:
        # It need not run eagerly, as long as it is built.
        if not all(inner.built for inner in keras_internals.layers_of(layer)):
            raise
    for variable, value in before:
        variable.assign(value)


def _first_of(variable, array):
    import keras

    # A tensor, as a layer gets it in training, and no variable.
    return array if variable is None else keras.ops.copy(variable)


def _projection(seed):
    """Returns a loss function: the outputs times fixed random numbers, summed up."""
    import keras

    def projected(model, x, y, sample_weight, training):
        outputs = keras.tree.flatten(model(x, training=training))
        outputs = [o for o in outputs if keras.backend.is_float_dtype(keras_internals.dtype_of(o))]
        if not outputs or any(size is None for o in outputs for size in o.shape):
            raise BadInputError(
                "A layer must return tensors of real numbers, of known shape, to be projected to a scalar. "
                f"Received: outputs of shapes {[tuple(o.shape) for o in outputs]}. "
                "Expected at least one, without None. Try passing `loss_fn`."
            )
        rng = np.random.default_rng((_PROJECTION, seed))
        # Drawn per output and in its order, so that every trace gets the same numbers.
        numbers = [
            keras.ops.cast(rng.normal(size=o.shape), keras_internals.dtype_of(o)) for o in outputs
        ]
        return sum(keras.ops.sum(o * n) for o, n in zip(outputs, numbers, strict=True))

    return projected
