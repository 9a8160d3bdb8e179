"""The gradient that the optimizer receives: the model's own `train_step`, run once on copies.

Every optimizer notes the gradients that it receives and applies nothing. A step
that is compiled is traced as training would trace it, and its graph is run with
copies of all variables that it captures. A step that runs eagerly runs as it
stands, while its variables lead to copies. Only the checking thread sees any of it.
"""

import contextlib

import keras
import numpy as np

from gradhooks import backends
from gradhooks.isolation import threads
from gradhooks.model import (
    compiled_step,
    distribution,
    draws,
    failing_layer,
    keras_internals,
    optimizers,
    recording,
    step_standins,
    untouched,
)
from gradhooks.model.recording import Recording
from gradhooks.reports.errors import RecordingError


class TrainStep:
    """Records gradients from a model's `train_step`, compiled as the user compiled it.

    Args:
        model: A compiled `keras.Model`.
        batch: The fixed minibatch, a `batch.Batch`.
        layout: The `Layout` of the trainable variables.
        strategy: None, or the strategy of which the step runs as a replica.
        replicas: How many replicas hand the optimizer what this one does; it adds that up.

    Attributes:
        draws: The `draws.Draws` of the latest run.
        traces: How often the step was traced.
        runs: How often it was run.
        remark: What to say about how it is recorded; empty if there is nothing.
        handed: ids of the framework's variables of which the latest run handed
            a gradient to any optimizer.
    """

    def __init__(self, model, batch, layout, strategy=None, replicas=1):
        self._backend = backends.current()
        self._model, self._layout = model, layout
        self._strategy, self._replicas = strategy, replicas
        self._variables = keras_internals.trained_weights(model)
        self._batch = pack_tensors(self._backend, batch)
        self._standins = step_standins.StandIns(model, layout, batch.y, self._backend)
        self._compiled = {}  # whether unscaled -> the signature when it was traced, the step
        self.draws = draws.Draws(model)
        self.traces = 0
        self.runs = 0
        self.remark = ""
        self.handed = frozenset()

    def record(self, point=None, is_unscaled=False):
        """Runs the step once at the model's present state.

        Args:
            point: float64, shape (P,). Parameters to run it at; the model's
                own if None.
            is_unscaled: Whether the optimizer scales losses by 1.

        Returns:
            A `Recording`.

        Raises:
            RecordingError: If the step raises, keeps state where no copy can
                stand in for it, or hands nothing to the optimizer.
        """
        self.runs += 1
        is_eager = self._backend.runs_eagerly(self._model)
        run = self._run_eagerly if is_eager else self._run_compiled
        try:
            (gradients, loss), handover = run(point, is_unscaled)
        except RecordingError:
            raise
        except Exception as error:  # whatever a user's train_step raises
            message = f"`train_step` raised {failing_layer.first_line(error)}"
            raise RecordingError(message) from error
        return self._make_recording(gradients, loss, handover, is_unscaled)

    def replace_batch(self, batch):
        """Runs on another `batch.Batch` of the same shapes and dtypes from now on."""
        self._batch = pack_tensors(self._backend, batch)

    def states(self):
        """Returns pairs (name, array) of the variables that the step may keep beside the weights.

        Those of optimizers are left out: they never reach a gradient.
        """
        with self._untouched() as belongings:
            variables = self._standins.framework_variables(belongings)
        weights = [*self._variables, *self._model.optimizer.variables]
        left_out = {id(self._backend.storage_of(variable)) for variable in weights}
        pairs = []
        for variable in variables:
            if id(variable) not in left_out:
                pairs.append((variable.name.partition(":")[0], np.asarray(variable)))
        return pairs

    def _run_compiled(self, point, is_unscaled):
        """Runs the compiled step; traces it at first, and when the optimizer was built since."""
        optimizer = self._model.optimizer
        signature = (id(optimizer), getattr(optimizer, "built", None), self._model.jit_compile)
        former_signature, compiled = self._compiled.get(is_unscaled, (None, None))
        if former_signature != signature:
            compiled = self._compile(is_unscaled)
            self._compiled[is_unscaled] = signature, compiled
        with self._untouched() if compiled.calls_python else contextlib.nullcontext():
            return compiled(self._batch, self._standins.values(point, is_unscaled))

    def _compile(self, is_unscaled):
        """Returns the step as the backend compiles it."""
        is_xla = bool(self._model.jit_compile)

        def compile_step(step, functions, shadows):
            return self._backend.CompiledStep(
                step, self._batch, variables, is_xla, functions, shadows
            )

        with self._untouched() as belongings:
            variables = self._standins.framework_variables(belongings)
            compiled = self._with_functions(belongings, compile_step, is_unscaled)
        self.traces += 1
        return compiled

    def _run_eagerly(self, point, is_unscaled):
        with self._untouched() as belongings:
            eager = self._backend.EagerStep(self._standins.framework_variables(belongings))

            def run_step(step, functions, _):
                values = self._standins.values(point, is_unscaled)
                return eager(step, self._batch, values, functions)

            return self._with_functions(belongings, run_step, is_unscaled)

    def _with_functions(self, belongings, make, is_unscaled):
        """Returns `make(step, functions, shadows)`.

        The user's compiled functions are inlined or, where that fails, copied.

        Args:
            belongings: The `untouched.Untouched` that is open.
            make: Function (step, context for the functions, pairs of storage and copy).
            is_unscaled: Whether the optimizer scales losses by 1.
        """

        def prepare_and_make(functions):
            prepared = self._standins.prepare(belongings, is_unscaled)
            with prepared as (notes, shadows), self.draws.fix(self._backend):
                return make(lambda batch: self._step(batch, notes), functions, shadows)

        try:
            return belongings.run(lambda: prepare_and_make(self._backend.inline_functions()))
        except RecordingError:
            raise
        except Exception as error:
            belongings.restore()
            try:
                return belongings.run(lambda: prepare_and_make(self._backend.copy_functions()))
            except Exception:
                raise error from None  # without copies the traceback leads to the line

    def _untouched(self):
        return untouched.Untouched(self._model)

    def _step(self, batch, notes):
        """Runs `train_step`.

        Returns:
            Nested tensors (the gradient of each variable, a list with the loss
            or without), and a `recording.Handover`.
        """
        notes.clear()
        self.draws.begin()
        loss = self._run_train_step(batch)
        gradients, handover = recording.sort_by_variable(notes, self._variables)
        sums = []
        for number, variable in enumerate(self._variables):
            shape, is_complex = self._layout.shapes[number], keras_internals.is_complex(variable)
            sums.append(self._backend.sum_gradients(gradients[number], shape, is_complex))
        return (sums, loss), handover

    def _run_train_step(self, batch):
        """Runs `train_step`; returns a list of the scalar that it calls the loss, or an empty one.

        Averages over other batches, and what is divided among replicas, are not
        the loss of this batch.
        """
        means = {id(metric) for metric in self._standins.loss_means()}
        other_results = []
        with threads.open_patcher() as patch:
            for metric in self._standins.metrics():
                if id(metric) not in means:
                    patch(metric, "result", _note_results(metric.result, other_results))
            with self._backend.replica_context(self._strategy):
                logs = self._backend.run_train_step(self._model, batch)
        loss = logs.get("loss") if isinstance(logs, dict) else None
        if loss is None or any(loss is result for result in other_results):
            return []
        if distribution.replicas_of(self._model) > 1:
            return []
        return self._backend.select_scalars([loss])

    def _make_recording(self, gradients, loss, handover, is_unscaled):
        self.handed = frozenset(id(self._backend.storage_of(v)) for v in handover.variables)
        handover.check()
        is_wide = any(gradient.dtype == "float64" for gradient in gradients)
        flat = self._backend.flatten(gradients, "float64" if is_wide else "float32")
        if self._replicas > 1:
            flat *= self._replicas
        keras_variables = [v for v in handover.variables if hasattr(v, "_value")]
        outdated = compiled_step.find_outdated(self._model, keras_variables, handover.optimizers[0])
        scale, is_scale_found = 1.0, False
        if not is_unscaled:
            scale, is_scale_found = optimizers.scale_of(self._model.optimizer)
        return Recording(
            flat,
            np.array(handover.shares) > 0,
            handover.applications,
            len(handover.optimizers),
            float(loss[0]) if loss else None,
            scale,
            is_scale_found,
            outdated,
            np.array(handover.shares),
        )


def pack_tensors(backend, batch):
    """Returns a `batch.Batch` as `train_step` takes its data, as tensors."""
    data = keras.utils.pack_x_y_sample_weight(batch.x, batch.y, batch.sample_weight)
    return keras.tree.map_structure(lambda a: None if a is None else backend.to_tensor(a), data)


def _note_results(function, results):
    """Wraps a function so that what it returns is appended to a list."""

    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        results.append(result)
        return result

    return call
