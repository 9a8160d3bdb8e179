"""Float64 at trace time: while `promoted` is open, tracing the live model gives a float64 graph.

Nothing is cloned and no weight is written. Dtype policies, variable dtypes, the
loss' dtype and `floatx` say float64 to the thread that traces, for as long as the
trace lasts; the traced graph stays float64.
"""

import contextlib
import dataclasses
from typing import Any

from gradhooks.isolation import threads
from gradhooks.model import keras_internals

WIDE = "float64"
_WIDE_COMPLEX = "complex128"
_NARROW = ("float16", "bfloat16", "float32", "float8_e4m3fn", "float8_e5m2")
_HALF = ("float16", "bfloat16")
_DRAWS = ("normal", "uniform", "truncated_normal", "gamma", "beta", "binomial")


@dataclasses.dataclass(frozen=True)
class Extent:
    """How far promotion goes.

    Args:
        native: Layers to leave at their own precision, with casts around them;
            at float32 where their own is half of that. The container of the
            compiled loss stands for what is computed in it.
        is_widening_casts: Whether casts from float64 to a narrower float are
            left out.
        is_widening_sources: Whether constants and variables that the model
            does not know of enter the graph in float64, too.
    """

    native: tuple[Any, ...] = ()
    is_widening_casts: bool = True
    is_widening_sources: bool = False


@contextlib.contextmanager
def promote(model, container, state, backend, extent, note_narrow):
    """Opens a stretch of time in which tracing `model` yields float64.

    Args:
        model: The live Keras model.
        container: Stand-in for its compiled loss, or None.
        state: Variables beside the trainable ones that the loss reads.
        backend: The backend module; it widens its own casts.
        extent: An `Extent`.
        note_narrow: Function, called when a narrow constant or a variable that
            the model does not know of enters the graph.
    """
    import keras

    layers = keras_internals.layers_of(model)
    losses = keras_internals.losses_in(container) + keras_internals.metrics_of(model, container)
    native_layers = [owner for owner in extent.native if isinstance(owner, keras.layers.Layer)]
    native = {id(inner) for layer in native_layers for inner in keras_internals.layers_of(layer)}
    is_loss_native = len(native_layers) < len(extent.native)
    wide_layers = [layer for layer in layers if id(layer) not in native and _is_promotable(layer)]
    native_variables = {id(v) for layer in layers if id(layer) in native for v in layer.variables}
    draw_dtypes = _draw_dtypes(layers)
    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        native_floatx = keras.config.floatx()
        switch = stack.enter_context(_widened(backend, extent, note_narrow))
        draw = _drawn_by_xla(backend) if keras_internals.is_xla(model) else _drawn_directly
        _promote_draws(put, draw_dtypes, native_floatx, switch, draw)
        stack.enter_context(keras_internals.answer_floatx(WIDE))
        for layer in wide_layers:
            if layer.compute_dtype != native_floatx:
                put(layer, "call", _without_logits(layer.call))
            put(layer, "_dtype_policy", keras.DTypePolicy(WIDE))
        for layer in layers:
            if id(layer) in native and layer.compute_dtype in _HALF:
                # What has no operation in float64 may have none in half precision either, and
                # digits are welcome.
                put(layer, "_dtype_policy", keras.DTypePolicy("float32"))
        for variable in [*model.trainable_variables, *state]:
            if id(variable) in native_variables:
                put(variable, "_dtype", "float32" if variable._dtype in _HALF else variable._dtype)
            elif keras.backend.is_float_dtype(variable._dtype):
                put(variable, "_dtype", WIDE)
            elif keras_internals.is_complex(variable):
                put(variable, "_dtype", _WIDE_COMPLEX)
        for loss in () if is_loss_native else losses:
            put(loss, "_dtype", WIDE)
        if is_loss_native:
            put(
                container,
                "call",
                _with_casts(container.call, container.dtype, native_floatx, switch, backend),
            )
            losses = []
        for owner in {
            id(o): o for o in [*keras_internals.regularizers_of(model), *losses, *wide_layers]
        }.values():
            _promote_constants(put, owner, backend)
        put(model, "_aggregate_additional_loss", wide_sum)
        # Keras takes the sign from the bits of a float32, which a widened cast no longer gives.
        put(keras_internals.backend_module("numpy"), "signbit", _signbit)
        _take_groups_apart(put)
        for layer in layers:
            if id(layer) in native:
                put(
                    layer,
                    "call",
                    _with_casts(layer.call, layer.compute_dtype, native_floatx, switch, backend),
                )
        yield


@contextlib.contextmanager
def suspend_promotion():
    """Opens a stretch of time in which tracing a model leaves every precision as it is."""
    with contextlib.ExitStack() as stack:
        _take_groups_apart(threads.Patcher(stack))
        yield


def _promote_constants(put, owner, backend):
    """Widens the tensors that an object keeps as attributes: some regularizers of Keras hold their factor so."""
    import keras

    for name, value in list(vars(owner).items()):
        if backend.is_constant(value) and keras_internals.dtype_of(value) in _NARROW:
            put(owner, name, keras.ops.cast(value, WIDE))


def _take_groups_apart(put):
    """Computes convolutions in groups one after the other: TensorFlow cannot differentiate them at once in float64.

    With one channel a group they are the depthwise convolution, which it can; that has one stride and two dimensions.
    In three dimensions it can do nothing in groups at any precision, unless it first rewrites the graph to fuse them.
    """
    import keras
    from keras import ops

    module = keras_internals.backend_module("nn")
    convolve = keras_internals.require(module, "conv", "check convolutions in groups")

    def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
        axis = 1 if (data_format or keras.config.image_data_format()) == "channels_first" else -1
        groups = inputs.shape[axis] // kernel.shape[-2]
        strides, dilation_rate = (
            n if isinstance(n, int) else tuple(n) for n in (strides, dilation_rate)
        )
        options = strides, padding, data_format, dilation_rate
        is_volume = len(inputs.shape) == 5
        if groups == 1 or (keras_internals.dtype_of(kernel) != WIDE and not is_volume):
            return convolve(inputs, kernel, *options)
        has_one_stride = isinstance(strides, int) or len(set(strides)) == 1
        if kernel.shape[-2] == 1 and not is_volume and has_one_stride:
            apart = ops.reshape(kernel, (*kernel.shape[:-2], groups, kernel.shape[-1] // groups))
            return module.depthwise_conv(inputs, apart, *options)
        pairs = zip(ops.split(inputs, groups, axis), ops.split(kernel, groups, -1), strict=True)
        return ops.concatenate([convolve(*pair, *options) for pair in pairs], axis)

    put(module, "conv", conv)


def _signbit(x):
    from keras import ops

    x = ops.convert_to_tensor(x)
    return ops.logical_or(ops.less(x, 0), ops.logical_and(ops.equal(x, 0), ops.less(1 / x, 0)))


def wide_sum(loss):
    """Adds up what a layer added to the loss, at whatever precision, in float64."""
    import keras

    return keras.ops.sum(keras.ops.cast(loss, WIDE))


def _is_promotable(layer):
    """Preprocessing layers may compute integers or strings, quantized layers hold integers: both stay as they are."""
    import keras

    if getattr(layer, "quantization_mode", None) is not None:
        return False
    return keras.backend.is_float_dtype(layer.compute_dtype)


def _draw_dtypes(layers):
    """id of a seed generator -> dtype at which its layer draws in training."""
    return {
        id(g): layer.compute_dtype
        for layer in layers
        for g in keras_internals.seed_generators(layer)
    }


def _drawn_directly(draw, seed):
    return draw(seed)


def _drawn_by_xla(backend):
    """XLA draws other numbers from the same seed than TensorFlow; training with XLA sees those."""

    def drawn(draw, seed):
        # The seed advances out here: a compiled function must not leave its tensors in a generator.
        return backend.call_with_xla(draw, keras_internals.draw_seed(seed))

    return drawn


def _promote_draws(put, draw_dtypes, floatx, switch, draw_from):
    """Draws at the native dtype and widens: from one seed, a float64 draw gives other numbers."""
    from keras import ops

    module = keras_internals.backend_module("random")

    def native_dtype(seed):
        return draw_dtypes.get(id(seed), floatx)

    def same_draw(draw):
        def drawn(*args, **kwargs):
            with switch.off():
                seed, dtype = kwargs.pop("seed", None), kwargs.pop("dtype", None)
                # Without a dtype a draw follows floatx, whatever its layer computes in; float64 is
                # what was promoted.
                native = floatx if dtype is None else native_dtype(seed) if dtype == WIDE else dtype
                numbers = draw_from(lambda s: draw(*args, **kwargs, dtype=native, seed=s), seed)
                return ops.cast(numbers, dtype or WIDE)

        return drawn

    draw_dropout = module.dropout

    def same_dropout(inputs, rate, noise_shape=None, seed=None):
        if keras_internals.dtype_of(inputs) != WIDE:
            return draw_dropout(inputs, rate, noise_shape, seed)
        with switch.off():
            ones = ops.ones(ops.shape(inputs), dtype=native_dtype(seed))
            kept = ops.not_equal(
                draw_from(lambda s: draw_dropout(ones, rate, noise_shape, s), seed), 0
            )
        return ops.where(kept, inputs / (1 - rate), ops.zeros_like(inputs))

    draw_seed = module.draw_seed
    put(module, "draw_seed", lambda seed: seed if ops.is_tensor(seed) else draw_seed(seed))
    for name in _DRAWS:
        put(
            module,
            name,
            same_draw(keras_internals.require(module, name, "draw the same noise as training")),
        )
    put(module, "dropout", same_dropout)


def _without_logits(call):
    """Wraps `call` of a layer whose output is cast before the loss sees it in training.

    A loss looks for the logits behind a softmax or sigmoid, which a cast hides:
    it is then computed, and clipped, from probabilities. Promoted there is no
    cast, but the loss must be the same one.
    """
    import keras

    def forget(tensor):
        # A copy has neither the attribute nor the operation by which the loss would know.
        return keras.ops.copy(tensor) if hasattr(tensor, "_keras_logits") else tensor

    return lambda *args, **kwargs: keras.tree.map_structure(forget, call(*args, **kwargs))


@contextlib.contextmanager
def _widened(backend, extent, note_narrow):
    """Keeps float64 from becoming narrower while the switch that it yields is on."""
    switch = _Switch(True)

    def is_left_out(source, target):
        return switch.is_on and extent.is_widening_casts and source == WIDE and target in _NARROW

    with (
        backend.intercept_casts(is_left_out),
        backend.widen_mixed_operands(lambda: switch.is_on),
        backend.intercept_sources(lambda: switch.is_on, extent.is_widening_sources, note_narrow),
    ):
        yield switch


class _Switch:
    def __init__(self, is_on):
        self.is_on = is_on

    @contextlib.contextmanager
    def off(self):
        """Keeps the switch off for a while."""
        before, self.is_on = self.is_on, False
        try:
            yield
        finally:
            self.is_on = before


def _with_casts(call, narrow, floatx, switch, backend):
    """Wraps `call` of a layer or loss that stays native: its inputs are cast down, its outputs up again."""
    import keras

    def cast(value, source, target):
        if keras.ops.is_tensor(value) and keras_internals.dtype_of(value) == source:
            return backend.cast(value, target)
        return value

    def native_call(*args, **kwargs):
        with switch.off(), keras_internals.answer_floatx(floatx):
            args, kwargs = keras.tree.map_structure(lambda v: cast(v, WIDE, narrow), (args, kwargs))
            outputs = call(*args, **kwargs)
        return keras.tree.map_structure(lambda v: cast(v, narrow, WIDE), outputs)

    return native_call


def widen(value):
    """Returns a tensor of floats in float64, complex numbers as wide, any other as it is."""
    import keras

    dtype = keras_internals.dtype_of(value)
    if dtype.startswith("complex"):
        return keras.ops.cast(value, _WIDE_COMPLEX)
    return keras.ops.cast(value, WIDE) if keras.backend.is_float_dtype(dtype) else value
