"""A model after its code has run: what it was before, and Keras with it."""

import contextlib

from gradhooks.isolation import untouched
from gradhooks.model import keras_internals

# What is put back by those who open it.
_SCOPES = frozenset(("traceback_filtering",))


@contextlib.contextmanager
def whole():
    """While open, an exception in Keras' own bookkeeping leaves it as it was."""
    held, before = keras_internals.thread_state(), _copied(keras_internals.thread_state())
    try:
        yield
    except BaseException:
        held.clear()
        held.update(before)
        raise


class Untouched:
    """Context in which the user's code may be traced or run: nothing outside Keras variables remembers it.

    Tracing a model draws names and perhaps seeds, and lists losses on layers;
    the user's code writes to attributes, caches and globals. All of it is put
    back, see `isolation.untouched`.

    Args:
        model: The model; None where only Keras' own state is at stake.
        others: More objects with code of the user's, by name.
    """

    def __init__(self, model=None, **others):
        roots = {"model": model, **others}
        self._belongings = untouched.Untouched(
            {name: root for name, root in roots.items() if root is not None}
        )

    @property
    def places(self):
        """Where everything stands that the model and the others lead to, see `isolation.reachable`."""
        return self._belongings.places

    @property
    def objects(self):
        """Everything that the model and the others lead to."""
        return [place.value for place in self._belongings.places]

    @property
    def drawn(self):
        """Set of the functions of Python's and NumPy's global generators that the user's code has called, by name."""
        return self._belongings.drawn

    def leftovers(self, is_foreign):
        """Returns the places, as text, of what could not be put back and holds something foreign."""
        return self._belongings.leftovers(is_foreign)

    def __enter__(self):
        self._state = _copied(keras_internals.thread_state())
        self._belongings.__enter__()
        return self

    def restore(self):
        """Puts everything back; the context stays open."""
        state = keras_internals.thread_state()
        for name in set(state) - set(self._state) - _SCOPES:
            del state[name]
        # Copies, for it may all be needed again.
        state.update(
            {name: value for name, value in _copied(self._state).items() if name not in _SCOPES}
        )
        self._belongings.restore()

    def run(self, function):
        """Returns what a function returns; context variables that it sets are set for it alone."""
        return self._belongings.run(function)

    def __exit__(self, *exception):
        try:
            self.restore()
        finally:
            self._belongings.__exit__(*exception)


def _copied(state):
    return {
        name: value.copy() if hasattr(value, "copy") else value for name, value in state.items()
    }
