"""Which random numbers a trace draws: the same wherever a layer draws for the same time.

TensorFlow's own random operations give other numbers at each run, and such a loss
has no derivative. While a check traces, or runs a train step, they give numbers
that belong to their place: the path of the layer that draws, and how often it has
drawn before. So the loss and the train step see the same noise, whatever else a
train step draws in between.
"""

import contextlib

import keras

from gradhooks.model import keras_internals
from gradhooks.model.dtypes import WIDE


class Draws:
    """Numbers the random operations of one trace after the other.

    Args:
        model: The Keras model, at its own precision.
        is_xla: Whether training draws by XLA, and what is traced does not.

    Attributes:
        seen: Set of (path, number, operation): what has been drawn since `begin`.
        turns: Numbers of the iterations of the loops that are running eagerly, the outermost first.
    """

    def __init__(self, model, is_xla=False):
        self.is_xla = is_xla
        self._native_dtypes = {}
        for layer in keras_internals.layers_of(model):
            self._native_dtypes[id(layer)] = layer.compute_dtype
        self._floatx = keras.config.floatx()
        self._is_backward = False
        self.begin()

    def begin(self):
        """Begins with a new trace."""
        self._counts, self.seen, self.turns = {}, set(), []

    def position(self):
        """Returns what `rewind` takes to draw the same numbers again."""
        return dict(self._counts)

    def rewind(self, position):
        """Goes back to a former position."""
        self._counts = dict(position)

    def place(self, operation):
        """Notes a draw; returns the path of the layer and how often it has drawn before."""
        path = keras_internals.path_of_scopes()
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        self.seen.add((path, number, operation))
        return path, number

    def dtype(self, requested):
        """Returns the dtype at which training would draw where a dtype is requested.

        From one seed, a draw in float64 gives other numbers.
        """
        layer = keras_internals.layer_of_scopes()
        native = self._native_dtypes.get(id(layer)) if layer is not None else None
        if native is not None and requested == layer.compute_dtype:
            return native
        return self._floatx if requested == WIDE else requested

    @property
    def is_fixed(self):
        """Whether a draw now gives the numbers of its place."""
        return not self._is_backward

    @contextlib.contextmanager
    def fix(self, backend):
        """While open, random operations of the checking thread give the numbers of their places."""
        with backend.fix_draws(self):
            yield self

    @contextlib.contextmanager
    def suspend(self):
        """While open, draws are left as they are.

        What a backward pass draws is not the noise of the loss. It shows as a
        gradient that changes from run to run.
        """
        before, self._is_backward = self._is_backward, True
        try:
            yield
        finally:
            self._is_backward = before
