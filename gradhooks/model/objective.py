"""The loss of a Keras model as a pure function of its parameters, with the penalty apart.

One forward pass gives total (regularization on), data (weight and activity
regularizers off) and penalty, their difference. A user's own `add_loss` is not
regularization and stays in the data term.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from gradhooks.isolation import threads
from gradhooks.model import keras_internals
from gradhooks.model.penalty import PenaltySwitch
from gradhooks.reports.errors import BadInputError


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is evaluated: a model with its compiled loss, or with the user's loss function.

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
        return bool(keras_internals.regularizers_of(self.model))

    @property
    def has_own_total(self):
        """Whether the user's code computes the total, and may use the penalty as it likes."""
        is_function = self.loss_fn is not None
        return is_function or keras_internals.has_own_compute_loss(self.model)

    def forward(self, x):
        """Returns the outputs of the model; None for a loss function, which calls it itself."""
        if self.loss_fn is not None:
            return None
        return keras_internals.forward(self.model, x, self.training)

    def loss(self, batch, outputs):
        """Returns the loss of a batch, nested tensors (x, y, sample_weight), with its outputs."""
        x, y, sample_weight = batch
        model, training = self.model, self.training
        if self.loss_fn is not None:
            return self.loss_fn(model, x, y, sample_weight, training)
        return keras_internals.compute_loss(model, x, y, outputs, sample_weight, training)


def evaluate(
    objective,
    container,
    mapping,
    batch,
    finish,
    stand_in,
    draws,
    around_forward=contextlib.nullcontext,
    around_loss=contextlib.nullcontext,
    taps=None,
):
    """Evaluates the loss terms without touching the model.

    Args:
        objective: An `Objective`.
        container: Stand-in for the model's compiled loss, or None.
        mapping: Pairs (variable, tensor) for every variable that the loss may use.
        batch: `(x, y, sample_weight)`, nested tensors.
        finish: Called with (total, data, penalty) and a function that resets
            all state, while the values still stand for the variables. A
            backward pass belongs here, which may run layers again.
        stand_in: Function (tensor, variable) -> what stands for the variable
            when the tensor is its value.
        draws: The `draws.Draws` of the trace.
        around_forward: Function that makes a context for the forward pass.
        around_loss: Likewise, for the computation of the loss from the outputs.
        taps: None, or the `taps.Taps` that are told of every variable that is read
            and of every term that a layer adds to the loss.

    Returns:
        What `finish` returns.
    """
    with threads.open_patcher() as patch:
        if container is not None:
            patch(objective.model, "_compile_loss", container)
        switch = PenaltySwitch(objective.model, patch) if objective.has_penalty else None
        with _make_scope(switch, mapping, stand_in, taps) as scope:
            start = _state_of(scope)
            with around_forward():
                outputs = objective.forward(batch[0])
            after_forward, position = _state_of(scope), draws.position()
            with around_loss():
                total = objective.loss(batch, outputs)
                terms = total, total, keras.ops.zeros_like(total)
                if switch is not None:
                    penalty = switch.penalty()
                    _restore(scope, after_forward)
                    draws.rewind(position)
                    with switch.off(scope):
                        data = objective.loss(batch, outputs)
                    # Summed directly the penalty keeps its digits, however large the data term.
                    difference = total - data if objective.has_own_total else penalty
                    terms = total, data, difference
            return finish(terms, lambda: _restore(scope, start))


def _make_scope(switch, mapping, stand_in, taps):
    """Returns a stateless scope in which tensors stand for the variables."""

    class Scope(keras.StatelessScope):
        def get_current_value(self, variable):
            value = super().get_current_value(variable)
            return value if taps is None else taps.read(variable, value)

        def add_update(self, update):
            variable, value = update
            super().add_update((variable, stand_in(value, variable)))

        def add_loss(self, loss):
            super().add_loss(loss)
            if switch is not None:
                switch.note(loss)
            if taps is not None:
                taps.note_term(loss)

    # Variables made inside, such as metrics of a loss that was never called, end with the trace.
    scope = Scope(collect_losses=True, initialize_variables=False)
    # Not by the constructor, which would make tensors of variables, which could not be found again.
    values = {id(variable): stand_in(value, variable) for variable, value in mapping}
    scope.state_mapping = values
    return scope


def _state_of(scope):
    return dict(scope.state_mapping), list(scope.losses)


def _restore(scope, state):
    mapping, losses = state
    scope.state_mapping.clear()
    scope.state_mapping.update(mapping)
    scope.losses[:] = losses


def check_scalar(total):
    """Raises an error for a loss that has no gradient because it is not a scalar.

    Raises:
        BadInputError: If it has a shape other than `()`.
    """
    if len(total.shape) != 0:
        raise BadInputError(
            "The loss must be a scalar to have a gradient. "
            f"Received: a loss of shape {tuple(total.shape)}. Expected shape (). "
            "Try a `reduction` in the loss, or keras.ops.mean in `loss_fn` or `compute_loss`."
        )
