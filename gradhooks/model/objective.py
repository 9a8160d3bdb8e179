"""The loss of a Keras model as a pure function of its parameters, with the penalty apart.

One forward pass gives total (regularization on), data (weight and activity
regularizers off) and penalty, their difference. A user's own `add_loss` is not
regularization and stays in the data term.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from gradhooks.isolation import threads
from gradhooks.model import keras_internals
from gradhooks.reports.errors import BadInputError


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is evaluated: a model with its compiled loss, or with a loss function of the user's.

    Args:
        model: The Keras model.
        training: Value of the `training` argument of the forward pass.
        loss_fn: None, or `loss_fn(model, x, y, sample_weight, training)`.
    """

    model: Any
    training: bool = True
    loss_fn: Callable | None = None

    @property
    def has_penalty(self):
        """Whether any regularizer takes part in the loss."""
        layers = keras_internals.layers_of(self.model)
        return bool(keras_internals.variables_with_regularizer(self.model)) or any(
            getattr(layer, "activity_regularizer", None) is not None for layer in layers
        )


def evaluate(
    objective,
    container,
    mapping,
    batch,
    finish,
    stand_in,
    draws,
    while_losing=contextlib.nullcontext,
):
    """Evaluates the loss terms without touching the model.

    Args:
        objective: An `Objective`.
        container: Stand-in for the model's compiled loss, or None.
        mapping: Pairs (variable, tensor) for every variable the loss may use.
        batch: `(x, y, sample_weight)`, nested tensors.
        finish: Called with (total, data, penalty) and a function that puts all
            state back to the start, while the values still stand for the
            variables. A backward pass belongs here: recomputed layers read
            variables and draw noise again.
        stand_in: Function (tensor, variable) -> what stands for the variable
            when the tensor is its value.
        draws: The `noise.Draws` of the trace.
        while_losing: Makes a context for the computation of the loss from the
            outputs, apart from the forward pass.

    Returns:
        What `finish` returns.
    """
    import keras

    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        if container is not None:
            put(objective.model, "_compile_loss", container)
        switch = _PenaltySwitch(objective.model, put) if objective.has_penalty else None
        scope = stack.enter_context(_scope(switch, mapping, stand_in))
        start = _state_of(scope)
        forward, loss = _stages(objective, batch)
        outputs = forward()
        after_forward, drawn = _state_of(scope), draws.position()
        with while_losing():
            total = loss(outputs)
            terms = total, total, keras.ops.zeros_like(total)
            if switch is not None:
                penalty = switch.penalty()
                _restore(scope, after_forward)
                draws.rewind(drawn)
                with switch.off(scope):
                    data = loss(outputs)
                # Summed directly the penalty keeps its digits, however large the data term.
                terms = total, data, total - data if _is_custom(objective) else penalty
        return finish(terms, lambda: _restore(scope, start))


def _stages(objective, batch):
    """Returns (forward, loss): the outputs, then the loss from the outputs."""
    x, y, sample_weight = batch
    model, training = objective.model, objective.training
    if objective.loss_fn is not None:
        return (lambda: None), lambda _: objective.loss_fn(model, x, y, sample_weight, training)
    return (
        lambda: keras_internals.forward(model, x, training),
        lambda y_pred: keras_internals.compute_loss(model, x, y, y_pred, sample_weight, training),
    )


def _is_custom(objective):
    return objective.loss_fn is not None or keras_internals.has_own_compute_loss(objective.model)


def _scope(switch, mapping, stand_in):
    import keras

    class Scope(keras.StatelessScope):
        def add_update(self, update):
            variable, value = update
            super().add_update((variable, stand_in(value, variable)))

        def add_loss(self, loss):
            super().add_loss(loss)
            if switch is not None:
                switch.note(loss)

    # Variables made inside, such as metrics of a loss that was never called, die with the trace.
    scope = Scope(collect_losses=True, initialize_variables=False)
    # Past the constructor, which would make tensors of variables, and nobody could look for them
    # any more.
    scope.state_mapping = {id(variable): stand_in(value, variable) for variable, value in mapping}
    return scope


def _state_of(scope):
    return dict(scope.state_mapping), list(scope.losses)


def _restore(scope, state):
    mapping, losses = state
    scope.state_mapping.clear()
    scope.state_mapping.update(mapping)
    scope.losses[:] = losses


class _PenaltySwitch:
    """Stands between the model and its regularizers: notes what they return, or has them return zero."""

    def __init__(self, model, put):
        self._is_on = True
        self._weight_penalties, self._activity_penalties = [], []
        self._is_activity_next = False
        self._layers = keras_internals.layers_of(model)
        for variable in keras_internals.variables_with_regularizer(model):
            put(
                variable,
                "_regularizer",
                self._wrapped(variable.regularizer, self._weight_penalties.append),
            )
        for layer in self._layers:
            if getattr(layer, "activity_regularizer", None) is not None:
                put(
                    layer,
                    "activity_regularizer",
                    self._wrapped(layer.activity_regularizer, self._expect_activity),
                )

    def _wrapped(self, regularizer, note):
        import keras

        def regularized(value):
            if not self._is_on:
                return keras.ops.zeros((), dtype=keras_internals.dtype_of(value))
            penalty = regularizer(value)
            note(penalty)
            return penalty

        return regularized

    def _expect_activity(self, _):
        # The layer scales the value before it adds it, so what counts is what arrives next.
        self._is_activity_next = True

    def note(self, loss):
        """Called with every loss that a layer adds."""
        if self._is_activity_next:
            self._activity_penalties.append(loss)
            self._is_activity_next = False

    def penalty(self):
        """Returns the sum of what the regularizers returned."""
        import keras

        penalties = [*self._weight_penalties, *self._activity_penalties]
        if not penalties:
            return keras.ops.zeros(())
        return sum(keras.ops.cast(keras.ops.sum(p), keras.config.floatx()) for p in penalties)

    @contextlib.contextmanager
    def off(self, scope):
        """While open, regularizers return zero and what activities have added counts as zero."""
        import keras

        zeros = {id(p): keras.ops.zeros_like(p) for p in self._activity_penalties}
        for layer in self._layers:
            layer._loss_ids.update(id(zeros[i]) for i in list(layer._loss_ids) if i in zeros)
        scope.losses[:] = [zeros.get(id(loss), loss) for loss in scope.losses]
        self._is_on = False
        try:
            yield
        finally:
            self._is_on = True


def check_scalar(total):
    """Raises a BadInputError for a loss that has no gradient because it is not a scalar."""
    if len(total.shape) != 0:
        raise BadInputError(
            "The loss must be a scalar to have a gradient. "
            f"Received: a loss of shape {tuple(total.shape)}. Expected shape (). "
            "Try a `reduction` in the loss, or keras.ops.mean in `loss_fn` or `compute_loss`."
        )
