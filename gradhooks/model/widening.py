"""The border between what is promoted and what stays at its own precision."""

import contextlib

import keras

from gradhooks.model import keras_internals
from gradhooks.model.dtypes import NARROW, WIDE


class Switch:
    """Says whether what is traced now is promoted; it is at first.

    Args:
        backend: The backend module.
    """

    def __init__(self, backend):
        self.is_on = True
        self._backend = backend

    @contextlib.contextmanager
    def off(self):
        """While open, what is traced stays at its own precision."""
        before, self.is_on = self.is_on, False
        try:
            with self._backend.native_precision():
                yield
        finally:
            self.is_on = before


@contextlib.contextmanager
def keep_wide(backend, extent, note_narrow):
    """While open, float64 does not become narrower where the `Switch` that it yields is on.

    Args:
        backend: The backend module.
        extent: A `promotion.Extent`.
        note_narrow: See `promotion.promote`.
    """
    switch = Switch(backend)

    def is_left_out(source, target):
        is_narrowing = source == WIDE and target in NARROW
        return switch.is_on and extent.is_widening_casts and is_narrowing

    def is_on():
        return switch.is_on

    with (
        backend.intercept_casts(is_left_out),
        backend.widen_mixed_operands(is_on),
        backend.intercept_sources(is_on, extent.is_widening_sources, note_narrow),
    ):
        yield switch


def cast_around(call, narrow, floatx, switch, backend):
    """Wraps `call` of a layer or loss that stays native, with casts before and after it.

    Args:
        call: The method.
        narrow: The dtype at which it computes: floats from outside are cast to
            it, its outputs to float64.
        floatx: The user's `floatx`.
        switch: The `Switch` of the promotion.
        backend: The backend module.
    """

    def cast(value, source, target):
        if keras.ops.is_tensor(value) and keras_internals.dtype_of(value) == source:
            return backend.cast(value, target)
        return value

    def call_native(*args, **kwargs):
        with switch.off(), keras_internals.patch_floatx(floatx):
            args, kwargs = keras.tree.map_structure(lambda v: cast(v, WIDE, narrow), (args, kwargs))
            outputs = call(*args, **kwargs)
        return keras.tree.map_structure(lambda v: cast(v, narrow, WIDE), outputs)

    return call_native


def hide_logits(call):
    """Wraps `call` of a layer whose output is cast, in training, before the loss sees it.

    A loss looks for the logits behind a softmax or sigmoid. A cast hides them,
    and the loss is then computed, and clipped, from probabilities. Promoted
    there is no cast, but the loss must be the same one.
    """

    def hide(tensor):
        # A copy has neither the attribute nor the operation by which the loss finds the logits.
        return keras.ops.copy(tensor) if hasattr(tensor, "_keras_logits") else tensor

    def call_without_logits(*args, **kwargs):
        return keras.tree.map_structure(hide, call(*args, **kwargs))

    return call_without_logits
