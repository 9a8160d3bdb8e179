"""From a model to compiled programs: tries of one precision after the other, until one runs."""

import dataclasses

import numpy as np

from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.model import distribution, eager_code, keras_internals, scopes
from gradhooks.model.precision import FINAL, choose_precision
from gradhooks.reports.errors import (
    EagerCodeError,
    GradientFailsError,
    RecordingError,
    StateWriteError,
)


@dataclasses.dataclass(frozen=True)
class LossGradients:
    """The analytic gradient at one point.

    Args:
        terms: float64, shape (P,), per term: `"total"`, and `"data"` and
            `"penalty"` where the model has a penalty.
        connected: bool, shape (V,). Whether backpropagation reaches the
            variable at all.
    """

    terms: dict
    connected: np.ndarray


class Compilation:
    """Traces a model and compiles its losses and its gradient.

    Args:
        backend: The backend module.
        objective: What to evaluate, an `objective.Objective`.
        tracer: Its `tracing.Tracer`.
        paths: Paths of the trainable variables.
        is_sharing: Whether moving single parameters shares the computation of
            what does not depend on them.
        max_memory: Bytes that evaluations may take; None for no limit.

    Attributes:
        backend: As given.
        gradients: The gradient as a program; None while there is none.
        losses: The losses as a program.
        promote: Function that makes the context of the latest trace; None at
            the model's own precision.
        extent: The `promotion.Extent` of the latest promoted trace.
        global_draws: Names of the functions of global random generators that the
            model's code called in the latest trace.
        traces: How often the model was traced.
        notes: Remarks for people, a tuple of sentences.
    """

    def __init__(self, backend, objective, tracer, paths, is_sharing, max_memory=None):
        self.backend = backend
        self._objective = objective
        self._tracer = tracer
        self._paths = paths
        self._is_sharing = is_sharing
        self._max_memory = max_memory
        self.gradients = None
        self.losses = None
        self.promote = None
        self.extent = None
        self.global_draws = []
        self.traces = 0
        self.notes = ()

    @property
    def is_eager(self):
        """Whether training runs the model's code eagerly."""
        return self.backend.runs_eagerly(self._objective.model)

    def compile(self, precision, belongings, run_once, record):
        """Compiles at the highest precision possible.

        A tape takes the gradient where a graph cannot be differentiated.

        Args:
            precision: `"auto"`, `"float64"` or `"model"`.
            belongings: The `untouched.Untouched` that is open.
            run_once: Function that runs the gradient: missing kernels show only
                when a graph runs.
            record: Function that records the train step, or raises a
                `RecordingError`.

        Returns:
            The `Precision` of the programs.

        Raises:
            EagerCodeError: If the model's code can only run eagerly.
            GradientFailsError: If the loss can be traced and its gradient cannot.
        """
        self._belongings, self._run_once = belongings, run_once
        try:
            return self._choose_precision(precision)
        except GradientFailsError as error:
            if self.gradients is not None:
                raise  # it could be traced, and fails when it runs
            return self._compile_with_tape(error, precision, record)
        except Exception as error:
            message = eager_code.describe(error) if self.is_eager else None
            if message is None:
                raise
            recording = self._record_eagerly(record)
            if recording is not None:
                remark = eager_code.gradient_remark(self._paths, recording.received)
                message = f"{message}; {remark}"
            raise EagerCodeError(message) from error
        finally:
            self._belongings, self._run_once = None, None

    def _choose_precision(self, precision):
        return choose_precision(
            self._objective.model,
            precision,
            self._trace_promoted,
            self._trace_native,
            self.backend.is_out_of_memory,
            lambda: self._tracer.has_narrow_sources,
        )

    def _compile_with_tape(self, error, precision, record):
        """Compiles with a tape, as training takes gradients, after an error of the graph's."""
        tape = self._tracer.tape = self.backend.Tape()
        try:
            chosen = self._choose_precision(precision)
        except FINAL:
            raise
        except Exception as other:
            # A loop under a tape takes its gradient in the forward pass already.
            if self.backend.is_out_of_memory(other):
                raise
            if self._record_eagerly(record) is not None:
                message = f"{error}; training runs eagerly, where it does not"
                raise RuntimeError(message) from error
            raise error from None  # names the operation, which a tape does not
        remarks = "; ".join(tape.remarks) or "silently"
        self.notes += (f"{error}; a tape, as in training, goes on: {remarks}",)
        return chosen

    def _record_eagerly(self, record):
        """Returns the recording of an eager train step; None if there is none."""
        try:
            return record() if self.is_eager else None
        except RecordingError:
            return None

    def _trace_native(self):
        """Traces at the model's own precision.

        The loss is reduced in float64, unless the code does not take that.
        """
        try:
            self._trace(None)
            self._run_once()
        except FINAL:
            raise
        except Exception as error:
            # The user's code may raise anything about numbers of another precision than in
            # training.
            if self.backend.is_out_of_memory(error):
                raise
            self._tracer.has_wide_loss = False
            self._trace(None)

    def _trace_promoted(self, extent):
        """Traces with as much promoted as an `Extent` says, and runs once.

        Returns:
            The names of narrow operations.
        """
        self.extent = extent
        self._trace(self._tracer.promotion(extent))
        self._run_once()
        return self.backend.find_narrow_operations(self.gradients.graph, self.gradients.forward)

    def _trace(self, promote):
        """Compiles losses and gradient from one trace.

        Args:
            promote: Function that makes the context of the trace; None for the
                model's own precision.

        Raises:
            CannotRestoreError: If the model's code changes what cannot be restored.
            StateWriteError: If an evaluation would write to state that cannot be kept out.
        """
        belongings = self._belongings
        self.promote, self.gradients = promote, None
        try:
            self.gradients = belongings.run(lambda: self._tracer.gradients(promote))
            self.global_draws = sorted(belongings.global_draws)
        finally:
            # The next attempt must find everything as this one did.
            belongings.restore()
        self.traces += 1
        leftovers = belongings.leftovers(self.backend.is_symbolic)
        if leftovers:
            raise CannotRestoreError(
                "The model's code keeps tensors where a check cannot restore what was there. "
                f"Received: {', '.join(leftovers[:3])}. Expected state in attributes, containers "
                "or variables."
            )
        written = self.backend.find_writes(self.gradients.graph)
        if written:
            raise StateWriteError(written)
        self.losses = self.backend.LossProgram(
            self.gradients,
            self._tracer.present_state(),
            self._tracer.tensors,
            self._is_sharing,
            distribution.strategy_of(self._objective.model),
            self._max_memory,
        )

    def memory_notes(self):
        """Returns remarks on what `max_memory` does, a tuple."""
        limit, needs = self._max_memory, self.losses.needs
        if limit is None or needs.usual <= limit:
            return ()
        remark = (
            f"evaluations run one at a time: two at once would take about {_megabytes(needs.usual)}"
            f", more than max_memory={limit}"
        )
        if needs.least > limit:
            remark += (
                f"; one takes about {_megabytes(needs.least)}, which is more, too: take fewer "
                "examples (batch_size)"
            )
        return (remark,)

    def drawing_notes(self):
        """Returns remarks on numbers that the user's code has drawn in Python, a tuple.

        They are constants of the trace.
        """
        if not self.global_draws:
            return ()
        when = "while it is traced: training sees the same numbers in every step"
        if self.is_eager:
            when = "while it runs: the check has seen one draw of many"
        return (
            f"the model's code draws from {' and '.join(self.global_draws)} {when}; use "
            "keras.random with a keras.random.SeedGenerator that the layer keeps",
        )

    def evaluate_losses(self, point, probes, pairs):
        """Evaluates the loss terms, see `oracle.ModelOracle.losses`."""
        state, tensors = self._tracer.present_state(), self._tracer.tensors
        values = self.losses(point, state, tensors, probes, pairs)
        return values[:, : len(self._tracer.term_names)]

    def make_part(self, entries, exits):
        """Returns a function (point, given) -> arrays, see `oracle.ModelOracle.make_part`."""
        tracer = self._tracer
        state, tensors = tracer.present_state(), tracer.tensors
        part = self.backend.GraphPart(self.gradients, state, tensors, entries, exits)
        return lambda point, given: part(point, tracer.present_state(), tracer.tensors, given)

    def evaluate_gradients(self, point):
        """Returns the `LossGradients` at a point (float64, shape (P,))."""
        state, tensors = self._tracer.present_state(), self._tracer.tensors
        values = self.gradients(point, state, tensors)
        terms = dict(zip(self._tracer.term_names, values, strict=True))
        return LossGradients(terms, self.gradients.connected)

    def find_bypassed(self, variables):
        """Returns the numbers of the variables whose own storage the trace reads, a tuple."""
        read = self.gradients.captured_ids()
        numbers = []
        for number, variable in enumerate(variables):
            if self.backend.handle_id(variable) in read:
                numbers.append(number)
        return tuple(numbers)

    def find_chance(self):
        """Returns pairs (place, kind) of what the trace leaves to chance, see the backend."""
        pairs = self.backend.find_nondeterministic_operations(self.gradients.graph)
        layers = keras_internals.layers_of(self._objective.model)
        return [(scopes.name_layers(place, layers), kind) for place, kind in pairs]


def _megabytes(count):
    return f"{count / 1e6:.0f} MB"
