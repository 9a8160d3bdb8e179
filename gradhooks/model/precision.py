"""The precision ladder: as much of a model in float64 as can be traced and run there."""

import dataclasses

from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.model import failing_layer, keras_internals
from gradhooks.model.promotion import Extent
from gradhooks.reports.errors import BadInputError, StateWriteError
from gradhooks.reports.records import Precision

# No lower level helps, and nobody is to run what cannot be put back.
FINAL = (BadInputError, CannotRestoreError, StateWriteError)
# What cannot be promoted is left native and the trace tried again; more than this many are a lost
# cause.
_MOST_NATIVE = 8


def choose_precision(
    model, precision, trace_promoted, trace_native, is_exhausted, has_narrow_sources
):
    """Climbs down from full promotion until a trace succeeds and runs.

    Args:
        model: The model.
        precision: `"auto"` goes down as far as it must, `"float64"` stays on
            the first level, `"model"` begins on the last.
        trace_promoted: Function `Extent -> names of narrow operations` that
            traces and runs once, or raises.
        trace_native: Function that traces with nothing promoted.
        is_exhausted: Function `error -> bool`: whether memory ran out.
        has_narrow_sources: Function: whether anything narrow that could be
            widened has entered a promoted trace.

    Returns:
        The `Precision` of the last trace.

    Raises:
        Exception: Whatever the first level raised, where it must be that one;
            want of memory and writes to state, from any.
    """
    if precision == "model":
        trace_native()
        return Precision("model", note="precision='model': nothing was promoted")
    descent = _Descent(model, trace_promoted, is_exhausted)
    promoted = descent.with_native(
        has_narrow_sources, 0 if precision == "float64" else _MOST_NATIVE
    )
    if promoted is None and precision == "float64":
        raise descent.causes[0]
    if promoted is None and has_narrow_sources():
        # Code may insist on what it holds being narrow.
        promoted = descent.with_native(lambda: False, cause=descent.causes[0])
    if promoted is None:
        # A widened cast may be what an operation cannot take; the noise will tell what is left of
        # the digits.
        promoted = descent.attempt(Extent(is_widening_casts=False))
    if promoted is None:
        trace_native()
        return descent.bottom()
    return promoted


class _Descent:
    """What has been tried and why it failed.

    Attributes:
        causes: Exceptions, one per attempt that failed.
        native: What had to stay at its own precision, so far as was tried last: layers, the compiled loss.
    """

    def __init__(self, model, trace_promoted, is_exhausted):
        self._model, self._trace, self._is_exhausted = model, trace_promoted, is_exhausted
        self.causes, self.native = [], ()

    def with_native(self, is_to_widen_sources, most=_MOST_NATIVE, cause=None):
        """Promotes, leaving one thing more native after every failure; None if that does not help.

        Args:
            is_to_widen_sources: Function, asked after a failure: whether to
                widen sources, too. What meets nothing wide had better stay as it is.
            most: How many things may be left native.
            cause: Exception of a failure with nothing native, if there was one.
        """
        extent = Extent()
        while len(extent.native) <= most:
            self.native = extent.native
            promoted = None if cause else self.attempt(extent)
            if promoted is not None:
                return promoted
            cause, raised = None, cause or self.causes[-1]
            if not extent.is_widening_sources and is_to_widen_sources():
                extent = dataclasses.replace(extent, is_widening_sources=True)
                continue
            culprit = failing_layer.failing_layer(raised, self._model, extent.native)
            if culprit is None:
                return None
            extent = dataclasses.replace(extent, native=(*extent.native, culprit))
        return None

    def attempt(self, extent):
        """Traces and runs once; returns the `Precision`, or None and a cause more."""
        try:
            narrow = self._trace(extent)
        except FINAL:
            raise
        except Exception as error:
            if self._is_exhausted(error):
                raise  # nothing to do with promotion, and no reason to settle for fewer digits
            self.causes.append(error)
            return None
        if not extent.native:
            return Precision("float64", narrow_operations=narrow)
        paths = self._paths()
        note = f"{', '.join(paths)} cannot be evaluated in float64 and stayed at its own precision ({self._cause()})"
        return Precision("partial", native_layers=paths, narrow_operations=narrow, note=note)

    def bottom(self):
        """The `Precision` of a model of which nothing could be promoted."""
        where = self._paths()[0] if self.native else "the model"
        note = f"{where} cannot be evaluated in float64, so the model was checked at its own precision ({self._cause()})"
        return Precision("model", native_layers=self._paths(), note=note)

    def _paths(self):
        return tuple(keras_internals.path_of(owner) for owner in self.native)

    def _cause(self):
        return failing_layer.first_line(self.causes[0])
