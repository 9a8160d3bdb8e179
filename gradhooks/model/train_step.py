"""The gradient that the optimizer receives: the model's own `train_step`, run once on shadows.

While the step is traced (or run, in eager mode) every variable's storage is
swapped for a copy, and every optimizer for one that notes the gradients and
applies nothing. Whatever the step does, it does to the copies.
"""

import contextlib
import dataclasses

import numpy as np

from gradhooks import backends
from gradhooks.errors import RecordingError
from gradhooks.model import blame, keras_internals, swapping


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
    """

    gradient: np.ndarray
    received: np.ndarray
    applications: int
    optimizers: int


class TrainStep:
    """Records gradients from a model's `train_step`, compiled as the user compiled it.

    Args:
        model: A compiled `keras.Model`.
        batch: The fixed minibatch, a `batch.Batch`.
        layout: The `Layout` of the trainable variables.
    """

    def __init__(self, model, batch, layout):
        self._backend = backends.current()
        self._model, self._layout = model, layout
        self._variables = list(model.trainable_variables)
        self._batch = _nested_tensors(self._backend, batch)
        self._y = batch.y
        self._compiled = None
        self._signature = None
        self.traces = 0
        self.runs = 0

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
            with keras_internals.Untouched(self._model):
                self._prepare()
                noted = self._run(point)
        except RecordingError:
            raise
        except Exception as error:  # whatever a user's train_step raises
            raise RecordingError(f"`train_step` raised {blame.first_line(error)}") from error
        return self._recording(noted)

    def _prepare(self):
        """Traces, at first or when the optimizer has been built since."""
        optimizer = self._model.optimizer
        signature = (id(optimizer), getattr(optimizer, "built", None), self._model.run_eagerly, self._model.jit_compile)
        if signature == self._signature:
            return
        self._shadows = _Shadows(self._backend, self._model, self._y)
        with self._shadows.standing_in() as noted:
            self._compiled = self._backend.Step(
                lambda batch: self._step(batch, noted), self._batch, bool(self._model.jit_compile)
            )
        self.traces += 1
        foreign = self._compiled.foreign_writes(self._shadows.storage())
        if foreign:
            raise RecordingError(
                "`train_step` writes to state outside Keras variables, which cannot be kept out: "
                + ", ".join(foreign[:3])
            )
        self._signature = signature

    def _run(self, point):
        self._shadows.copy()
        if point is not None:
            parts = [point[self._layout.slice(v)].reshape(s) for v, s in enumerate(self._layout.shapes)]
            self._shadows.move(self._variables, parts)
        if not self._model.run_eagerly:
            return self._compiled(self._batch)
        # The trace above was for inspection; eager code runs as it stands.
        with self._shadows.standing_in() as noted:
            return self._step(self._batch, noted)

    def _step(self, batch, noted):
        """Runs `train_step` and returns what was noted: gradients per variable, counts."""
        noted.clear()
        self._model.train_step(batch)
        known = {id(v): k for k, v in enumerate(self._variables)}
        gradients = [[] for _ in self._variables]
        for _, pairs in noted:
            for gradient, variable in pairs:
                if gradient is not None and id(variable) in known:
                    gradients[known[id(variable)]].append(gradient)
        summed = [self._backend.summed(g, v.shape) for g, v in zip(gradients, self._variables, strict=True)]
        return summed, [bool(g) for g in gradients], len(noted), len({id(owner) for owner, _ in noted})

    def _recording(self, noted):
        gradients, received, applications, optimizers = noted
        if not applications:
            raise RecordingError(
                "`train_step` handed nothing to `model.optimizer`; pass train_step=False if another optimizer is meant"
            )
        if optimizers > 1:
            raise RecordingError(
                f"`train_step` uses {optimizers} optimizers, so there is no single loss whose gradient they receive"
            )
        is_wide = any(g.dtype == "float64" for g in gradients)
        flat = self._backend.flattened(gradients, "float64" if is_wide else "float32")
        return Recording(flat, np.array(received), applications, optimizers)


def _nested_tensors(backend, batch):
    import keras

    data = keras.utils.pack_x_y_sample_weight(batch.x, batch.y, batch.sample_weight)
    return keras.tree.map_structure(lambda a: None if a is None else backend.tensor(a), data)


def _held_by_layers(model):
    """Keras variables in attributes of layers; some are in no list of Keras', as the states of a stateful LSTM."""
    import keras

    queue = [value for layer in keras_internals.layers_of(model) for value in vars(layer).values()]
    found, seen = [], set()
    while queue:
        value = queue.pop()
        if isinstance(value, keras.Variable):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)) and id(value) not in seen:
            seen.add(id(value))
            queue.extend(value.values() if isinstance(value, dict) else value)
    return [v for v in found if getattr(v, "_value", None) is not None]


class _Shadows:
    """Copies that stand in for everything that a train step could write to."""

    def __init__(self, backend, model, y):
        self._backend, self._model = backend, model
        self._container = keras_internals.fresh_compile_loss(model, y)
        # By attribute: an optimizer, or containers of them, as models with several keep them.
        self._optimizers = {name: value for name, value in vars(model).items() if _optimizers_in(value)}
        variables = [*model.trainable_variables, *keras_internals.state_of(model)]
        variables += _held_by_layers(model)
        variables += self._container.variables if self._container is not None else []
        variables += [v for value in self._optimizers.values() for o in _optimizers_in(value) for v in o.variables]
        self._variables = list({id(v): v for v in variables}.values())
        self._copies = [backend.shadow(v.value, v.trainable) for v in self._variables]
        self._raw = [
            (owner, name, value, backend.shadow(value, True))
            for owner in [model, *keras_internals.layers_of(model)]
            for name, value in list(vars(owner).items())
            if backend.is_raw_state(value)
        ]

    def storage(self):
        """Returns everything that may be written to."""
        return [*self._copies, *(copy for *_, copy in self._raw)]

    def copy(self):
        """Brings the copies to the present values."""
        for variable, copy in zip(self._variables, self._copies, strict=True):
            self._backend.assign(copy, variable.value)
        for *_, value, copy in self._raw:
            self._backend.assign(copy, value)

    def move(self, variables, values):
        """Sets the copies of some variables to values of float64."""
        copies = {id(v): copy for v, copy in zip(self._variables, self._copies, strict=True)}
        for variable, value in zip(variables, values, strict=True):
            copy = copies[id(variable)]
            self._backend.assign(copy, self._backend.cast(self._backend.tensor(value), variable._dtype))

    @contextlib.contextmanager
    def standing_in(self):
        """While open, the copies are what the model holds; yields the list of (optimizer, pairs) that were applied."""
        noted = []
        with contextlib.ExitStack() as stack:
            put = swapping.Swap(stack)
            stack.enter_context(self._backend.isolated_generator())
            if self._container is not None:
                put(self._model, "_compile_loss", self._container)
            # Metrics have no part in the gradient, and would build themselves at their first call.
            put(self._model, "_compile_metrics", None)
            for variable, copy in zip(self._variables, self._copies, strict=True):
                put(variable, "_value", copy)
            for owner, name, _, copy in self._raw:
                put(owner, name, copy)
            for name, value in self._optimizers.items():
                put(self._model, name, _recording(value, noted))
            yield noted


def _optimizers_in(value):
    """The optimizers that an attribute holds, itself or in plain containers; not those of Keras' own bookkeeping."""
    import keras

    if isinstance(value, keras.optimizers.Optimizer):
        return [value]
    if isinstance(value, dict):
        return [o for inner in value.values() for o in _optimizers_in(inner)]
    if isinstance(value, (list, tuple)):
        return [o for inner in value for o in _optimizers_in(inner)]
    return []


def _recording(value, noted):
    """The attribute's value with a recording double for every optimizer in it."""
    import keras

    if isinstance(value, keras.optimizers.Optimizer):
        return recording_optimizer(value, noted)
    if isinstance(value, dict):
        return {key: _recording(inner, noted) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        doubles = [_recording(inner, noted) for inner in value]
        return tuple(doubles) if isinstance(value, tuple) else doubles
    return value


def recording_optimizer(optimizer, noted):
    """Returns a double of an optimizer that notes gradients, unscaled, and applies nothing.

    Args:
        optimizer: A `keras.optimizers.Optimizer`.
        noted: List to which (optimizer, pairs of gradient and variable) goes.
    """
    kind = type(optimizer)
    inner = getattr(optimizer, "inner_optimizer", None)

    def scale():
        if inner is not None:
            return optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        return optimizer.loss_scale_factor

    def note(gradients, variables):
        factor = scale()
        pairs = [(_divided(g, factor), v) for g, v in zip(gradients, variables, strict=True)]
        noted.append((optimizer, pairs))

    class RecordingOptimizer(kind):
        def build(self, variables):
            """Makes no slots: nothing is applied."""

        def apply(self, grads, trainable_variables=None):
            note(list(grads), list(trainable_variables or self._trainable_variables))

        def apply_gradients(self, grads_and_vars, **kwargs):
            gradients, variables = zip(*grads_and_vars, strict=True)
            note(gradients, variables)

    double = object.__new__(RecordingOptimizer)
    vars(double).update(vars(optimizer))
    if inner is not None:
        swapping.replace(double, "inner_optimizer", recording_optimizer(inner, noted))
    return double


def _divided(gradient, factor):
    import keras

    if gradient is None or factor is None:
        return gradient
    if hasattr(gradient, "values"):
        # Rows of an embedding, kept sparse.
        values = gradient.values / keras.ops.cast(factor, gradient.values.dtype)
        return type(gradient)(values, gradient.indices, gradient.dense_shape)
    return gradient / keras.ops.cast(factor, gradient.dtype)
