"""Float64 at trace time: while `promote` is open, tracing the live model gives a float64 graph.

Nothing is cloned and no weight is written. For the thread that traces, and as
long as the trace lasts, dtype policies, dtypes of variables, the dtype of the loss
and `floatx` are float64; the traced graph stays float64.
"""

import contextlib
import dataclasses
from typing import Any

import keras

from gradhooks.isolation import threads
from gradhooks.model import compiled_loss, keras_internals, promoted_draws
from gradhooks.model.dtypes import HALF, NARROW, WIDE, WIDE_COMPLEX, sum_wide
from gradhooks.model.widening import cast_around, hide_logits, keep_wide


@dataclasses.dataclass(frozen=True)
class Extent:
    """How far promotion goes.

    Args:
        native: Layers to leave at their own precision, with casts around them;
            at float32 where their own is half of that. The container of the
            compiled loss stands for everything that is computed in it.
        is_widening_casts: Whether casts from float64 to a narrower float are
            left out.
        is_widening_sources: Whether constants, and variables that the model
            does not know of, enter the graph in float64, too.
    """

    native: tuple[Any, ...] = ()
    is_widening_casts: bool = True
    is_widening_sources: bool = False


@contextlib.contextmanager
def promote(model, container, state, backend, extent, note_narrow):
    """While open, tracing `model` yields float64.

    Args:
        model: The live Keras model.
        container: Stand-in for its compiled loss, or None.
        state: Variables beside the trainable ones that the loss reads.
        backend: The backend module; it widens its own casts.
        extent: An `Extent`.
        note_narrow: Function, called when a narrow constant or a variable that
            the model does not know of enters the graph.
    """
    parts = _Parts(model, container, extent)
    floatx = keras.config.floatx()
    with contextlib.ExitStack() as stack:
        stack.enter_context(threads.take_turn())
        stack.enter_context(_open_float64(backend))
        switch = stack.enter_context(keep_wide(backend, extent, note_narrow))
        # The seed generators' dtypes must be known before the layers' policies are replaced.
        stack.enter_context(promoted_draws.patch_draws(model, floatx, switch, backend))
        stack.enter_context(keras_internals.patch_floatx(WIDE))
        stack.enter_context(_promote_layers(parts, floatx))
        stack.enter_context(
            _promote_variables(parts, [*keras_internals.trained_weights(model), *state])
        )
        stack.enter_context(_promote_losses(parts, container, floatx, switch, backend))
        stack.enter_context(_promote_constants(parts, backend))
        stack.enter_context(_sum_added_losses_wide(model))
        stack.enter_context(_repair(backend, is_promoted=True))
        # Last, around everything that the layers' `call` has become.
        stack.enter_context(_cast_around_native_layers(parts, floatx, switch, backend))
        yield


@contextlib.contextmanager
def suspend_promotion(backend):
    """While open, tracing a model leaves every precision as it is; float64 exists beside it.

    The model's code itself belongs into `backend.native_precision()`.
    """
    with _open_float64(backend), _repair(backend, is_promoted=False):
        yield


@contextlib.contextmanager
def _open_float64(backend):
    with backend.open_float64(), keras_internals.keep_float64():
        yield


def _repair(backend, is_promoted):
    return backend.repair_operations(keras_internals.backend_module, is_promoted)


class _Parts:
    """What of a model is promoted, and what stays native.

    Attributes:
        wide_layers: Layers that are promoted.
        native_layers: Layers at their own precision, with those inside of them.
        losses: Losses and metrics that are promoted.
        is_loss_native: Whether the compiled loss stays at its own precision.
        regularizers: The model's regularizers.
    """

    def __init__(self, model, container, extent):
        layers = keras_internals.layers_of(model)
        outermost = [owner for owner in extent.native if isinstance(owner, keras.layers.Layer)]
        native = set()
        for layer in outermost:
            native.update(id(inner) for inner in keras_internals.layers_of(layer))
        self.wide_layers, self.native_layers = [], []
        for layer in layers:
            if id(layer) in native:
                self.native_layers.append(layer)
            elif _is_promotable(layer):
                self.wide_layers.append(layer)
        self.is_loss_native = len(outermost) < len(extent.native)
        self.losses = []
        if not self.is_loss_native:
            self.losses += compiled_loss.losses_in(container)
            self.losses += compiled_loss.metrics_of(model, container)
        self.regularizers = keras_internals.regularizers_of(model)


def _is_promotable(layer):
    """Returns whether a layer computes floats, and holds them.

    Preprocessing layers may compute integers or strings, and quantized layers
    hold integers.
    """
    if getattr(layer, "quantization_mode", None) is not None:
        return False
    return keras.backend.is_float_dtype(layer.compute_dtype)


@contextlib.contextmanager
def _promote_layers(parts, floatx):
    """While open, layers compute in float64, native ones in float32 at least."""
    with threads.open_patcher() as patch:
        for layer in parts.wide_layers:
            if layer.compute_dtype != floatx:
                patch(layer, "call", hide_logits(layer.call))
            patch(layer, "_dtype_policy", keras.DTypePolicy(WIDE))
        for layer in parts.native_layers:
            if layer.compute_dtype in HALF:
                # An operation without a kernel in float64 may have none in half precision either,
                # and float32 keeps more digits.
                patch(layer, "_dtype_policy", keras.DTypePolicy("float32"))
        yield


@contextlib.contextmanager
def _promote_variables(parts, variables):
    """While open, variables are float64 or complex128, those of native layers at least float32."""
    native = set()
    for layer in parts.native_layers:
        native.update(id(variable) for variable in layer.variables)
    with threads.open_patcher() as patch:
        for variable in variables:
            dtype = variable._dtype
            if id(variable) in native:
                patch(variable, "_dtype", "float32" if dtype in HALF else dtype)
            elif keras.backend.is_float_dtype(dtype):
                patch(variable, "_dtype", WIDE)
            elif keras_internals.is_complex(variable):
                patch(variable, "_dtype", WIDE_COMPLEX)
        yield


@contextlib.contextmanager
def _promote_losses(parts, container, floatx, switch, backend):
    """While open, losses and metrics compute in float64, or the loss stays native."""
    with threads.open_patcher() as patch:
        for loss in parts.losses:
            patch(loss, "_dtype", WIDE)
        if parts.is_loss_native:
            call = cast_around(container.call, container.dtype, floatx, switch, backend)
            patch(container, "call", call)
        yield


@contextlib.contextmanager
def _promote_constants(parts, backend):
    """While open, tensors in attributes are float64, such as the factors of some regularizers."""
    owners = {}
    for owner in [*parts.regularizers, *parts.losses, *parts.wide_layers]:
        owners[id(owner)] = owner
    with threads.open_patcher() as patch:
        for owner in owners.values():
            for name, value in list(vars(owner).items()):
                if backend.is_constant(value) and keras_internals.dtype_of(value) in NARROW:
                    patch(owner, name, keras.ops.cast(value, WIDE))
        yield


@contextlib.contextmanager
def _sum_added_losses_wide(model):
    """While open, what layers add to the loss is summed in float64."""
    with threads.open_patcher() as patch:
        patch(model, "_aggregate_additional_loss", sum_wide)
        yield


@contextlib.contextmanager
def _cast_around_native_layers(parts, floatx, switch, backend):
    """While open, what native layers take is cast down, and what they return is cast up again."""
    with threads.open_patcher() as patch:
        for layer in parts.native_layers:
            call = cast_around(layer.call, layer.compute_dtype, floatx, switch, backend)
            patch(layer, "call", call)
        yield
