"""A compiled model and a fixed batch as a loss along lines, and its gradient."""

import contextlib
import dataclasses
import functools

import numpy as np

from gradhooks import backends
from gradhooks.errors import StateWriteError
from gradhooks.model import blame, keras_internals, ladder, promotion, swapping, terms, train_step, workers
from gradhooks.numerics import layout as layouts
from gradhooks.numerics import verdict

# A count that comes round could look the same in one more trace.
_TRACES_ANEW = 2


@dataclasses.dataclass(frozen=True)
class Gradients:
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
        ValueError: For a loss that is not a scalar.
        StateWriteError: If an evaluation would write to state that cannot be kept out.
    """

    def __init__(self, objective, batch, precision="auto", is_sharing=True):
        model = objective.model
        self._backend = backends.current()
        self._objective, self._is_sharing = objective, is_sharing
        self.variables = list(model.trainable_variables)
        self._state = keras_internals.state_of(model)
        self.layout = layouts.Layout(
            layouts.unique_paths([v.path for v in self.variables]), tuple(tuple(v.shape) for v in self.variables)
        )
        self._nested_batch = (batch.x, batch.y, batch.sample_weight)
        self._batch = self._present_tensors()
        self._container = None if objective.loss_fn else keras_internals.fresh_compile_loss(model, batch.y)
        self.term_names = ("total", "data", "penalty") if objective.has_penalty else ("total",)
        self.signature = signature(model)
        self.batch_size = batch.size
        self.training_dtype = keras_internals.training_dtype(model)
        self.has_noise = objective.training and keras_internals.has_noise(model)
        self._train_step = None
        if getattr(model, "compiled", False) and model.optimizer is not None:
            self._train_step = train_step.TrainStep(model, batch, self.layout)
        self._first = _NOTHING
        self._is_steady = None
        self._has_wide_loss = True
        self.evaluations = 0
        self.gradient_evaluations = 0
        self.traces = 0
        with keras_internals.Untouched(model), blame.whole_tracebacks():
            self.precision = ladder.descend(
                model, precision, self._trace_promoted, self._trace_native, self._backend.is_exhausted
            )

    def _present_tensors(self):
        """The arrays of the batch that are not None, as a flat list of dense tensors."""
        import keras

        present = [self._backend.tensor(a) for a in keras.tree.flatten(self._nested_batch) if a is not None]
        return [part for tensor in present for part in self._backend.dense_parts(tensor)]

    def _nested(self, tensors):
        """The inverse of `_present_tensors`."""
        import keras

        remaining = iter(tensors)
        return keras.tree.map_structure(
            lambda a: None if a is None else self._backend.put_together(a, remaining), self._nested_batch
        )

    def point(self):
        """Returns the live parameters, flat: float64, shape (P,), to be read only."""
        flat = self._backend.flattened(self._backend.snapshot(self.variables))
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
        found = self._losses(point, self._backend.snapshot(self._state), self._batch, probes, pairs)
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
        found = self._gradients(point, self._backend.snapshot(self._state), self._batch)
        return Gradients(dict(zip(self.term_names, found, strict=True)), self._gradients.connected)

    def record(self, point=None):
        """Returns the `train_step.Recording` at a point, the model's own if None; None without an optimizer.

        Raises:
            RecordingError: If the step cannot be recorded.
        """
        self._backend.trim_memory(self.layout.size)
        recording = None if self._train_step is None else self._train_step.record(point)
        self._backend.trim_memory(self.layout.size)
        return recording

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
            with keras_internals.Untouched(self._objective.model):
                anew = [self._traced_gradients() for _ in range(_TRACES_ANEW)]
            state = self._backend.snapshot(self._state)
            found = [dict(zip(self.term_names, g(point, state, self._batch), strict=True)) for g in anew]
            self._is_steady = not any(verdict.gradient_jitter(self.layout, first, g, tolerance) for g in found)
            self.gradient_evaluations = counted
        return self._is_steady

    def _trace_native(self):
        """Traces at the model's own precision; the loss is reduced in float64 unless the model's own sums forbid it."""
        try:
            self._trace(None)
        except TypeError:  # a `compute_loss` that adds something of its own to the compiled loss
            self._has_wide_loss = False
            self._trace(None)

    def _trace_promoted(self, native, is_widening):
        """Traces with all but some layers promoted, and runs once; returns names of operations that stayed narrow."""
        with_their_layers = {id(inner) for layer in native for inner in keras_internals.layers_of(layer)}
        promote = functools.partial(
            promotion.promoted, self._objective.model,
            keras_internals.losses_in(self._container)
            + keras_internals.metrics_of(self._objective.model, self._container),
            self._state, self._backend, native=with_their_layers, is_widening=is_widening,
        )  # fmt: skip
        self._trace(promote)
        point = self.point()
        self._first = point, self.gradients(point)  # missing kernels show only when the graph runs
        self.gradient_evaluations = 0
        return tuple(dict.fromkeys(self._backend.narrow_casts(self._gradients.forward.definition())))

    def _trace(self, promote):
        """Compiles losses and gradients from one trace, promoted if a context for it is given."""
        self._promote = promote
        self._gradients = self._traced_gradients()
        self.traces += 1
        written = self._backend.writes(self._gradients.graph)
        if written:
            raise StateWriteError(written)
        self._losses = self._backend.Losses(
            self._gradients, self._backend.snapshot(self._state), self._batch, self._is_sharing,
            workers.strategy_of(self._objective.model),
        )  # fmt: skip

    def _traced_gradients(self):
        state, promote = self._backend.snapshot(self._state), self._promote
        with promote() if promote else promotion.unpromoted():
            return self._backend.Gradients(self._differentiator(promote), self.layout.shapes, state, self._batch)

    def _differentiator(self, promote):
        """Returns a function (values, state, batch) -> (loss terms, their gradients)."""
        while_losing = contextlib.nullcontext if promote or not self._has_wide_loss else self._wide_losses

        def differentiate(values, state, batch):
            mapping = [*zip(self.variables, values, strict=True), *zip(self._state, state, strict=True)]
            nested = self._nested([promotion.widened(a) for a in batch] if promote else batch)
            mapping = [(variable, self._backend.cast(value, variable._dtype)) for variable, value in mapping]

            def finish(found, reset):
                terms.check_scalar(found[0])
                # The backward pass may run layers again; they must draw what the forward pass drew.
                per_term = []
                for term in found[: len(self.term_names)]:
                    reset()
                    per_term.append(self._backend.gradient(term, values))
                return found, tuple(per_term)

            return terms.evaluate(self._objective, self._container, mapping, nested, finish, while_losing)

        return differentiate

    @contextlib.contextmanager
    def _wide_losses(self):
        """At native precision the outputs are what they are, but the loss is reduced in float64."""
        import keras

        with contextlib.ExitStack() as stack:
            put = swapping.Swap(stack)
            stack.callback(keras.config.set_floatx, keras.config.floatx())
            keras.config.set_floatx(promotion.WIDE)
            for loss in keras_internals.losses_in(self._container):
                put(loss, "_dtype", promotion.WIDE)
            put(self._objective.model, "_aggregate_additional_loss", promotion.wide_sum)
            yield


def signature(model):
    """Returns what must stay the same for a traced oracle to stay valid: weights, compiled loss, mode of each layer."""
    layers = keras_internals.layers_of(model)
    return (
        tuple(id(v) for v in model.trainable_variables),
        tuple(id(v) for v in keras_internals.weights_of(model)),
        # Itself, since an id may be given out again; variables compare by value, and the oracle keeps them.
        keras_internals.compile_loss(model),
        tuple((id(layer), layer.trainable, layer.dtype_policy.name) for layer in layers),
    )


_NOTHING = None, None
