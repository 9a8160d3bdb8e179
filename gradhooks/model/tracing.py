"""The loss of a model and its gradient, traced as functions of parameters, state and batch."""

import contextlib

from gradhooks.isolation import threads
from gradhooks.isolation.exchanges import CannotRestoreError
from gradhooks.model import draws, failing_layer, keras_internals, objective, promotion, untouched
from gradhooks.model.batch import have_same_structure


class Tracer:
    """Traces a model's loss terms and their gradients, at one precision or another.

    Args:
        backend: The backend module.
        objective: What to evaluate, a `terms.Objective`.
        batch: The fixed minibatch, a `batch.Batch`.
        shapes: Shape of each trainable variable, with a last axis of two for a complex one.

    Attributes:
        variables: The trainable variables.
        state: The variables beside them that a loss may read or write.
        tensors: The batch as a flat list of dense tensors.
        term_names: `"total"`, and `"data"` and `"penalty"` where the model has a penalty.
        tape: None, or the tape that takes gradients which a graph refuses.
        has_wide_loss: Whether at the model's own precision the loss is reduced in float64.
        has_narrow_sources: Whether a constant, or a variable that the model does not know of, has entered a promoted
            trace in a narrow float.
        draws: The `noise.Draws` of the latest trace.
    """

    def __init__(self, backend, objective, batch, shapes):
        self._backend, self._objective, self._shapes = backend, objective, shapes
        self.variables = list(objective.model.trainable_variables)
        self.state = keras_internals.state_of(objective.model)
        self._nested_batch = (batch.x, batch.y, batch.sample_weight)
        self.tensors = self._present_tensors()
        self._y, self._container = batch.y, None
        self.term_names = ("total", "data", "penalty") if objective.has_penalty else ("total",)
        self.tape, self.has_wide_loss, self.has_narrow_sources = None, True, False
        self.draws = draws.Draws(objective.model, keras_internals.is_xla(objective.model))

    def untouched(self):
        """Returns a context in which the code of the model and of the loss may run."""
        return untouched.Untouched(self._objective.model, loss_fn=self._objective.loss_fn)

    def present_state(self):
        """Returns the present values of `state`."""
        return self._backend.snapshot(self.state)

    def promotion(self, extent):
        """Returns a function that makes a context in which all is float64 as far as a `promotion.Extent` goes."""

        def note_narrow():
            self.has_narrow_sources = True

        return lambda: promotion.promote(
            self._objective.model, self._container, self.state, self._backend, extent, note_narrow
        )

    def gradients(self, promote=None):
        """Returns the backend's `Gradients` of one trace.

        Args:
            promote: Function that makes the context of the trace; None for the model's own precision.

        Raises:
            GradientFailsError: If the loss can be traced and its gradient cannot.
        """
        self.take_fresh_loss()
        with (
            promote() if promote else promotion.suspend_promotion(),
            self.draws.fixed(self._backend),
        ):
            return self._backend.GradientProgram(
                self._differentiator(promote), self._shapes, self.present_state(), self.tensors
            )

    def replace_batch(self, batch):
        """Evaluates on another batch from now on; returns False, and changes nothing, if it does not fit."""
        nested = (batch.x, batch.y, batch.sample_weight)
        if not have_same_structure(self._nested_batch, nested):
            return False
        self._nested_batch = nested
        self.tensors = self._present_tensors()
        return True

    def take_fresh_loss(self):
        """What is built at its first call keeps the precision of that call: none outlives its trace."""
        is_custom = self._objective.loss_fn is not None
        self._container = (
            None
            if is_custom
            else keras_internals.fresh_compile_loss(self._objective.model, self._y)
        )

    def evaluated(self, finish, promote, watch):
        """Returns what the loss is as training computes it, or promoted: a list of arrays, traced and run once.

        Args:
            finish: Function (total loss, values of the trainable variables) ->
                list of tensors.
            promote: Function that made the context of the trace; None for the
                model's own precision, in which the loss is reduced, too.
            watch: Function that makes a context around the forward pass.
        """

        def evaluate(values, state, batch):
            def finished(found, reset):
                objective.check_scalar(found[0])
                reset()
                return finish(found[0], values)

            with watch():
                return self._terms(values, state, batch, promote, finished, contextlib.nullcontext)

        values = [self._backend.to_pairs(value) for value in self._backend.snapshot(self.variables)]
        with (
            contextlib.nullcontext() if promote else promotion.suspend_promotion(),
            self.draws.fixed(self._backend),
        ):
            values = [promotion.widen(value) for value in values] if promote else values
            arguments = values, self.present_state(), self.tensors
            return self._backend.evaluate_once(
                evaluate, *arguments, **({} if promote else self._as_trained())
            )

    def _as_trained(self):
        """How a graph of the model's runs in training."""
        model = self._objective.model
        is_graph = bool(getattr(model, "compiled", False)) and not model.run_eagerly
        return {"is_optimized": is_graph, "is_xla": is_graph and bool(model.jit_compile)}

    def _present_tensors(self):
        """The arrays of the batch that are not None, as a flat list of dense tensors."""
        import keras

        present = [
            self._backend.to_tensor(a)
            for a in keras.tree.flatten(self._nested_batch)
            if a is not None
        ]
        return [part for tensor in present for part in self._backend.disassemble(tensor)]

    def _nested(self, tensors):
        """The inverse of `_present_tensors`."""
        import keras

        remaining = iter(tensors)
        return keras.tree.map_structure(
            lambda a: None if a is None else self._backend.reassemble(a, remaining),
            self._nested_batch,
        )

    def _differentiator(self, promote):
        """Returns a function (values, state, batch) -> (loss terms, their gradients)."""
        while_losing = (
            contextlib.nullcontext if promote or not self.has_wide_loss else self._wide_losses
        )

        def differentiate(values, state, batch):
            def finish(found, reset):
                objective.check_scalar(found[0])
                self._refuse_new_weights()
                # The backward pass may run layers again; they must draw what the forward pass drew.
                per_term = []
                for term in found[: len(self.term_names)]:
                    reset()
                    try:
                        with self.draws.differentiating():
                            per_term.append(gradient(term, values))
                    except Exception as error:
                        raise failing_layer.gradient_fails(error, self._objective.model) from error
                return found, tuple(per_term)

            taken = (
                self.tape.record(values)
                if self.tape
                else contextlib.nullcontext(self._backend.differentiate)
            )
            with taken as gradient:
                return self._terms(values, state, batch, promote, finish, while_losing)

        return differentiate

    def _terms(self, values, state, batch, promote, finish, while_losing):
        """Evaluates the loss terms in the trace that goes on, see `terms.evaluate`."""
        self.draws.begin()
        weights, others = (
            zip(self.variables, values, strict=True),
            zip(self.state, state, strict=True),
        )
        mapping = [(v, self._backend.from_pairs(value, v._dtype)) for v, value in weights]
        mapping += [(v, self._backend.cast(value, v._dtype)) for v, value in others]
        nested = self._nested([promotion.widen(a) for a in batch] if promote else batch)
        return objective.evaluate(
            self._objective,
            self._container,
            mapping,
            nested,
            finish,
            self._backend.make_stand_in,
            self.draws,
            while_losing,
        )

    def _refuse_new_weights(self):
        """Weights that the trace makes are none of the model's, which would make others: nothing is known of these."""
        known = {id(variable) for variable in self.variables}
        made = [v.path for v in self._objective.model.trainable_variables if id(v) not in known]
        if made:
            raise CannotRestoreError(
                "Evaluating the loss must not make weights: a check leaves none behind, and training makes others. "
                f"Received: a loss that makes {', '.join(made[:3])}. Expected layers that are built. "
                "Try calling the layers, or the model, once on a batch."
            )

    @contextlib.contextmanager
    def _wide_losses(self):
        """At native precision the outputs are what they are, but the loss is reduced in float64."""
        with contextlib.ExitStack() as stack:
            put = threads.Patcher(stack)
            stack.enter_context(keras_internals.answer_floatx(promotion.WIDE))
            for loss in keras_internals.losses_in(self._container):
                put(loss, "_dtype", promotion.WIDE)
            put(self._objective.model, "_aggregate_additional_loss", promotion.wide_sum)
            yield
