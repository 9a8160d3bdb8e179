"""A compiled model and a fixed batch as a loss along lines, and its gradient."""

import contextlib
import dataclasses
from typing import Any

import numpy as np

from gradhooks import backends
from gradhooks._types import Floats
from gradhooks.model import (
    failing_layer,
    keras_internals,
    layerwise,
    parameters,
    python_numbers,
    replicated,
    sources,
    tapped_model,
    tracing,
    untracked,
    variants,
)
from gradhooks.model.batch import have_same_shapes
from gradhooks.model.compilation import Compilation, LossGradients
from gradhooks.model.retracing import compute_loss, computes_alike
from gradhooks.model.signature import signature
from gradhooks.numerics.probe import Probe
from gradhooks.reports.errors import GradientFailsError


class ModelOracle:
    """Evaluates the loss along probes and its gradient; the model is traced once.

    Args:
        objective: What to evaluate, an `objective.Objective`.
        batch: The fixed minibatch, a `batch.Batch`.
        precision: `"auto"` promotes as much as possible to float64, `"float64"`
            insists on all of it, `"model"` promotes nothing.
        is_sharing: Whether moving single parameters shares the computation of
            what does not depend on them; the numbers are the same without.
        tapping: None, or the `taps.Taps` of every trace; their variables come
            behind those of the model.
        watch: Function that makes a context around the forward pass of the trace.
        max_memory: Bytes that evaluations may take; None for no limit.

    Attributes:
        variables: The trainable variables.
        layout: Their `Layout`.
        term_names: `"total"`, and `"data"` and `"penalty"` where the model has a penalty.
        signature: What must stay the same for the oracle to stay valid.
        batch_size: Number of examples; None without a common length.
        training_dtype: The narrowest float dtype in which any layer computes.
        precision: The `Precision` of the trace.
        evaluations: How many losses were evaluated.
        gradient_evaluations: How many gradients were evaluated.
        gradient_noise: As for `checking.oracle.Oracle`; a check sets it.
        known_noise: Likewise.
        complaints: What the user should know at once, and not only from the
            report, a tuple of sentences.

    Raises:
        BadInputError: For a loss that is not a scalar.
        CannotRestoreError: If the model's code changes what cannot be restored.
        GradientFailsError: If the loss can be traced and its gradient cannot.
        StateWriteError: If an evaluation would write to state that cannot be kept out.
    """

    def __init__(
        self,
        objective,
        batch,
        precision="auto",
        is_sharing=True,
        tapping=None,
        watch=None,
        max_memory=None,
    ):
        model = objective.model
        self._backend = backends.current()
        self._objective = objective
        self._batch = batch
        self._asked_precision = precision
        self._max_memory = max_memory
        self.variables = keras_internals.trained_weights(model)
        if tapping is not None:
            self.variables += tapping.variables
        self.layout = parameters.layout_of(self.variables)
        self._tracer = tracing.Tracer(self._backend, objective, batch, self.layout.shapes, tapping)
        if watch is not None:
            self._tracer.watch = watch
        self.term_names = self._tracer.term_names
        self.signature = signature(model)
        self.batch_size = batch.size
        self.training_dtype = keras_internals.training_dtype(model)
        self._train_step = None
        is_trained = getattr(model, "compiled", False) and model.optimizer is not None
        if is_trained and tapping is None:
            self._train_step = replicated.make_step(model, batch, self.layout)
        self._first = _NOTHING
        self._is_steady = None
        self._jittering = None
        self._tapped = None
        self.evaluations = 0
        self.gradient_evaluations = 0
        self.gradient_noise: Floats | None = None
        self.known_noise: Any | None = None
        self.complaints = ()
        self._compilation = Compilation(
            self._backend, objective, self._tracer, self.layout.paths, is_sharing, max_memory
        )
        self.precision = self._compile(precision)
        self._variants = variants.Variants(objective, batch, self._tracer, self._compilation)

    def _compile(self, precision):
        """Compiles losses and gradient; returns their `Precision`."""
        model, compilation = self._objective.model, self._compilation
        with self._tracer.untouched() as belongings, failing_layer.keep_whole_tracebacks():
            try:
                chosen = compilation.compile(precision, belongings, self._run_once, self.record)
            except GradientFailsError as error:
                raise self._tracer.name_failing(error, self.point()) from error
            except Exception as error:
                if self._objective.loss_fn is None:
                    failing_layer.note_where_the_loss_may_be(error, model)
                raise
            known = [*self.variables, *self._tracer.state]
            read = compilation.gradients.own_variables([p.value for p in belongings.places])
            self._numbers = python_numbers.PythonNumbers(belongings.places)
            self._untracked = untracked.find_untracked(model, known, read, belongings.places)
        gradients = compilation.gradients
        steps = self._backend.find_step_operations(gradients.graph, gradients.forward)
        return dataclasses.replace(chosen, step_operations=steps)

    @property
    def traces(self):
        """How often the model was traced."""
        return self._compilation.traces

    @property
    def replicas(self):
        """How many replicas' gradients the optimizer adds up."""
        return getattr(self._train_step, "replicas", 1)

    @property
    def notes(self):
        """Remarks for people, a tuple of sentences."""
        handed, remarks = (), []
        if self._train_step is not None:
            handed = self._train_step.handed
            remarks = [self._train_step.remark] if self._train_step.remark else []
        return (
            *parameters.remarks(self.variables, self.layout),
            *self._compilation.notes,
            *self._compilation.memory_notes(),
            *self._compilation.drawing_notes(),
            *untracked.sentences(self._untracked, handed),
            *remarks,
        )

    def find_passages(self, entries, exits, is_around_wanted):
        """Returns how each loss term depends on variables through tensors of the gradient's trace.

        Args:
            entries: Tensors that go into a part of the trace.
            exits: Tensors that come out of it.
            is_around_wanted: Whether ways around the part are looked for.
        """
        gradients = self._compilation.gradients
        return self._backend.find_passages(
            gradients.graph, gradients.forward, entries, exits, is_around_wanted
        )

    def make_part(self, entries, exits):
        """Returns a function (point, arrays for the entries) -> arrays of the exits.

        Args:
            entries: Tensors of the gradient's trace that are given.
            exits: Tensors of it that are computed; each call counts as an evaluation.
        """
        part = self._compilation.make_part(entries, exits)

        def compute(point, given=()):
            self.evaluations += 1
            with self._running():
                return part(point, given)

        return compute

    def are_outermost(self, tensors):
        """Returns whether tensors belong to the trace itself, and not to a loop in it."""
        return bool(tensors) and self._compilation.gradients.are_outermost(tensors)

    @property
    def bypassed(self):
        """Numbers of the variables whose own storage the trace reads, a tuple.

        Nothing could stand in for them.
        """
        return self._compilation.find_bypassed(self.variables)

    @property
    def calls_python(self):
        """Whether an evaluation runs Python code, which may compute at any precision."""
        return self._compilation.gradients.calls_python

    @property
    def pooling_groups(self):
        """Where the groups of variables begin whose parameters are moved together, a tuple."""
        return tuple(self._compilation.losses.bounds[:-1])

    @property
    def has_gradient_elsewhere(self):
        """True: a model is differentiated wherever it is asked."""
        return True

    def point(self):
        """Returns the live parameters, flat: float64, shape (P,), to be read only."""
        flat = self._backend.flatten(self._backend.snapshot(self.variables))
        flat.flags.writeable = False
        return flat

    def losses(self, point, probes, pairs):
        """Evaluates the loss terms at several points.

        Args:
            point: float64, shape (P,).
            probes: Sequence of `Probe`.
            pairs: Sequence of (number of the probe, offset).

        Returns:
            float64, shape (len(pairs), T), one column per `term_names`.
        """
        self.evaluations += len(pairs)
        with self._running():
            return self._compilation.evaluate_losses(point, probes, pairs)

    def gradients(self, point) -> LossGradients:
        """Returns the analytic `LossGradients` at a point (float64, shape (P,))."""
        self.gradient_evaluations += 1
        # The first check may ask for the gradient of the run that followed the trace.
        (first_point, first), self._first = self._first, _NOTHING
        if first_point is not None and np.array_equal(first_point, point):
            return first
        # A gradient takes the most memory, and can do without what losses have left.
        self._backend.trim_memory(self.layout.size)
        return self._evaluate_gradients(point)

    def _evaluate_gradients(self, point):
        try:
            with self._running():
                return self._compilation.evaluate_gradients(point)
        except Exception as error:
            if self._backend.is_out_of_memory(error):
                raise
            # Raises, too, if the backward pass is not the one that fails.
            self.losses(point, [Probe(0, np.zeros(1))], [(0, 0.0)])
            unnamed = failing_layer.gradient_fails(error, self._objective.model)
            with self._tracer.untouched():
                raise self._tracer.name_failing(unnamed, point) from error

    def rebind(self, model, batch):
        """Takes over the weights, the state and the batch of another model of the same kind.

        The values are copied into this oracle's own model, so that nothing is
        traced again. What has been evaluated so far is forgotten.

        Args:
            model: A `keras.Model`, built as this oracle's model is.
            batch: A `batch.Batch`.

        Returns:
            True; False, with nothing changed, if shapes or dtypes differ.
        """
        pairs = [
            (self.variables, keras_internals.trained_weights(model)),
            (self._tracer.state, keras_internals.state_of(model)),
        ]
        if not all(have_same_shapes(own, given) for own, given in pairs):
            return False
        if not self._tracer.replace_batch(batch):
            return False
        self._batch = batch
        self._variants.replace_batch(batch)
        if self._train_step is not None:
            self._train_step.replace_batch(batch)
        for own, given in pairs:
            for variable, other in zip(own, given, strict=True):
                variable.assign(other)
        self._first = _NOTHING
        self._tapped = None
        self.evaluations = 0
        self.gradient_evaluations = 0
        self.known_noise = None
        return True

    def _running(self):
        """Returns a context in which the Python code of evaluations leaves nothing behind."""
        return self._tracer.untouched() if self.calls_python else contextlib.nullcontext()

    def _run_once(self):
        """Evaluates the gradient, and keeps it for the first check."""
        point = self.point()
        self._first = point, self.gradients(point)
        self.gradient_evaluations = 0

    def record(self, point=None, is_unscaled=False):
        """Records the train step.

        Args:
            point: float64, shape (P,); the model's own parameters if None.
            is_unscaled: Whether the optimizer scales losses by 1.

        Returns:
            A `recording.Recording`; None without an optimizer.

        Raises:
            RecordingError: If the step cannot be recorded.
        """
        self._backend.trim_memory(self.layout.size)
        recording = None
        if self._train_step is not None:
            recording = self._train_step.record(point, is_unscaled)
            self.complaints = recording.outdated.sentences()
        self._backend.trim_memory(self.layout.size)
        return recording

    def watched(self, scale):
        """Observes the layers in two evaluations: one as training computes, one promoted.

        Args:
            scale: The factor of the loss before it is differentiated.

        Returns:
            Two `layerwise.Watched`, the second one None if nothing is promoted;
            None if the loss cannot be observed.
        """
        layers = keras_internals.layers_of(self._objective.model)
        promote = self._compilation.promote
        return layerwise.watch_twice(self._tracer, self._backend, layers, promote, scale)

    def first_jittering_layer(self, tolerance):
        """Returns the path of the layer at which two evaluations begin to differ, None without one.

        The model is traced once for this, and the answer kept.

        Args:
            tolerance: Relative difference that is no more than rounding.
        """
        if self._jittering is None:
            layers = keras_internals.layers_of(self._objective.model)
            promote = self._compilation.promote
            self._jittering = layerwise.find_jittering_layer(
                self._tracer, self._backend, layers, promote, tolerance
            )
        return self._jittering or None

    def tapped(self):
        """Returns a `tapped_model.TappedModel`: the same loss, with taps at every layer.

        The model is traced once for this, and the answer kept.
        """
        if self._tapped is None:
            self._tapped = self._trace_with_taps()
        return self._tapped

    def source_of_step(self):
        """Returns the `sources.Source` of the training step."""
        return sources.find_step(self._objective.model)

    def _trace_with_taps(self):
        def make_oracle(objective, batch, precision, tapping):
            return ModelOracle(
                objective,
                batch,
                precision,
                is_sharing=False,
                tapping=tapping,
                max_memory=self._max_memory,
            )

        return tapped_model.tap(
            self._objective, self._batch, self._asked_precision, self._backend, make_oracle
        )

    def is_steady(self, point, tolerance):
        """Returns whether the model's code, traced anew, computes the same gradient.

        A layer that counts its calls in a Python attribute, or draws a random
        number from NumPy, is another function in every trace. The model is
        traced once for this, and the answer kept.

        Args:
            point: float64, shape (P,).
            tolerance: Relative difference, per variable, that still counts as the same.
        """
        if self._is_steady is None:
            first, count = self.gradients(point).terms, self.gradient_evaluations
            promote = self._compilation.promote
            self._is_steady = computes_alike(
                self._tracer, promote, self.layout, point, first, tolerance
            )
            self.gradient_evaluations = count
        return self._is_steady

    def variant_gradient(self, names, point):
        """Returns the gradient of a variant of the loss, see `variants.Variants.gradient`."""
        return self._variants.gradient(names, point)

    def states(self):
        """Returns pairs (name, array) of what the model and its train step keep beside weights."""
        return self._train_step.states() if self._train_step is not None else []

    def recompute_loss(self, point, traced_loss):
        """Returns the loss as the code computes it now, and why it may be another one.

        Args:
            point: float64, shape (P,).
            traced_loss: The loss there as it was traced.

        Returns:
            The loss, and a list of the Python numbers that have changed since the
            trace, in words; None if there are none, or if training runs eagerly.
        """
        if self._compilation.is_eager:
            return None
        promote = self._compilation.promote
        return self._numbers.recompute(
            lambda: compute_loss(self._tracer, promote, point), traced_loss
        )

    def chance(self):
        """Returns pairs (place, kind) of what the trace leaves to chance, see the backend."""
        return self._compilation.find_chance()

    def draws_alike(self):
        """Returns whether the train step drew random numbers where the loss did, and only there."""
        step = self._train_step
        return step is None or step.draws.seen == self._tracer.draws.seen


_NOTHING = None, None
