"""A model with taps, as a check asks it: places, code, and what leads where in the trace."""

import dataclasses

from gradhooks.model import keras_internals, parts, sources
from gradhooks.model.taps import Taps


class TappedModel:
    """What a check asks of the model behind the taps, in words and numbers.

    Args:
        model: The model.
        taps: Its `Taps`.
        objective: The `Objective`.
        oracle: The `ModelOracle` with the taps behind the weights of the model.
        make_other: Function that taps the model with `training` the other way.
    """

    def __init__(self, model, taps, objective, oracle, make_other=None):
        self._model, self._taps, self._objective = model, taps, objective
        self._make_other = make_other
        self.oracle = oracle
        self._weights = keras_internals.trained_weights(model)
        self.first = len(self._weights)

    @property
    def places(self):
        """The `Place`s, by number; tap k is variable `first + k` of the oracle."""
        return tuple(self._taps.places)

    def leaving(self, place):
        """Returns the `Place` behind the call before which one is; None if there is none.

        Of the model it is that of the first output.
        """
        for other in self.places:
            if other.is_output and other.is_around_same_call(place):
                return other
        return None

    def describe_layer(self, path):
        """Returns a `sources.Source` for the code of a layer."""
        return sources.find_source(self._taps.layer_at(path))

    def describe_loss(self, output):
        """Returns (name, `sources.Source`) of the loss of an output of the model."""
        return sources.find_loss(self._objective, output)

    def readers_of(self, number):
        """Returns the readers of a variable and their taps, see `Taps.readers_of`."""
        return self._taps.readers_of(self._weights[number])

    def describe_regularizer(self, path, variable):
        """Returns a `sources.Source` for the code of a regularizer.

        Args:
            path: Path of the layer.
            variable: Path of the weight that is regularized; empty for the layer's output.
        """
        if not variable:
            layer = self._taps.layer_at(path)
            return sources.find_regularizer(getattr(layer, "activity_regularizer", None))
        weight = self._weights[self.oracle.layout.paths.index(variable)]
        return sources.find_regularizer(getattr(weight, "regularizer", None))

    def find_below(self, place):
        """Returns the numbers of the variables whose gradient passes through a call, a set.

        These are all where the trace does not show it.

        Args:
            place: A `Place` before or behind the call.
        """
        every = set(range(self.first))
        tensors = []
        for other in self.places:
            if other.is_output and other.is_around_same_call(place):
                tensors += self._taps.leaving.get(other.number, ())
        if place.is_model or not tensors:
            return every
        total, *_ = self.oracle.find_passages(tensors, tensors, is_around_wanted=False)
        return {number for number in every if total.through[number]}

    @property
    def is_training(self):
        """Whether the model is traced as in training."""
        return self._objective.training

    def matrices_of(self, path):
        """Returns the square weights of a layer, by name: float64 arrays."""
        own = {id(weight) for weight in getattr(self._taps.layer_at(path), "weights", ())}
        point, layout, matrices = self.oracle.point(), self.oracle.layout, {}
        for number, weight in enumerate(self._weights):
            shape = layout.shapes[number]
            if id(weight) in own and len(shape) == 2 and shape[0] == shape[1]:
                matrices[weight.name] = point[layout.slice(number)].reshape(shape)
        return matrices

    def in_other_mode(self, path):
        """Returns the model tapped with `training` the other way; None where that changes nothing.

        Args:
            path: Path of the layer that must be the user's and take the argument.
        """
        layer = self._taps.layer_at(path)
        takes_mode = keras_internals.require(layer, "_call_has_training_arg", "call a layer")
        if not takes_mode or not self.describe_layer(path).place or self._make_other is None:
            return None
        return self._make_other()

    def make_part(self, entering, leaving=None):
        """Returns the `parts.Part` from the tensors at a tap to what leaves the call, or the loss.

        Args:
            entering: The `Place` of the tap.
            leaving: The `Place` behind the call; None for all that follows.
        """
        exits = [self._taps.loss]
        if leaving is not None:
            exits = self._taps.leaving.get(leaving.number, [])
        entries = self._taps.tensors.get(entering.number, [])
        return parts.make_part(self.oracle, entries, exits, self._taps)

    def is_in_loop(self, leaving):
        """Whether a call runs in a loop, so that what leaves it may enter it again.

        Args:
            leaving: The `Place` behind it.
        """
        tensors = self._taps.leaving.get(leaving.number, ())
        return bool(tensors) and not self.oracle.are_outermost(tensors)

    def has_way_around(self, entering, leaving):
        """Whether the loss depends on what enters a call also past what leaves it.

        A layer may keep a tensor that another one uses. In a loop it cannot be seen.

        Args:
            entering: The `Place` before the call.
            leaving: The `Place` behind it.
        """
        tensors = self._taps.leaving.get(leaving.number, ())
        if not self.oracle.are_outermost(tensors):
            return False
        total, *_ = self.oracle.find_passages([], tensors, is_around_wanted=True)
        return bool(total.around[self.first + entering.number])

    def leads_through(self, around, entering, leaving):
        """Whether what enters a call reaches the loss through another call inside of it.

        Args:
            around: The `Place` before the outer call.
            entering: The `Place` before the inner one.
            leaving: The `Place` behind that.
        """
        entries = self._taps.tensors.get(entering.number, ())
        exits = self._taps.leaving.get(leaving.number, ())
        if not entries or not exits:
            return True
        total, *_ = self.oracle.find_passages(entries, exits, is_around_wanted=False)
        return bool(total.through[self.first + around.number])

    def has_activity_regularizer(self, path):
        """Whether a layer has an activity regularizer."""
        return getattr(self._taps.layer_at(path), "activity_regularizer", None) is not None


def tap(objective, batch, precision, backend, make_oracle):
    """Traces a model with taps.

    Args:
        objective: The `Objective`.
        batch: The `Batch`.
        precision: As for `ModelOracle`.
        backend: The backend module.
        make_oracle: Function (objective, batch, precision, taps) -> `ModelOracle`.

    Returns:
        A `TappedModel`.
    """

    def tap_with(objective, make_other=None):
        taps = Taps(objective.model, backend)
        oracle = make_oracle(objective, batch, precision, taps)
        return TappedModel(objective.model, taps, objective, oracle, make_other)

    other = dataclasses.replace(objective, training=not objective.training)
    return tap_with(objective, lambda: tap_with(other))
