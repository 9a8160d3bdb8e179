"""A compiled model and a fixed batch as a loss along lines, and its gradient."""

import contextlib
import dataclasses
import functools

import numpy as np

from gradhooks import backends
from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.model import (
    distribution,
    eager_code,
    failing_layer,
    keras_internals,
    layerwise,
    parameters,
    replicated,
    tracing,
    untracked,
)
from gradhooks.model.batch import have_same_shapes
from gradhooks.model.precision import FINAL, choose_precision
from gradhooks.numerics import determinism
from gradhooks.numerics.probe import Probe
from gradhooks.reports.errors import (
    EagerCodeError,
    GradientFailsError,
    RecordingError,
    StateWriteError,
)

# A count that comes round could look the same in one more trace.
_TRACES_ANEW = 2


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


class ModelOracle:
    """Answers what the loss is along probes, and what its gradient is; traced once.

    Args:
        objective: What to evaluate, a `terms.Objective`.
        batch: The fixed minibatch, a `batch.Batch`.
        precision: `"auto"` promotes as much as possible to float64, `"float64"`
            insists on all of it, `"model"` promotes nothing.
        is_sharing: Whether moving single parameters shares the computation of
            what does not depend on them; the numbers are the same without.

    Raises:
        BadInputError: For a loss that is not a scalar.
        CannotRestoreError: If the model's code changes what cannot be put back.
        GradientFailsError: If the loss can be traced and its gradient cannot.
        StateWriteError: If an evaluation would write to state that cannot be kept out.
    """

    def __init__(self, objective, batch, precision="auto", is_sharing=True):
        model = objective.model
        self._backend = backends.current()
        self._objective, self._is_sharing = objective, is_sharing
        self.variables = list(model.trainable_variables)
        self.layout = parameters.layout_of(self.variables)
        self._tracer = tracing.Tracer(self._backend, objective, batch, self.layout.shapes)
        self.term_names = self._tracer.term_names
        self.signature = signature(model)
        self.batch_size = batch.size
        self.training_dtype = keras_internals.training_dtype(model)
        self.has_noise = objective.training and keras_internals.has_noise(model)
        self._train_step = None
        if getattr(model, "compiled", False) and model.optimizer is not None:
            self._train_step = replicated.step_of(model, batch, self.layout)
        self._first = _NOTHING
        self._is_steady, self._drawn = None, []
        self.evaluations = 0
        self.gradient_evaluations = 0
        #: Whether two gradients at one point have ever differed; a check sets it.
        self.has_jittered = False
        self.traces = 0
        self._notes = parameters.remarks(self.variables, self.layout)
        #: What the user should hear at once, and not only in the report.
        self.complaints = ()
        with self._tracer.untouched() as self._belongings, failing_layer.whole_tracebacks():
            try:
                found = self._descended(precision)
            except Exception as error:
                if objective.loss_fn is None:
                    failing_layer.note_where_the_loss_may_be(error, model)
                raise
            known = [*self.variables, *self._tracer.state]
            self._untracked = untracked.find_untracked(
                model, known, self._gradients.own_variables(), self._belongings.places
            )
        steps = self._backend.find_step_operations(self._gradients.graph, self._gradients.forward)
        self.precision = dataclasses.replace(found, step_operations=steps)
        self._belongings = None
        self._notes += tuple(self._drawing_notes())

    @property
    def replicas(self):
        """How many replicas' gradients the optimizer adds up."""
        return getattr(self._train_step, "replicas", 1)

    @property
    def notes(self):
        """Remarks for people, a tuple of sentences."""
        step = self._train_step
        handed, remark = (step.handed, step.remark) if step is not None else ((), "")
        return (
            *self._notes,
            *untracked.sentences(self._untracked, handed),
            *([remark] if remark else []),
        )

    @property
    def bypassed(self):
        """Numbers of the variables whose own storage the trace reads, where nothing could stand in for them."""
        read = self._gradients.captured_ids()
        return tuple(
            v
            for v, variable in enumerate(self.variables)
            if self._backend.handle_id(variable) in read
        )

    @property
    def calls_python(self):
        """Whether an evaluation runs Python code, of which nobody knows at what precision it computes."""
        return self._gradients.calls_python

    def _descended(self, precision):
        """Traces at the highest precision possible; by a tape where graphs cannot be differentiated otherwise."""
        arguments = (
            self._objective.model,
            precision,
            self._trace_promoted,
            self._trace_native,
            self._backend.is_out_of_memory,
            lambda: self._tracer.has_narrow_sources,
        )
        try:
            return choose_precision(*arguments)
        except GradientFailsError as error:
            if self._gradients is not None:
                raise  # it could be traced, and fails when it runs
            tape = self._tracer.tape = self._backend.Tape()
            try:
                found = choose_precision(*arguments)
            except GradientFailsError:
                if self._recorded_eagerly() is not None:
                    raise RuntimeError(
                        f"{error}; training runs eagerly, where it does not"
                    ) from error
                raise error from None  # names the operation, which a tape does not
            self._notes += (
                f"{error}; a tape, as in training, goes on: {'; '.join(tape.remarks) or 'silently'}",
            )
            return found
        except Exception as error:
            told = eager_code.sentence(error) if self._runs_eagerly() else None
            if told is None:
                raise
            recording = self._recorded_eagerly()
            if recording is not None:
                told += f"; {eager_code.gradient_remark(self.layout.paths, recording.received)}"
            raise EagerCodeError(told) from error

    def _drawing_notes(self):
        """Says what the user's code has drawn in Python: numbers that are constants of the trace."""
        if self._drawn:
            yield (
                f"the model's code draws from {' and '.join(self._drawn)} "
                + (
                    "while it runs: the check has seen one draw of many"
                    if self._runs_eagerly()
                    else "while it is traced: training sees the same numbers in every step"
                )
                + "; use keras.random with a keras.random.SeedGenerator that the layer keeps"
            )

    def _runs_eagerly(self):
        return bool(getattr(self._objective.model, "run_eagerly", False))

    def _recorded_eagerly(self):
        """What the train step, which runs eagerly, takes where a graph takes nothing; None if it does not either."""
        try:
            return self.record() if self._runs_eagerly() else None
        except RecordingError:
            return None

    def point(self):
        """Returns the live parameters, flat: float64, shape (P,), to be read only."""
        flat = self._backend.flatten(self._backend.snapshot(self.variables))
        flat.flags.writeable = False
        return flat

    def losses(self, point, probes, pairs):
        """Evaluates the loss terms at many places.

        Args:
            point: float64, shape (P,).
            probes: Sequence of `Probe`.
            pairs: Sequence of (number of the probe, offset).

        Returns:
            float64, shape (len(pairs), T), one column per `term_names`.
        """
        self.evaluations += len(pairs)
        with self._running():
            found = self._losses(
                point, self._tracer.present_state(), self._tracer.tensors, probes, pairs
            )
        return found[:, : len(self.term_names)]

    def gradients(self, point):
        """Returns the analytic `Gradients` at a point (float64, shape (P,))."""
        self.gradient_evaluations += 1
        # The trial after the trace was no waste if the first check asks for the same.
        (tried, first), self._first = self._first, _NOTHING
        if tried is not None and np.array_equal(tried, point):
            return first
        # A pass forth and back takes the most memory, and can do without what losses have left.
        self._backend.trim_memory(self.layout.size)
        found = self._evaluated_gradients(point)
        return LossGradients(
            dict(zip(self.term_names, found, strict=True)), self._gradients.connected
        )

    def _evaluated_gradients(self, point):
        try:
            with self._running():
                return self._gradients(point, self._tracer.present_state(), self._tracer.tensors)
        except Exception as error:
            if self._backend.is_out_of_memory(error):
                raise
            self.losses(
                point, [Probe(0, np.zeros(1))], [(0, 0.0)]
            )  # raises, too, if it is not the backward pass
            raise failing_layer.gradient_fails(error, self._objective.model) from error

    def rebind(self, model, batch):
        """Takes on the weights, the state and the batch of another model of the same kind.

        The values are copied into this oracle's own model, so that nothing is
        traced again. What has been evaluated so far is forgotten.

        Args:
            model: A `keras.Model`, built as this oracle's model is.
            batch: A `batch.Batch`.

        Returns:
            True; False, with nothing changed, if shapes or dtypes differ.
        """
        pairs = [
            (self.variables, model.trainable_variables),
            (self._tracer.state, keras_internals.state_of(model)),
        ]
        for own, given in pairs:
            if not have_same_shapes(own, given):
                return False
        if not self._tracer.replace_batch(batch):
            return False
        if self._train_step is not None:
            self._train_step.replace_batch(batch)
        for own, given in pairs:
            for variable, other in zip(own, given, strict=True):
                variable.assign(other)
        self._first = _NOTHING
        self.evaluations = 0
        self.gradient_evaluations = 0
        return True

    def _running(self):
        """A context for evaluations: what they run of the user's Python code leaves nothing behind."""
        return (
            self._tracer.untouched() if self._gradients.calls_python else contextlib.nullcontext()
        )

    def record(self, point=None, is_unscaled=False):
        """Returns the `train_step.Recording` at a point, the model's own if None; None without an optimizer.

        Args:
            point: float64, shape (P,).
            is_unscaled: Whether the optimizer scales losses by 1.

        Raises:
            RecordingError: If the step cannot be recorded.
        """
        self._backend.trim_memory(self.layout.size)
        recording = (
            None if self._train_step is None else self._train_step.record(point, is_unscaled)
        )
        if recording is not None:
            self.complaints = recording.outdated.sentences()
        self._backend.trim_memory(self.layout.size)
        return recording

    def watched(self, scale):
        """Returns two `layerwise.Watched`, as training computes and promoted (None if nothing is promoted).

        Args:
            scale: By what the loss is scaled before it is differentiated.

        Returns:
            The pair; None if the loss cannot be watched.
        """
        layers = keras_internals.layers_of(self._objective.model)
        watch = functools.partial(layerwise.watch_calls, self._tracer, self._backend, layers)
        try:
            with self._tracer.untouched() as belongings:
                few = belongings.run(lambda: watch(None, scale))
                belongings.restore()
                return few, None if self._promote is None else belongings.run(
                    lambda: watch(self._promote, scale)
                )
        except Exception:  # to say where it happens is a service; that it happens is known
            return None

    def is_steady(self, point, tolerance):
        """Returns whether the model's code, traced anew, computes the same gradient; traced once, the answer is kept.

        A layer that counts its calls in a Python attribute, or asks NumPy for
        a random number, is another function in every trace.

        Args:
            point: float64, shape (P,).
            tolerance: Relative difference, per variable, that still counts as the same.
        """
        if self._is_steady is None:
            first, counted = self.gradients(point).terms, self.gradient_evaluations
            data = self._tracer.present_state(), self._tracer.tensors
            found = [
                dict(zip(self.term_names, g(point, *data), strict=True))
                for g in self._traced_anew()
            ]
            self._is_steady = not any(
                determinism.gradient_jitter(self.layout, first, g, tolerance) for g in found
            )
            self.gradient_evaluations = counted
        return self._is_steady

    def chance(self):
        """Returns pairs (place, kind) of what the trace leaves to chance, see the backend."""
        names = {layer.name for layer in keras_internals.layers_of(self._objective.model)}

        def in_layers(place):
            # TensorFlow numbers scopes of which it has seen the name before.
            parts = [(part, part.rpartition("_")[0]) for part in place.split("/")]
            return "/".join(
                base if part not in names and base in names else part for part, base in parts
            )

        return [
            (in_layers(place), kind)
            for place, kind in self._backend.find_nondeterministic_operations(self._gradients.graph)
        ]

    def draws_alike(self):
        """Returns whether the train step has drawn random numbers where the loss has, and nowhere else."""
        return self._train_step is None or self._train_step.draws.seen == self._tracer.draws.seen

    def _traced_anew(self):
        """Traces one after the other: what counts its calls goes on counting."""
        trace = functools.partial(self._tracer.gradients, self._promote)
        with self._tracer.untouched() as belongings:
            try:
                return belongings.run(lambda: [trace() for _ in range(_TRACES_ANEW)])
            except (
                Exception
            ):  # code that kept a tensor of the first trace cannot use it in the second
                anew = []
                for _ in range(_TRACES_ANEW):
                    belongings.restore()
                    anew.append(belongings.run(trace))
                return anew

    def _trace_native(self):
        """Traces at the model's own precision; the loss is reduced in float64 unless it does not take that."""
        try:
            self._trace(None)
            self._run_once()
        except FINAL:
            raise
        except (
            Exception
        ) as error:  # whatever code says to numbers of another precision than in training
            if self._backend.is_out_of_memory(error):
                raise
            self._tracer.has_wide_loss = False
            self._trace(None)

    def _trace_promoted(self, extent):
        """Traces with all promoted that is in an `Extent`, and runs once; returns names of narrow operations."""
        self._trace(self._tracer.promotion(extent))
        self._run_once()
        return self._backend.find_narrow_operations(self._gradients.graph, self._gradients.forward)

    def _run_once(self):
        """Asks for the gradient, which is kept for the first check: missing kernels show only when a graph runs."""
        point = self.point()
        self._first = point, self.gradients(point)
        self.gradient_evaluations = 0

    def _trace(self, promote):
        """Compiles losses and gradients from one trace, promoted if a context for it is given."""
        self._promote, self._gradients = promote, None
        try:
            self._gradients = self._belongings.run(lambda: self._tracer.gradients(promote))
            self._drawn = sorted(self._belongings.drawn)
        finally:
            # The next attempt must find everything as this one did.
            self._belongings.restore()
        self.traces += 1
        kept = self._belongings.leftovers(self._backend.is_symbolic)
        if kept:
            raise CannotRestoreError(
                "The model's code keeps tensors where a check cannot put back what was there. "
                f"Received: {', '.join(kept[:3])}. Expected state in attributes, containers or variables."
            )
        written = self._backend.find_writes(self._gradients.graph)
        if written:
            raise StateWriteError(written)
        self._losses = self._backend.LossProgram(
            self._gradients,
            self._tracer.present_state(),
            self._tracer.tensors,
            self._is_sharing,
            distribution.strategy_of(self._objective.model),
        )


def signature(model):
    """Returns what must stay the same for a traced oracle to stay valid: weights, compiled loss, mode of each layer."""
    layers = keras_internals.layers_of(model)
    return (
        tuple(id(v) for v in model.trainable_variables),
        tuple(id(v) for v in keras_internals.weights_of(model)),
        # Itself, since an id may be given out again; variables compare by value, and the oracle
        # keeps them.
        keras_internals.compile_loss(model),
        tuple((id(layer), layer.trainable, layer.dtype_policy.name) for layer in layers),
    )


_NOTHING = None, None
