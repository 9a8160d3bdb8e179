"""The loss of a model and its gradient, traced as functions of parameters, state and batch."""

import contextlib

import keras

from gradhooks.isolation import threads
from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.model import (
    compiled_loss,
    draws,
    dtypes,
    failing_layer,
    keras_internals,
    named_calls,
    promotion,
    untouched,
)
from gradhooks.model import objective as objectives
from gradhooks.model.batch import have_same_structure
from gradhooks.reports.errors import GradientFailsError


class Tracer:
    """Traces a model's loss terms and their gradients, at one precision or another.

    Args:
        backend: The backend module.
        objective: What to evaluate, an `objective.Objective`.
        batch: The fixed minibatch, a `batch.Batch`.
        shapes: Shape of each trainable variable, with a last axis of two for a complex one.
        taps: None, or the `taps.Taps` that every trace gets; their variables come last.

    Attributes:
        shapes: As given.
        variables: The trainable variables.
        state: The variables beside them that a loss may read or write.
        tensors: The batch as a flat list of dense tensors.
        term_names: `"total"`, and `"data"` and `"penalty"` where the model has a penalty.
        tape: None, or the tape that takes gradients which a graph refuses.
        has_wide_loss: Whether at the model's own precision the loss is reduced in float64.
        has_narrow_sources: Whether a constant, or a variable that the model does not know of, has
            entered a promoted trace in a narrow float.
        draws: The `draws.Draws` of the latest trace.
        watch: Function that makes a context around the forward pass of the gradient's trace.
        assigned: Set of the paths of trainable variables to which the loss assigns.
        is_recomputing: Whether a backward pass has run layers with state again.
    """

    def __init__(self, backend, objective, batch, shapes, taps=None):
        self._backend, self._objective, self.shapes = backend, objective, shapes
        self._taps = taps
        self.variables = keras_internals.trained_weights(objective.model)
        if taps is not None:
            self.variables += taps.variables
        self.state = keras_internals.state_of(objective.model)
        self._nested_batch = (batch.x, batch.y, batch.sample_weight)
        self.tensors = self._present_tensors()
        self._y, self._container = batch.y, None
        self.term_names = ("total", "data", "penalty") if objective.has_penalty else ("total",)
        self.tape = None
        self.has_wide_loss = True
        self.has_narrow_sources = False
        self.watch = contextlib.nullcontext
        self.draws = draws.Draws(objective.model, keras_internals.is_xla(objective.model))
        self.assigned = set()
        self.is_recomputing = False
        self._calls = None

    def untouched(self):
        """Returns a context in which the code of the model and of the loss may run."""
        return untouched.Untouched(self._objective.model, loss_fn=self._objective.loss_fn)

    def present_state(self):
        """Returns the present values of `state`."""
        return self._backend.snapshot(self.state)

    def promotion(self, extent):
        """Returns a function that makes the context of a promoted trace.

        Args:
            extent: How far promotion goes, a `promotion.Extent`.
        """
        model, backend = self._objective.model, self._backend

        def note_narrow():
            self.has_narrow_sources = True

        return lambda: promotion.promote(
            model, self._container, self.state, backend, extent, note_narrow
        )

    def gradients(self, promote=None):
        """Traces once; returns the backend's `GradientProgram`.

        Args:
            promote: Function that makes the context of the trace; None for the
                model's own precision.

        Raises:
            GradientFailsError: If the loss can be traced and its gradient cannot.
        """
        self.take_fresh_loss()
        precision = promote() if promote else promotion.suspend_promotion(self._backend)
        with precision, self.draws.fix(self._backend):
            differentiate = self._differentiator(promote)
            return self._backend.GradientProgram(
                differentiate, self.shapes, self.present_state(), self.tensors
            )

    def name_failing(self, error, point):
        """Traces and runs the gradient once more to find the layer whose backward pass raises.

        Args:
            error: The `GradientFailsError`.
            point: The parameters, float64, shape (P,).

        Returns:
            A `GradientFailsError` with the path of the layer; `error` if that is not found.
        """
        if error.path:
            return error
        calls = named_calls.NamedCalls(self._objective.model, self._backend)
        tape, self.tape = self.tape, None  # a tape does not say which operation raises
        self._calls, layer = calls, None
        try:
            self.gradients()(point, self.present_state(), self.tensors)
        except GradientFailsError as named:
            layer = calls.find(named.__cause__ or named)
        except Exception as named:
            layer = calls.find(named)
        finally:
            self._calls, self.tape = None, tape
        # Its source is looked up now, when nothing stands in place of its `call`.
        return error if layer is None else failing_layer.place_error(error.cause, layer)

    def replace_batch(self, batch):
        """Evaluates on another batch from now on.

        Args:
            batch: A `batch.Batch`.

        Returns:
            True; False, with nothing changed, if its structure or shapes differ.
        """
        nested = (batch.x, batch.y, batch.sample_weight)
        if not have_same_structure(self._nested_batch, nested):
            return False
        self._nested_batch = nested
        self.tensors = self._present_tensors()
        return True

    def take_fresh_loss(self):
        """Makes a new stand-in for the compiled loss.

        What is built at its first call keeps the precision of that call, so
        none is used for more than one trace.
        """
        self._container = None
        if self._objective.loss_fn is None:
            self._container = compiled_loss.make_standin(self._objective.model, self._y)

    def evaluate(self, finish, promote, watch, times=1):
        """Traces the loss once and runs it, as training computes it or promoted.

        Args:
            finish: Function (total loss, values of the trainable variables) ->
                list of tensors.
            promote: Function that made the context of the trace; None for the
                model's own precision, in which the loss is reduced, too.
            watch: Function that makes a context around the forward pass.
            times: How often the trace is run.

        Returns:
            For each run what `finish` returns, as a list of arrays.
        """

        def evaluate_terms(values, state, batch):
            def finish_terms(terms, reset):
                objectives.check_scalar(terms[0])
                reset()
                return finish(terms[0], values)

            with watch():
                return self._terms(
                    values, state, batch, promote, finish_terms, self._native_context(promote)
                )

        values = [self._backend.to_pairs(value) for value in self._backend.snapshot(self.variables)]
        precision = contextlib.nullcontext()
        if not promote:
            precision = promotion.suspend_promotion(self._backend)
        options = {} if promote else self._options_of_training()
        with precision, self.draws.fix(self._backend):
            if promote:
                values = [dtypes.widen(value) for value in values]
            return self._backend.evaluate(
                evaluate_terms, values, self.present_state(), self.tensors, times=times, **options
            )

    def _options_of_training(self):
        """Returns how a graph of the model's runs in training, as options of `evaluate`."""
        model = self._objective.model
        is_compiled = bool(getattr(model, "compiled", False))
        is_graph = is_compiled and not self._backend.runs_eagerly(model)
        return {"is_optimized": is_graph, "is_xla": is_graph and bool(model.jit_compile)}

    def _present_tensors(self):
        """Returns the arrays of the batch that are not None, as a flat list of dense tensors."""
        dense = []
        for array in keras.tree.flatten(self._nested_batch):
            if array is not None:
                dense += self._backend.disassemble(self._backend.to_tensor(array))
        return dense

    def _nest(self, tensors):
        """Returns tensors in the structure of the batch: the inverse of `_present_tensors`."""
        remaining = iter(tensors)

        def reassemble(array):
            return None if array is None else self._backend.reassemble(array, remaining)

        return keras.tree.map_structure(reassemble, self._nested_batch)

    def _differentiator(self, promote):
        """Returns a function (values, state, batch) -> (loss terms, their gradients)."""
        is_widening_losses = not promote and self.has_wide_loss
        around_loss = self._widen_losses if is_widening_losses else self._native_context(promote)

        def differentiate(values, state, batch):
            def finish(terms, reset):
                objectives.check_scalar(terms[0])
                self._refuse_new_weights()
                tapped = self._tapped_tensors()
                gradients = []
                for term in terms[: len(self.term_names)]:
                    self._begin_backward(reset)
                    found = self._differentiate(gradient, term, [*values, *tapped])
                    gradients.append(found[: len(values)])
                    if tapped:
                        self._taps.note_gradients(term, found[len(values) :])
                return terms, tuple(gradients)

            with self.watch(), self._open_tape(values) as gradient:
                return self._terms(values, state, batch, promote, finish, around_loss)

        return differentiate

    def _tapped_tensors(self):
        """Returns the tensors at the taps; their gradients are on the way to those of the taps.

        A tape would have to be told of them before they are used.
        """
        return self._taps.list_tensors() if self._taps is not None and self.tape is None else []

    def _begin_backward(self, reset):
        """Resets all state: a backward pass that runs layers again must draw what they drew."""
        reset()

    def _open_tape(self, values):
        """Returns a context that yields a function (term, values) -> gradient."""
        if self.tape:
            return self.tape.record(values)
        return contextlib.nullcontext(self._backend.differentiate)

    def _differentiate(self, gradient, term, values):
        try:
            with self.draws.suspend():
                return gradient(term, values)
        except Exception as error:
            raise failing_layer.gradient_fails(error, self._objective.model) from error

    def _terms(self, values, state, batch, promote, finish, around_loss):
        """Evaluates the loss terms in the trace that is going on, see `objective.evaluate`."""
        self.draws.begin()
        mapping = []
        for variable, value in zip(self.variables, values, strict=True):
            mapping.append((variable, self._backend.from_pairs(value, variable._dtype)))
        for variable, value in zip(self.state, state, strict=True):
            mapping.append((variable, self._backend.cast(value, variable._dtype)))
        nested = self._nest([dtypes.widen(tensor) for tensor in batch] if promote else batch)

        def evaluate(finish, taps=None):
            return objectives.evaluate(
                self._objective,
                self._container,
                mapping,
                nested,
                finish,
                self._note_updates(),
                self.draws,
                self._native_context(promote),
                around_loss,
                taps,
            )

        if self._calls is not None:
            with self._calls.open(self._container):
                return evaluate(finish)
        if self._taps is None:
            return evaluate(finish)

        def finish_after_taps(terms, reset):
            self._taps.end_forward()
            return finish(terms, reset)

        with self._taps.open():
            return evaluate(finish_after_taps, self._taps)

    def _native_context(self, promote):
        """Returns a function that makes the context in which the model's own code is traced."""
        return contextlib.nullcontext if promote else self._backend.native_precision

    def _note_updates(self):
        """Returns a function like `_make_stand_in` that notes which variables are written to."""
        trainable = {id(variable) for variable in self.variables}
        known = set()

        def make(value, variable):
            if id(variable) in known and id(variable) in trainable:
                self.assigned.add(variable.path)
            elif id(variable) in known and not self.draws.is_fixed:
                self.is_recomputing = True
            known.add(id(variable))
            return self._make_stand_in(value, variable)

        return make

    def _make_stand_in(self, value, variable):
        """Returns what stands for a variable when a tensor is its value."""
        return self._backend.make_stand_in(value, variable)

    def _refuse_new_weights(self):
        """Raises an error if the trace has made weights.

        They are none of the model's: training would make others, of which
        nothing is known.

        Raises:
            CannotRestoreError: If there are any.
        """
        known = {id(variable) for variable in self.variables}
        variables = keras_internals.trained_weights(self._objective.model)
        paths = [variable.path for variable in variables if id(variable) not in known]
        if paths:
            raise CannotRestoreError(
                "Evaluating the loss must not make weights: a check leaves none behind, and "
                f"training makes others. Received: a loss that makes {', '.join(paths[:3])}. "
                "Expected layers that are built. Try calling the layers, or the model, once on a "
                "batch."
            )

    @contextlib.contextmanager
    def _widen_losses(self):
        """While open, the loss is reduced in float64; the outputs keep their own precision."""
        with threads.open_patcher() as patch, keras_internals.patch_floatx(dtypes.WIDE):
            for loss in compiled_loss.losses_in(self._container):
                patch(loss, "_dtype", dtypes.WIDE)
            patch(self._objective.model, "_aggregate_additional_loss", dtypes.sum_wide)
            yield
