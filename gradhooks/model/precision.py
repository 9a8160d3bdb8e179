"""The levels of precision: as much of a model in float64 as can be traced and run there."""

import dataclasses

from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.model import compiled_loss, failing_layer
from gradhooks.model.promotion import Extent
from gradhooks.reports.circumstances import Precision
from gradhooks.reports.errors import BadInputError, StateWriteError

# A lower level does not help, and code whose changes cannot be restored must not run again.
FINAL = (BadInputError, CannotRestoreError, StateWriteError)
# What cannot be promoted is left native, one thing after the other, each for one more trace. A free
# choice: a model with more than this many is better checked at its own precision as a whole.
_MOST_NATIVE = 8


def choose_precision(
    model, precision, trace_promoted, trace_native, is_exhausted, has_narrow_sources
):
    """Goes down from full promotion until a trace succeeds and runs.

    Args:
        model: The model.
        precision: `"auto"` goes down as far as necessary, `"float64"` stays on
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
        Exception: With `precision="float64"`, what the first level raised;
            errors in `FINAL` and lack of memory, from any level.
    """
    if precision == "model":
        trace_native()
        return Precision("model", note="precision='model': nothing was promoted")
    attempts = _Attempts(model, trace_promoted, is_exhausted)
    most_native = 0 if precision == "float64" else _MOST_NATIVE
    promoted = attempts.promote(has_narrow_sources, most_native)
    if promoted is None and precision == "float64":
        raise attempts.causes[0]
    if promoted is None and has_narrow_sources():
        # Code may insist on what it holds being narrow.
        promoted = attempts.promote(lambda: False, cause=attempts.causes[0])
    if promoted is None:
        # An operation may not take a widened cast. If this loses digits, the noise level shows it.
        promoted = attempts.attempt(Extent(is_widening_casts=False))
    if promoted is None:
        trace_native()
        return attempts.native_precision()
    return promoted


class _Attempts:
    """What has been tried and why it failed.

    Attributes:
        causes: Exceptions, one per attempt that failed.
        native: What had to stay at its own precision in the latest attempts:
            layers, the compiled loss.
    """

    def __init__(self, model, trace_promoted, is_exhausted):
        self._model = model
        self._trace = trace_promoted
        self._is_exhausted = is_exhausted
        self.causes = []
        self.native = ()

    def promote(self, needs_wide_sources, most_native=_MOST_NATIVE, cause=None):
        """Promotes, leaving one more layer native after every failure.

        Args:
            needs_wide_sources: Function, called after a failure: whether to
                widen sources, too. Those that meet nothing wide are better left
                as they are.
            most_native: How many layers may be left native.
            cause: Exception of a failure with nothing native, if there was one.

        Returns:
            The `Precision`; None if that does not help.
        """
        extent = Extent()
        while len(extent.native) <= most_native:
            self.native = extent.native
            if cause is None:
                promoted = self.attempt(extent)
                if promoted is not None:
                    return promoted
                cause = self.causes[-1]
            if not extent.is_widening_sources and needs_wide_sources():
                extent = dataclasses.replace(extent, is_widening_sources=True)
            else:
                failing = failing_layer.find_failing_layer(cause, self._model, extent.native)
                if failing is None:
                    return None
                extent = dataclasses.replace(extent, native=(*extent.native, failing))
            cause = None
        return None

    def attempt(self, extent):
        """Traces and runs once; returns the `Precision`, or None and adds to the causes."""
        try:
            narrow = self._trace(extent)
        except FINAL:
            raise
        except Exception as error:
            if self._is_exhausted(error):
                raise  # it has nothing to do with promotion, and is no reason for fewer digits
            self.causes.append(error)
            return None
        if not extent.native:
            return Precision("float64", narrow_operations=narrow)
        paths = self._native_paths()
        note = (
            f"{', '.join(paths)} cannot be evaluated in float64 and stayed at its own precision "
            f"({self._first_cause()})"
        )
        return Precision("partial", native_layers=paths, narrow_operations=narrow, note=note)

    def native_precision(self):
        """Returns the `Precision` of a model of which nothing could be promoted."""
        paths = self._native_paths()
        where = paths[0] if paths else "the model"
        note = (
            f"{where} cannot be evaluated in float64, so the model was checked at its own "
            f"precision ({self._first_cause()})"
        )
        return Precision("model", native_layers=paths, note=note)

    def _native_paths(self):
        return tuple(compiled_loss.path_of(owner) for owner in self.native)

    def _first_cause(self):
        return failing_layer.first_line(self.causes[0])
