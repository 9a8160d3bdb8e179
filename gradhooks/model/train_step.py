"""The gradient that the optimizer receives: the model's own `train_step`, run once on copies.

Every optimizer notes the gradients that it receives and applies nothing. A step
that is compiled is traced as training would trace it, and its graph is run with
copies of all variables that it captures. A step that runs eagerly runs as it
stands, while its variables lead to copies. Only the checking thread sees any of it.
"""

import contextlib
import dataclasses

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
    untouched,
)
from gradhooks.reports.errors import RecordingError


@dataclasses.dataclass(frozen=True)
class Recording:
    """What one `train_step` handed to the optimizer.

    Args:
        gradient: float64 or, where that holds all there is, float32, shape
            (P,). Unscaled; summed where a variable was applied more than once;
            zero where nothing came.
        received: bool, shape (V,). Whether a gradient came for the variable.
        applications: How often gradients were applied.
        optimizers: How many optimizers were used.
        loss: What the step returned as `"loss"`, for this batch alone; None if
            it returned no such number.
        scale: By what the optimizer scales losses.
        is_scale_found: Whether the optimizer looks for that scale itself, and
            leaves out steps whose gradient is not finite.
        outdated: How the step that `fit` compiled before differs, a `compiled_step.Outdated`.
    """

    gradient: np.ndarray
    received: np.ndarray
    applications: int
    optimizers: int
    loss: float | None = None
    scale: float = 1.0
    is_scale_found: bool = False
    outdated: compiled_step.Outdated = compiled_step.UP_TO_DATE

    @property
    def norm(self):
        """Euclidean norm of the gradient."""
        return float(np.linalg.norm(self.gradient.astype(np.float64, copy=False)))


class TrainStep:
    """Records gradients from a model's `train_step`, compiled as the user compiled it.

    Args:
        model: A compiled `keras.Model`.
        batch: The fixed minibatch, a `batch.Batch`.
        layout: The `Layout` of the trainable variables.
        strategy: None, or the strategy of which the step runs as a replica.
        replicas: How many replicas hand on what this one does; their optimizer adds it up.
    """

    def __init__(self, model, batch, layout, strategy=None, replicas=1):
        self._backend = backends.current()
        self._model, self._layout = model, layout
        self._strategy, self._replicas = strategy, replicas
        self._variables = list(model.trainable_variables)
        self._batch = _nested_tensors(self._backend, batch)
        self._y = batch.y
        self.draws = draws.Draws(model)
        self._compiled = {}  # whether unscaled -> the signature when it was traced, the step
        self.traces = 0
        self.runs = 0
        #: What to say about how it is recorded.
        self.remark = ""
        #: ids of the framework's variables of which the latest run handed a gradient to any optimizer.
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
        try:
            is_eager = self._model.run_eagerly
            noted = (self._run_eagerly if is_eager else self._run_compiled)(point, is_unscaled)
        except RecordingError:
            raise
        except Exception as error:  # whatever a user's train_step raises
            raise RecordingError(
                f"`train_step` raised {failing_layer.first_line(error)}"
            ) from error
        return self._recording(noted, is_unscaled)

    def replace_batch(self, batch):
        """Runs on another `batch.Batch` of the same shapes and dtypes from now on."""
        self._batch = _nested_tensors(self._backend, batch)

    def _run_compiled(self, point, is_unscaled):
        """Runs the compiled step; traces it at first, or when the optimizer has been built since."""
        optimizer = self._model.optimizer
        signature = (id(optimizer), getattr(optimizer, "built", None), self._model.jit_compile)
        traced, compiled = self._compiled.get(is_unscaled, (None, None))
        if traced != signature:
            is_xla = bool(self._model.jit_compile)
            with self._untouched() as belongings:
                compiled = self._first_that_works(
                    belongings,
                    lambda step, functions, shadows: self._backend.CompiledStep(
                        step, self._batch, is_xla, functions, shadows
                    ),
                    is_unscaled,
                )
            self.traces += 1
            self._compiled[is_unscaled] = signature, compiled
        with self._untouched() if compiled.calls_python else contextlib.nullcontext():
            return compiled(self._batch, self._moved(point, is_unscaled))

    def _run_eagerly(self, point, is_unscaled):
        with self._untouched() as belongings:
            eager = self._backend.EagerStep(self._variables_of(belongings))
            return self._first_that_works(
                belongings,
                lambda step, functions, _: eager(
                    step, self._batch, self._moved(point, is_unscaled), functions
                ),
                is_unscaled,
            )

    def _first_that_works(self, belongings, make, is_unscaled):
        """Returns `make(step, functions, shadows)`, functions of the user's inlined or, where that fails, copied."""

        def made(functions):
            with (
                self._prepared(belongings, is_unscaled) as (noted, shadows),
                self.draws.fixed(self._backend),
            ):
                return make(lambda batch: self._step(batch, noted), functions, shadows)

        try:
            return belongings.run(lambda: made(self._backend.inline_functions()))
        except RecordingError:
            raise
        except Exception as error:
            belongings.restore()
            try:
                return belongings.run(lambda: made(self._backend.copy_functions()))
            except Exception:
                raise error from None  # without copies the traceback leads to the line

    def _untouched(self):
        return untouched.Untouched(self._model)

    def _variables_of(self, belongings):
        """All variables of the framework's that the step may lead to."""
        found = list(belongings.objects)
        known = [
            *self._variables,
            *keras_internals.state_of(self._model),
            *self._model.optimizer.variables,
        ]
        found += [v._value for v in known]
        found += [self._backend.generator_state(value) for value in found]
        return list({id(v): v for v in found if self._backend.is_variable(v)}.values())

    def _moved(self, point, is_unscaled):
        """Pairs (storage, tensor): parameters at a point, means of losses at their start, and the scale 1."""
        values = [
            (variable, np.zeros(variable.shape)) for m in self._means() for variable in m.variables
        ]
        if is_unscaled:
            scale = getattr(
                self._model.optimizer, "dynamic_scale", None
            )  # there is one once the optimizer is built
            values += [] if scale is None else [(scale, np.ones(()))]
        values = [(v, self._backend.to_tensor(value)) for v, value in values]
        if point is not None:
            parts = [
                point[self._layout.slice(v)].reshape(s) for v, s in enumerate(self._layout.shapes)
            ]
            values += [
                (v, self._of_pairs(v, part)) for v, part in zip(self._variables, parts, strict=True)
            ]
        return [(v._value, value) for v, value in values if v._value is not None]

    def _of_pairs(self, variable, part):
        """A parameter as its variable holds it, in double precision as it is; what writes it casts it."""
        dtype = "complex128" if keras_internals.is_complex(variable) else "float64"
        return self._backend.from_pairs(self._backend.to_tensor(part), dtype)

    def _means(self):
        """The metrics that mean losses over batches: begun anew, their result is the loss of this batch alone."""
        import keras

        return [
            m for m in self._metrics() if isinstance(m, keras.metrics.Mean) and "loss" in m.name
        ]

    def _metrics(self):
        return keras_internals.metrics_of(self._model, None)

    @contextlib.contextmanager
    def _prepared(self, belongings, is_unscaled):
        """While open, optimizers note what they receive, and variables of several replicas are copies of one.

        Yields:
            List of (optimizer, pairs of gradient and variable), and pairs (storage, copy).
        """
        import keras

        noted, shadows, model = [], [], self._model
        with contextlib.ExitStack() as stack:
            put = threads.Patcher(stack)
            container = keras_internals.fresh_compile_loss(model, self._y)
            if container is not None:
                put(model, "_compile_loss", container)
            # Metrics have no part in the gradient, and would build themselves at their first call.
            put(model, "_compile_metrics", None)
            for variable in self._shared_out():
                shadows.append(
                    (
                        variable._value,
                        self._backend.copy_storage(variable._value, variable.trainable),
                    )
                )
                put(variable, "_value", shadows[-1][1])
            found = [o for o in belongings.objects if isinstance(o, keras.optimizers.Optimizer)]
            for optimizer in {id(o): o for o in [model.optimizer, *found]}.values():
                if is_unscaled:
                    optimizers.unscale(put, optimizer)
                optimizers.note_gradients(put, optimizer, noted)
            yield noted, shadows

    def _shared_out(self):
        """The variables of which every replica holds a copy."""
        variables = [*self._variables, *keras_internals.state_of(self._model)]
        return [
            v for v in variables if v._value is not None and not self._backend.is_variable(v._value)
        ]

    def _step(self, batch, noted):
        """Runs `train_step`; returns what was noted: gradients per variable and the loss, counts, what went to whom."""
        noted.clear()
        self.draws.begin()
        loss = self._loss_of_step(batch)
        known = {id(v): k for k, v in enumerate(self._variables)}
        gradients = [[] for _ in self._variables]
        for _, pairs in noted:
            for gradient, variable in pairs:
                if gradient is not None and id(variable) in known:
                    gradients[known[id(variable)]].append(gradient)
        summed = [
            self._backend.sum_gradients(g, shape, keras_internals.is_complex(v))
            for g, v, shape in zip(gradients, self._variables, self._layout.shapes, strict=True)
        ]
        handed = [v for _, pairs in noted for gradient, v in pairs if gradient is not None]
        owners = list({id(owner): owner for owner, _ in noted}.values())
        return (summed, loss), [bool(g) for g in gradients], len(noted), owners, handed

    def _loss_of_step(self, batch):
        """Runs `train_step`; returns what it calls the loss, a list of one scalar; an empty one if it tells none."""
        means, others = {id(m) for m in self._means()}, []
        with contextlib.ExitStack() as stack:
            put = threads.Patcher(stack)
            for metric in self._metrics():
                if id(metric) not in means:
                    put(metric, "result", _noted(metric.result, others))
            stack.enter_context(self._backend.replica_context(self._strategy))
            told = self._model.train_step(batch)
        loss = told.get("loss") if isinstance(told, dict) else None
        if (
            loss is None
            or any(loss is other for other in others)
            or distribution.replicas_of(self._model) > 1
        ):
            return []  # what is meant over other batches, or divided among replicas, is not the loss of this batch
        return self._backend.select_scalars([loss])

    def _recording(self, noted, is_unscaled):
        (gradients, loss), received, applications, owners, handed = noted
        self.handed = frozenset(id(getattr(v, "_value", v)) for v in handed)
        if not applications:
            raise RecordingError(
                "`train_step` handed nothing to `model.optimizer`; pass train_step=False if another optimizer is meant"
            )
        if len(owners) > 1:
            raise RecordingError(
                f"`train_step` uses {len(owners)} optimizers, so there is no single loss whose gradient they receive"
            )
        is_wide = any(g.dtype == "float64" for g in gradients)
        flat = self._backend.flatten(gradients, "float64" if is_wide else "float32")
        if self._replicas > 1:
            flat *= self._replicas
        outdated = compiled_step.find_outdated(
            self._model, [v for v in handed if hasattr(v, "_value")], owners[0]
        )
        scale, is_scale_found = (
            (1.0, False) if is_unscaled else optimizers.scale_of(self._model.optimizer)
        )
        loss = float(loss[0]) if loss else None
        return Recording(
            flat,
            np.array(received),
            applications,
            len(owners),
            loss,
            scale,
            is_scale_found,
            outdated,
        )


def _nested_tensors(backend, batch):
    import keras

    data = keras.utils.pack_x_y_sample_weight(batch.x, batch.y, batch.sample_weight)
    return keras.tree.map_structure(lambda a: None if a is None else backend.to_tensor(a), data)


def _noted(function, results):
    """Wraps a function so that what it returns is appended to a list."""

    def noting(*args, **kwargs):
        results.append(function(*args, **kwargs))
        return results[-1]

    return noting
