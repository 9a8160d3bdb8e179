"""The precision ladder: as much of a model in float64 as can be traced and run there."""

from gradhooks.errors import BadInputError, StateWriteError
from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.model import blame, keras_internals
from gradhooks.numerics.records import Precision

# No lower rung helps, and nobody is to run what cannot be put back.
_FINAL = (BadInputError, CannotRestoreError, StateWriteError)
# A layer that cannot be promoted is left native and the trace tried again; more than this many are a lost cause.
_MOST_NATIVE_LAYERS = 8


def descend(model, precision, trace_promoted, trace_native, is_exhausted):
    """Climbs down from full promotion until a trace succeeds and runs.

    Args:
        model: The model.
        precision: `"auto"` goes down as far as it must, `"float64"` stays on
            the first rung, `"model"` begins on the last.
        trace_promoted: Function `(native layers, is_widening) -> names of
            narrow operations` that traces and runs once, or raises.
        trace_native: Function that traces with nothing promoted.
        is_exhausted: Function `error -> bool`: whether memory ran out.

    Returns:
        The `Precision` of the last trace.

    Raises:
        Exception: Whatever the first rung raised, where it must be that one;
            want of memory and writes to state, from any.
    """
    if precision == "model":
        trace_native()
        return Precision("model", note="precision='model': nothing was promoted")
    descent = _Descent(model, trace_promoted, is_exhausted)
    if precision == "float64":
        promoted = descent.attempt([])
        if promoted is None:
            raise descent.causes[0]
        return promoted
    # A widened cast may be what an operation cannot take; the noise will tell what is left of the digits.
    promoted = descent.with_native_layers() or descent.attempt([], is_widening=False)
    if promoted is None:
        trace_native()
        return descent.bottom()
    return promoted


class _Descent:
    """What has been tried and why it failed.

    Attributes:
        causes: Exceptions, one per attempt that failed.
        native: Layers that had to stay at their own precision.
    """

    def __init__(self, model, trace_promoted, is_exhausted):
        self._model, self._trace, self._is_exhausted = model, trace_promoted, is_exhausted
        self.causes, self.native = [], []

    def with_native_layers(self):
        """Promotes, leaving one more layer native after every failure; None if that does not help."""
        while len(self.native) <= _MOST_NATIVE_LAYERS:
            promoted = self.attempt(self.native)
            if promoted is not None:
                return promoted
            culprit = blame.culprit(self.causes[-1], self._model, self.native)
            if culprit is None:
                return None
            self.native.append(culprit)
        return None

    def attempt(self, native, is_widening=True):
        """Traces and runs once; returns the `Precision`, or None and a cause more."""
        try:
            narrow = self._trace(native, is_widening)
        except _FINAL:
            raise
        except Exception as error:
            if self._is_exhausted(error):
                raise  # nothing to do with promotion, and no reason to settle for fewer digits
            self.causes.append(error)
            return None
        if not native:
            return Precision("float64", narrow_operations=narrow)
        paths = self._paths()
        note = f"{', '.join(paths)} cannot be evaluated in float64 and stayed at its own precision ({self._cause()})"
        return Precision("partial", native_layers=paths, narrow_operations=narrow, note=note)

    def bottom(self):
        """The `Precision` of a model of which nothing could be promoted."""
        where = keras_internals.path_of(self.native[0]) if self.native else "the model"
        note = (
            f"{where} cannot be evaluated in float64, so the model was checked at its own precision ({self._cause()})"
        )
        return Precision("model", native_layers=self._paths(), note=note)

    def _paths(self):
        return tuple(keras_internals.path_of(layer) for layer in self.native)

    def _cause(self):
        return blame.first_line(self.causes[0])
