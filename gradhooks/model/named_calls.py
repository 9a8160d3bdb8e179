"""The layer in whose call an operation was made, told by a name that no other call has."""

import contextlib
import re

from gradhooks.isolation import threads
from gradhooks.model import compiled_loss, failing_layer, keras_internals

# A name as no layer has; the number says whose call it is.
_MARK = "gradhooks_call_"
_OPERATION = re.compile(rf"[\w./>-]*{_MARK}\d+[\w./>-]*")


class NamedCalls:
    """Calls of the model, its layers and its losses, each within a name scope of its own.

    Operations are named after the layer that makes them, and so are those of
    the backward pass. But layers of the same name in two parents, or `dense`
    called a second time and `dense_1`, make operations of the same names.

    Args:
        model: The model.
        backend: The backend module.
    """

    def __init__(self, model, backend):
        self._backend = backend
        self._layers = keras_internals.layers_of(model)
        self._loss = compiled_loss.compile_loss(model)

    @contextlib.contextmanager
    def open(self, container):
        """While open, operations are named after the calls.

        Args:
            container: What stands for the container of the compiled loss; None without one.
        """
        with threads.open_patcher() as patch:
            for number, layer in enumerate(self._layers):
                name = keras_internals.name_of_call(layer)
                patch(layer, name, self._within(f"{_MARK}{number}", getattr(layer, name)))
            for loss in compiled_loss.losses_in(container):
                patch(loss, "call", self._within(f"{_MARK}{len(self._layers)}", loss.call))
            yield

    def find(self, error):
        """Finds the innermost call in which the operation was made that an error is about.

        Args:
            error: The exception.

        Returns:
            The layer, the container of the compiled loss, or None.
        """
        text = failing_layer.name_operation(error, _MARK) or str(error)
        # A message about an operation names it first, and its inputs later.
        found = _OPERATION.search(text)
        if found is None:
            return None
        innermost = re.findall(rf"{_MARK}(\d+)", found[0])[-1]
        return [*self._layers, self._loss][int(innermost)]

    def _within(self, scope, call):
        """Returns a function that calls another one, whose operations are named after a scope.

        Scopes of Keras' own would become a part of the paths of layers that are not built.
        """

        def call_within(*args, **kwargs):
            with self._backend.name_operations(scope):
                return call(*args, **kwargs)

        return call_within
