"""The regularizers of a model: noting what they return, and switching them off."""

import contextlib

import keras

from gradhooks.model import keras_internals


class PenaltySwitch:
    """Wraps a model's regularizers: it notes what they return, or makes them return zero.

    Args:
        model: The Keras model.
        patch: A `threads.Patcher`, with which the regularizers are replaced.
    """

    def __init__(self, model, patch):
        self._is_on = True
        self._weight_penalties = []
        self._activity_penalties = []
        self._is_activity_next = False
        self._layers = keras_internals.layers_of(model)
        for variable in keras_internals.variables_with_regularizer(model):
            wrapped = self._wrap(variable.regularizer, self._weight_penalties.append)
            patch(variable, "_regularizer", wrapped)
        for layer in self._layers:
            if getattr(layer, "activity_regularizer", None) is not None:
                wrapped = self._wrap(layer.activity_regularizer, self._expect_activity)
                patch(layer, "activity_regularizer", wrapped)

    def _wrap(self, regularizer, note):
        def regularize(value):
            if not self._is_on:
                return keras.ops.zeros((), dtype=keras_internals.dtype_of(value))
            penalty = regularizer(value)
            note(penalty)
            return penalty

        return regularize

    def _expect_activity(self, _):
        # The layer scales the value before it adds it, so what counts is the next loss that is
        # added.
        self._is_activity_next = True

    def note(self, loss):
        """Must be called with every loss that a layer adds."""
        if self._is_activity_next:
            self._activity_penalties.append(loss)
            self._is_activity_next = False

    def penalty(self):
        """Returns the sum of what the regularizers returned, in `floatx`."""
        penalties = [*self._weight_penalties, *self._activity_penalties]
        if not penalties:
            return keras.ops.zeros(())
        floatx = keras.config.floatx()
        return sum(keras.ops.cast(keras.ops.sum(p), floatx) for p in penalties)

    @contextlib.contextmanager
    def off(self, scope):
        """While open, regularizers return zero, and activity penalties count as zero.

        Args:
            scope: The `keras.StatelessScope` that collects added losses.
        """
        zeros = {id(p): keras.ops.zeros_like(p) for p in self._activity_penalties}
        for layer in self._layers:
            # Keras knows by id which of the losses in the scope a layer has added.
            for loss_id in list(layer._loss_ids):
                if loss_id in zeros:
                    layer._loss_ids.add(id(zeros[loss_id]))
        scope.losses[:] = [zeros.get(id(loss), loss) for loss in scope.losses]
        self._is_on = False
        try:
            yield
        finally:
            self._is_on = True
