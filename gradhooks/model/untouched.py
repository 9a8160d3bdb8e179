"""A context for the code of a model, after which model and Keras are what they were before."""

import contextlib

from gradhooks.isolation import untouched
from gradhooks.model import keras_internals

# Parts of Keras' state that are restored by the contexts that change them.
_LEFT_OUT = frozenset(("traceback_filtering",))


@contextlib.contextmanager
def restore_keras_on_error():
    """While open, an exception restores what Keras holds for this thread."""
    state = keras_internals.thread_state()
    before = _copy(state)
    try:
        yield
    except BaseException:
        state.clear()
        state.update(before)
        raise


class Untouched:
    """Context in which the user's code may be traced or run: only Keras variables remember it.

    Tracing a model draws names and perhaps seeds, and lists losses on layers;
    the user's code writes to attributes, caches and globals. All of it is
    restored, see `isolation.untouched`.

    Args:
        model: The model; None where only Keras' own state is at stake.
        others: More objects with code of the user's, by name.
    """

    def __init__(self, model=None, **others):
        roots = {}
        for name, root in {"model": model, **others}.items():
            if root is not None:
                roots[name] = root
        self._belongings = untouched.Untouched(roots)

    @property
    def places(self):
        """Everything that the model and the others lead to, see `isolation.reachable`."""
        return self._belongings.places

    @property
    def objects(self):
        """The same without the places, a list."""
        return [place.value for place in self._belongings.places]

    @property
    def global_draws(self):
        """Set of the names of the global random functions that the user's code has called."""
        return self._belongings.global_draws

    def leftovers(self, is_foreign):
        """Returns the places, as text, of what could not be restored, see `isolation.untouched`."""
        return self._belongings.leftovers(is_foreign)

    def __enter__(self):
        self._state = _copy(keras_internals.thread_state())
        self._belongings.__enter__()
        return self

    def restore(self):
        """Restores everything; the context stays open."""
        state = keras_internals.thread_state()
        for name in set(state) - set(self._state) - _LEFT_OUT:
            del state[name]
        # Copies, since everything may have to be restored again.
        for name, value in _copy(self._state).items():
            if name not in _LEFT_OUT:
                state[name] = value
        self._belongings.restore()

    def run(self, function):
        """Returns what a function returns; context variables that it sets are set for it alone."""
        return self._belongings.run(function)

    def __exit__(self, *exception):
        try:
            self.restore()
        finally:
            self._belongings.__exit__(*exception)


def _copy(state):
    """Returns a copy of a dict and of those of its values that can be copied."""
    copies = {}
    for name, value in state.items():
        copies[name] = value.copy() if hasattr(value, "copy") else value
    return copies
