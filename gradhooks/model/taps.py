"""Taps: parameters that are zero, added to every tensor that enters or leaves a layer.

A tap is a scalar `t = 0`, multiplied by fixed numbers of the size of the tensor.
The derivative of the loss along it is the gradient at that place, in one
direction, and is checked like that of any other parameter.
"""

import contextlib
import dataclasses

import keras

from gradhooks.isolation import threads
from gradhooks.model import compiled_loss, keras_internals

# Taps for each layer and beside them. A free choice: a layer is called once or twice, with a tap
# before and one after each call; calls for which none is left have none.
_PER_LAYER, _MORE = 6, 64
_PATH = "tap"
# Readers of a weight that are no layer: code outside of all layers, and layers without taps.
_OUTSIDE, _UNKNOWN = "", "?"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tap is.

    Args:
        number: Number of the tap, in the order in which the trace comes to the places.
        layer: Path of the layer.
        call: Which call of the layer it is, from 0.
        is_output: Whether it is behind the layer, not before it.
        output: Number of the output, for those of the model; 0 elsewhere.
        enclosing: Number of the tap before the call around this one; None for
            the outermost.
        is_model: Whether the layer is the model itself.
    """

    number: int
    layer: str
    call: int
    is_output: bool
    output: int = 0
    enclosing: int | None = None
    is_model: bool = False

    def is_around_same_call(self, other):
        """Whether this tap and another are before or behind the same call."""
        return (self.layer, self.call) == (other.layer, other.call)


class Taps:
    """The taps of a model, and where the latest trace has put them.

    Args:
        model: The model.
        backend: The backend module.

    Attributes:
        variables: The scalars.
        places: A `Place` for each tap in use, by its number.
        leaving: The tensors that leave a call, by the number of the tap behind it; with
            the terms that it adds to the loss.
        tensors: The tensors at each tap, moved, by its number; those of loops are left out.
        loss: The total loss, a tensor.
    """

    def __init__(self, model, backend):
        self._model, self._backend = model, backend
        self._layers = []
        for layer in keras_internals.layers_of(model):
            if not isinstance(layer, keras.layers.InputLayer):
                self._layers.append(layer)
        count = _PER_LAYER * len(self._layers) + _MORE
        with backend.open_float64():
            self.variables = [
                keras.Variable(0.0, dtype="float64", name=f"{_PATH}_{k}") for k in range(count)
            ]
        self.places = []
        self._calls, self._stack = {}, []
        self._weights = {id(weight) for weight in keras_internals.trained_weights(model)}
        self._readers, self._reads, self._terms = {}, {}, {}
        self.leaving = {}
        self.tensors = {}
        self.loss, self._gradients = None, {}
        self._is_forward = True

    @contextlib.contextmanager
    def open(self):
        """While open, calls of the layers have taps; one trace of the loss belongs here."""
        self.places.clear()
        self._calls.clear()
        self._stack.clear()
        self._readers.clear()
        self._reads.clear()
        self._terms.clear()
        self.leaving.clear()
        self.tensors.clear()
        self.loss, self._gradients = None, {}
        self._is_forward = True
        with threads.open_patcher() as patch:
            for layer in self._layers:
                name = keras_internals.name_of_call(layer)
                patch(layer, name, self._wrap(layer, getattr(layer, name)))
            yield

    @property
    def is_any_left(self):
        """Whether a tap is left; those of weights are taken from the end."""
        return len(self.places) + len(self._reads) < len(self.variables)

    def end_forward(self):
        """Ends the forward pass: layers that the backward pass calls again get the same taps."""
        self._is_forward = False
        self._calls.clear()

    def read(self, variable, value):
        """Notes in the call of which layer a variable is read, and returns its value.

        The gradient of a weight is the sum of what all its readers send back. Each but the
        first reads it with a tap, so that these parts can be told apart.

        Args:
            variable: A Keras variable.
            value: What stands for it.
        """
        if id(variable) not in self._weights:
            return value
        reader = _OUTSIDE
        if self._stack:
            reader = self._stack[-1].layer if self._stack[-1] else _UNKNOWN
        elif getattr(variable, "regularizer", None) is not None:
            return value  # by the regularizer
        readers = self._readers.setdefault(id(variable), [])
        if self._is_forward and reader not in readers:
            if readers and self.is_any_left and not keras_internals.is_complex(variable):
                self._reads[id(variable), reader] = len(self.variables) - 1 - len(self._reads)
            readers.append(reader)
        number = self._reads.get((id(variable), reader))
        if number is None:
            return value
        tensor = keras.ops.convert_to_tensor(value)
        moved = self._backend.add_direction(tensor, self.variables[number].value, number)
        return self._backend.make_stand_in(moved, variable)

    def note_term(self, term):
        """Notes in which calls a term is added to the loss."""
        for place in self._stack:
            if place is not None:
                self._terms.setdefault(place.number, []).append(term)

    def list_tensors(self):
        """Returns all tensors whose gradients are wanted: those at the taps, and those leaving."""
        every = [*self.tensors.values(), *self.leaving.values()]
        found = {id(t): t for group in every for t in group if self._backend.is_watchable(t)}
        return list(found.values())

    def note_gradients(self, term, gradients):
        """Notes the gradients of a term, tensors or None, of the total loss, which comes first."""
        if self.loss is None:
            self.loss = term
            for tensor, gradient in zip(self.list_tensors(), gradients, strict=True):
                self._gradients[id(tensor)] = gradient

    def gradient_of(self, tensor):
        """Returns the gradient of the total loss at one of the tensors; None without one."""
        return self._gradients.get(id(tensor))

    def readers_of(self, variable):
        """Returns the readers of a weight in the order of their calls.

        The path of a layer; empty for code outside of all layers. What a regularizer reads
        does not count.

        Returns:
            A dict from readers to the number of the tap at which they read; None for the
            first, and where no tap was left.
        """
        key = id(variable)
        return {reader: self._reads.get((key, reader)) for reader in self._readers.get(key, ())}

    def layer_at(self, path):
        """Returns the layer of a path."""
        for layer in self._layers:
            if compiled_loss.path_of(layer) == path:
                return layer
        return None

    def _wrap(self, layer, call):
        """Wraps `call` of a layer so that what enters and what leaves it has taps."""

        def call_with_taps(*args, **kwargs):
            number = self._calls.get(id(layer), 0)
            self._calls[id(layer)] = number + 1
            entry = self._take(layer, number, is_output=False)
            args, kwargs = keras.tree.map_structure(
                lambda value: self._add(entry, value), (args, kwargs)
            )
            self._note_tensors(entry, (args, kwargs))
            self._stack.append(entry)
            try:
                results = call(*args, **kwargs)
            finally:
                self._stack.pop()
            if layer is not self._model:
                leaving = self._take(layer, number, is_output=True)
                moved = keras.tree.map_structure(lambda value: self._add(leaving, value), results)
                self._note_leaving(entry, leaving, moved)
                self._note_tensors(leaving, moved)
                return moved
            return self._add_to_each(layer, number, results)

        return call_with_taps

    def _note_leaving(self, entering, leaving, results):
        """Notes the tensors that leave a call: behind its tap, and by way of the loss."""
        if leaving is not None and self._is_forward:
            flat = keras.tree.flatten(results) + self._terms.get(entering.number, [])
            flat += [value._keras_logits for value in flat if hasattr(value, "_keras_logits")]
            tensors = [value for value in flat if self._backend.is_symbolic(value)]
            self.leaving[leaving.number] = tensors

    def _note_tensors(self, place, moved):
        """Notes the tensors that a tap has moved; of logits that a loss takes instead, those."""
        if place is None or not self._is_forward:
            return
        found = {}  # the same tensor may be given twice
        for value in keras.tree.flatten(moved):
            value = getattr(value, "_keras_logits", value)
            if self._backend.is_watchable(value):
                found[id(value)] = value
        self.tensors[place.number] = list(found.values())

    def _add_to_each(self, layer, number, results):
        """Adds a tap of its own to each output of the model, whose losses differ."""
        outputs = []
        for position, value in enumerate(keras.tree.flatten(results)):
            place = self._take(layer, number, is_output=True, output=position)
            outputs.append(self._add(place, value))
            self._note_tensors(place, outputs[-1:])
        return keras.tree.pack_sequence_as(results, outputs)

    def _take(self, layer, call, is_output, output=0):
        """Returns the next `Place`; None if no tap is left."""
        path = compiled_loss.path_of(layer)
        if not self._is_forward:
            for place in self.places:
                where = place.layer, place.call, place.is_output, place.output
                if where == (path, call, is_output, output):
                    return place
            return None
        if not self.is_any_left:
            return None
        around = self._stack[-1] if self._stack else None
        enclosing = around.number if around else None
        is_model = layer is self._model
        number = len(self.places)
        self.places.append(Place(number, path, call, is_output, output, enclosing, is_model))
        return self.places[-1]

    def _add(self, place, value):
        """Adds a tap to a tensor of floats; other values stay as they are."""
        if place is None or not self._backend.is_float_tensor(value):
            return value
        return self._backend.add_direction(value, self.variables[place.number].value, place.number)
