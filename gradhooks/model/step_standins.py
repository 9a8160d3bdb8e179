"""What stands in for the model's state while its `train_step` is recorded."""

import contextlib

import keras
import numpy as np

from gradhooks.isolation import threads
from gradhooks.model import compiled_loss, keras_internals, optimizers


class StandIns:
    """Prepares a model for a run of its `train_step` that leaves nothing behind.

    Args:
        model: A compiled `keras.Model`.
        layout: The `Layout` of the trainable variables.
        y: The targets of the batch, or None.
        backend: The backend module.
    """

    def __init__(self, model, layout, y, backend):
        self._model = model
        self._layout = layout
        self._y = y
        self._backend = backend
        self._variables = keras_internals.trained_weights(model)

    @contextlib.contextmanager
    def prepare(self, belongings, is_unscaled):
        """While open, optimizers note what they receive, and replicated variables are copies.

        Args:
            belongings: The `untouched.Untouched` in which the step runs.
            is_unscaled: Whether the optimizers scale losses by 1.

        Yields:
            List of (optimizer, pairs of gradient and variable), and pairs
            (storage, copy) of the variables of which every replica holds a copy.
        """
        model, notes, shadows = self._model, [], []
        with threads.open_patcher() as patch:
            container = compiled_loss.make_standin(model, self._y)
            if container is not None:
                patch(model, "_compile_loss", container)
            # Metrics have no part in the gradient, and would build themselves at their first call.
            patch(model, "_compile_metrics", None)
            for variable in self._replicated_variables():
                storage = self._backend.storage_of(variable)
                shadow = self._backend.copy_storage(storage, variable.trainable)
                shadows.append((storage, shadow))
                patch(variable, "_value", shadow)

            def prepare_optimizer(optimizer):
                if is_unscaled:
                    optimizers.unscale(patch, optimizer)
                optimizers.note_gradients(patch, optimizer, notes, model, self._backend)

            for optimizer in self._optimizers(belongings):
                prepare_optimizer(optimizer)
            # A step may make one at its first run.
            optimizers.note_new_optimizers(patch, prepare_optimizer)
            yield notes, shadows

    def _optimizers(self, belongings):
        """Returns the model's optimizer and all others that it leads to, each once."""
        found = {id(self._model.optimizer): self._model.optimizer}
        for value in belongings.objects:
            if isinstance(value, keras.optimizers.Optimizer):
                found[id(value)] = value
        return list(found.values())

    def _replicated_variables(self):
        """Returns the variables of which every replica holds a copy."""
        replicated = []
        for variable in [*self._variables, *keras_internals.state_of(self._model)]:
            storage = self._backend.storage_of(variable)
            if storage is not None and not self._backend.is_variable(storage):
                replicated.append(variable)
        return replicated

    def framework_variables(self, belongings):
        """Returns all of the framework's variables that the step may lead to, each once."""
        candidates = list(belongings.objects)
        own = [*self._variables, *keras_internals.state_of(self._model)]
        own += self._model.optimizer.variables
        candidates += [self._backend.storage_of(variable) for variable in own]
        candidates += [self._backend.generator_state(value) for value in candidates]
        variables = {}
        for candidate in candidates:
            if self._backend.is_variable(candidate):
                variables[id(candidate)] = candidate
        return list(variables.values())

    def values(self, point, is_unscaled):
        """Returns pairs (storage, tensor): other values than the present ones.

        Metrics that average losses start anew, so that their result is the loss
        of this batch alone.

        Args:
            point: float64, shape (P,). The parameters; None for the present ones.
            is_unscaled: Whether a dynamic loss scale becomes 1.
        """
        tensor = self._backend.to_tensor
        pairs = []
        for metric in self.loss_means():
            for variable in metric.variables:
                pairs.append((variable, tensor(np.zeros(variable.shape))))
        # There is a dynamic scale once the optimizer is built.
        scale = getattr(self._model.optimizer, "dynamic_scale", None) if is_unscaled else None
        if scale is not None:
            pairs.append((scale, tensor(np.ones(()))))
        if point is not None:
            for number, variable in enumerate(self._variables):
                pairs.append((variable, self._value_at(point, number, variable)))
        stored = [(self._backend.storage_of(v), value) for v, value in pairs]
        return [(storage, value) for storage, value in stored if storage is not None]

    def _value_at(self, point, number, variable):
        """Returns a variable's part of a point in double precision; writing it casts it."""
        part = point[self._layout.slice(number)].reshape(self._layout.shapes[number])
        dtype = "complex128" if keras_internals.is_complex(variable) else "float64"
        return self._backend.from_pairs(self._backend.to_tensor(part), dtype)

    def metrics(self):
        """Returns the model's metrics, also those inside of others."""
        return compiled_loss.metrics_of(self._model, None)

    def loss_means(self):
        """Returns the metrics that average losses over batches."""
        means = []
        for metric in self.metrics():
            if isinstance(metric, keras.metrics.Mean) and "loss" in metric.name:
                means.append(metric)
        return means
