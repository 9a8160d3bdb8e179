"""A layer alone: a model around it, whose loss is a random projection of its outputs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from gradhooks._types import LossFunction
from gradhooks.model import keras_internals, untouched
from gradhooks.reports.errors import BadInputError

# Any number: it keeps the projection's random stream apart from those of the samples, which
# start from the same seed.
_PROJECTION = 1


def build_bench(layer: Any, x: Any, call: Callable[..., Any], is_checking_inputs: bool) -> Any:
    """Returns a model around a layer, whose weights are the layer's weights and its inputs."""
    bench = Bench(layer, x, call, is_checking_inputs)
    bench.built = True
    if not layer.built:
        _build(layer, x, call)
    return bench


class Bench(keras.Model):
    """Calls a layer on variables that hold its inputs, so that they have a gradient."""

    def __init__(
        self, layer: Any, x: Any, call: Callable[..., Any], is_checking_inputs: bool
    ) -> None:
        super().__init__(name="bench")
        self.subject = layer
        self.function = call
        arrays = keras.tree.flatten(x)
        is_held = [is_checking_inputs and np.issubdtype(a.dtype, np.floating) for a in arrays]
        is_alone = sum(is_held) == 1
        held = []
        for number, array in enumerate(arrays):
            variable = None
            if is_held[number]:
                name = "inputs" if is_alone else f"inputs_{number}"
                variable = keras.Variable(array, dtype=array.dtype.name, name=name)
            held.append(variable)
        #: Per input its variable, or None.
        self.held = held

    def call(self, x: Any, training: bool = False) -> Any:
        """Calls the layer on the variables in place of the inputs that they hold."""
        held = iter(self.held)
        mixed = keras.tree.map_structure(lambda array: _choose(next(held), array), x)
        return self.function(self.subject, mixed, training)


def _choose(variable: Any, array: Any) -> Any:
    """Returns the variable's value as a tensor; the array itself if there is no variable."""
    return array if variable is None else keras.ops.copy(variable)


def _build(layer: Any, x: Any, call: Callable[..., Any]) -> None:
    """Builds a layer by calling it, as Keras does; variables that it has keep their values."""
    before = [(v, keras.ops.copy(v)) for v in layer.variables]
    try:
        with untouched.restore_keras_on_error():
            call(layer, keras.tree.map_structure(keras.ops.convert_to_tensor, x), False)
    except Exception:
        # A layer need not run eagerly, as long as the call has built it.
        if not all(inner.built for inner in keras_internals.layers_of(layer)):
            raise
    for variable, value in before:
        variable.assign(value)


def make_projection(seed: int) -> LossFunction:
    """Returns a loss: the sum of the outputs, each times a fixed standard normal number."""

    def project(model: Any, x: Any, y: Any, sample_weight: Any, training: bool) -> Any:
        outputs = []
        for output in keras.tree.flatten(model(x, training=training)):
            if keras.backend.is_float_dtype(keras_internals.dtype_of(output)):
                outputs.append(output)
        if not outputs or any(size is None for o in outputs for size in o.shape):
            raise BadInputError(
                "A layer must return tensors of real numbers, of known shape, to be projected to "
                "a scalar. "
                f"Received: outputs of shapes {[tuple(o.shape) for o in outputs]}. "
                "Expected at least one, without None. Try passing `loss_fn`."
            )
        # A new generator each time, and one order of outputs: every trace gets the same numbers.
        rng = np.random.default_rng((_PROJECTION, seed))
        total: Any = 0
        for output in outputs:
            dtype = keras_internals.dtype_of(output)
            factors = keras.ops.cast(rng.normal(size=output.shape), dtype)
            total += keras.ops.sum(output * factors)
        return total

    return project
