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
from gradhooks.errors import RecordingError
from gradhooks.isolation import threads
from gradhooks.model import blame, compiled_step, keras_internals, noise, untouched


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
        outdated: How the step that `fit` compiled before differs, a `compiled_step.Outdated`.
    """

    gradient: np.ndarray
    received: np.ndarray
    applications: int
    optimizers: int
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
        self.draws = noise.Draws(model)
        self._compiled = self._signature = None
        self.traces = 0
        self.runs = 0
        #: What to say about how it is recorded.
        self.remark = ""
        #: ids of the framework's variables of which the latest run handed a gradient to any optimizer.
        self.handed = frozenset()

    def record(self, point=None):
        """Runs the step once at the model's present state.

        Args:
            point: float64, shape (P,). Parameters to run it at; the model's
                own if None.

        Returns:
            A `Recording`.

        Raises:
            RecordingError: If the step raises, keeps state where no copy can
                stand in for it, or hands nothing to the optimizer.
        """
        self.runs += 1
        try:
            is_eager = self._model.run_eagerly
            noted = self._run_eagerly(point) if is_eager else self._run_compiled(point)
        except RecordingError:
            raise
        except Exception as error:  # whatever a user's train_step raises
            raise RecordingError(f"`train_step` raised {blame.first_line(error)}") from error
        return self._recording(noted)

    def _run_compiled(self, point):
        """Runs the compiled step; traces it at first, or when the optimizer has been built since."""
        optimizer = self._model.optimizer
        signature = (id(optimizer), getattr(optimizer, "built", None), self._model.jit_compile)
        if signature != self._signature:
            is_xla = bool(self._model.jit_compile)
            with self._untouched() as belongings:
                self._compiled = self._first_that_works(
                    belongings,
                    lambda step, functions, shadows: self._backend.Step(step, self._batch, is_xla, functions, shadows),
                )
            self.traces += 1
            self._signature = signature
        with self._untouched() if self._compiled.calls_python else contextlib.nullcontext():
            return self._compiled(self._batch, self._moved(point))

    def _run_eagerly(self, point):
        with self._untouched() as belongings:
            eager = self._backend.EagerStep(self._variables_of(belongings))
            return self._first_that_works(
                belongings, lambda step, functions, _: eager(step, self._batch, self._moved(point), functions)
            )

    def _first_that_works(self, belongings, make):
        """Returns `make(step, functions, shadows)`, functions of the user's inlined or, where that fails, copied."""
        try:
            return belongings.run(lambda: self._made(belongings, make, self._backend.inlined_functions()))
        except RecordingError:
            raise
        except Exception as error:
            belongings.restore()
            try:
                return belongings.run(lambda: self._made(belongings, make, self._backend.copied_functions()))
            except Exception:
                raise error from None  # without copies the traceback leads to the line

    def _made(self, belongings, make, functions):
        with self._prepared(belongings) as (noted, shadows), self.draws.fixed(self._backend):
            return make(lambda batch: self._step(batch, noted), functions, shadows)

    def _untouched(self):
        return untouched.Untouched(self._model)

    def _variables_of(self, belongings):
        """All variables of the framework's that the step may lead to."""
        found = list(belongings.objects)
        found += [v._value for v in [*self._variables, *keras_internals.state_of(self._model)]]
        found += [self._backend.state_of_generator(value) for value in found]
        return list({id(v): v for v in found if self._backend.is_variable(v)}.values())

    def _moved(self, point):
        """Pairs (storage, tensor) for parameters at a point."""
        if point is None:
            return []
        parts = [point[self._layout.slice(v)].reshape(s) for v, s in enumerate(self._layout.shapes)]
        pairs = zip(self._variables, parts, strict=True)
        # In double precision, as the parts are; what writes it casts it.
        return [
            (v._value, self._backend.unpaired(part, "complex128" if keras_internals.is_complex(v) else "float64"))
            for v, part in ((v, self._backend.tensor(part)) for v, part in pairs)
        ]

    @contextlib.contextmanager
    def _prepared(self, belongings):
        """While open, optimizers note what they receive, and variables of several replicas are copies of one.

        Yields:
            List of (optimizer, pairs of gradient and variable), and pairs (storage, copy).
        """
        import keras

        noted, shadows, model = [], [], self._model
        with contextlib.ExitStack() as stack:
            put = threads.Swap(stack)
            container = keras_internals.fresh_compile_loss(model, self._y)
            if container is not None:
                put(model, "_compile_loss", container)
            # Metrics have no part in the gradient, and would build themselves at their first call.
            put(model, "_compile_metrics", None)
            for variable in self._shared_out():
                shadows.append((variable._value, self._backend.shadow(variable._value, variable.trainable)))
                put(variable, "_value", shadows[-1][1])
            optimizers = [o for o in belongings.objects if isinstance(o, keras.optimizers.Optimizer)]
            for optimizer in {id(o): o for o in [model.optimizer, *optimizers]}.values():
                _record(put, optimizer, noted)
            yield noted, shadows

    def _shared_out(self):
        """The variables of which every replica holds a copy."""
        variables = [*self._variables, *keras_internals.state_of(self._model)]
        return [v for v in variables if v._value is not None and not self._backend.is_variable(v._value)]

    def _step(self, batch, noted):
        """Runs `train_step` and returns what was noted: gradients per variable, counts, what was handed to whom."""
        noted.clear()
        self.draws.begin()
        with self._backend.as_replica(self._strategy):
            self._model.train_step(batch)
        known = {id(v): k for k, v in enumerate(self._variables)}
        gradients = [[] for _ in self._variables]
        for _, pairs in noted:
            for gradient, variable in pairs:
                if gradient is not None and id(variable) in known:
                    gradients[known[id(variable)]].append(gradient)
        summed = [
            self._backend.summed(g, shape, keras_internals.is_complex(v))
            for g, v, shape in zip(gradients, self._variables, self._layout.shapes, strict=True)
        ]
        handed = [v for _, pairs in noted for gradient, v in pairs if gradient is not None]
        owners = list({id(owner): owner for owner, _ in noted}.values())
        return summed, [bool(g) for g in gradients], len(noted), owners, handed

    def _recording(self, noted):
        gradients, received, applications, owners, handed = noted
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
        flat = self._backend.flattened(gradients, "float64" if is_wide else "float32")
        outdated = compiled_step.outdated(self._model, [v for v in handed if hasattr(v, "_value")], owners[0])
        if self._replicas > 1:
            flat *= self._replicas
        return Recording(flat, np.array(received), applications, len(owners), outdated)


def _nested_tensors(backend, batch):
    import keras

    data = keras.utils.pack_x_y_sample_weight(batch.x, batch.y, batch.sample_weight)
    return keras.tree.map_structure(lambda a: None if a is None else backend.tensor(a), data)


def _record(put, optimizer, noted):
    """Has an optimizer note the gradients that it receives, unscaled, and apply nothing.

    Args:
        put: A `threads.Swap`.
        optimizer: A `keras.optimizers.Optimizer`.
        noted: List to which (optimizer, pairs of gradient and variable) goes.
    """
    is_scaling = getattr(optimizer, "inner_optimizer", None) is not None

    def scale():
        if is_scaling:
            return optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        return optimizer.loss_scale_factor

    def note(gradients, variables):
        factor = scale()
        noted.append((optimizer, [(_divided(g, factor), v) for g, v in zip(gradients, variables, strict=True)]))

    def apply(grads, trainable_variables=None):
        note(list(grads), list(trainable_variables or optimizer._trainable_variables))

    def apply_gradients(grads_and_vars, **kwargs):
        gradients, variables = zip(*grads_and_vars, strict=True)
        note(gradients, variables)

    put(optimizer, "apply", apply)
    put(optimizer, "apply_gradients", apply_gradients)
    put(optimizer, "build", lambda variables: None)  # makes no slots


def _divided(gradient, factor):
    import keras

    if gradient is None or factor is None:
        return gradient
    if hasattr(gradient, "values"):
        # Rows of an embedding, kept sparse.
        values = gradient.values / keras.ops.cast(factor, gradient.values.dtype)
        return type(gradient)(values, gradient.indices, gradient.dense_shape)
    return gradient / keras.ops.cast(factor, gradient.dtype)
