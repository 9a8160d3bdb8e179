"""Which random numbers a trace draws: the same wherever a layer draws for the same time.

TensorFlow's own random operations give other numbers each time, of which no
derivative can be taken. While a check traces, or runs a train step, they give
numbers that belong to the place: the path of the layer that draws, and how often
it has drawn before. So the loss and the train step see the same noise, whatever
else a train step draws in between.
"""

import contextlib

from gradhooks.model import keras_internals

_WIDE = "float64"


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
        import keras

        self.is_xla = is_xla
        self._native = {
            id(layer): layer.compute_dtype for layer in keras_internals.layers_of(model)
        }
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
        """Goes back to where the draws were before."""
        self._counts = dict(position)

    def place(self, operation):
        """Notes a draw; returns the path of the layer that draws, and how often it has drawn before."""
        path = keras_internals.path_of_scopes()
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        self.seen.add((path, number, operation))
        return path, number

    def dtype(self, asked):
        """Returns the dtype at which training would draw where a dtype is asked for.

        From one seed a draw in float64 gives other numbers.
        """
        layer = keras_internals.layer_of_scopes()
        if layer is not None and id(layer) in self._native and asked == layer.compute_dtype:
            return self._native[id(layer)]
        return self._floatx if asked == _WIDE else asked

    @property
    def is_fixed(self):
        """Whether a draw belongs to its place now, and is not left as it is."""
        return not self._is_backward

    @contextlib.contextmanager
    def fixed(self, backend):
        """While open, random operations of the checking thread give the numbers of their places."""
        with backend.fix_draws(self):
            yield self

    @contextlib.contextmanager
    def differentiating(self):
        """While open, what is drawn is none of the loss', and stays as it is: it shows as a gradient that changes."""
        before, self._is_backward = self._is_backward, True
        try:
            yield
        finally:
            self._is_backward = before
