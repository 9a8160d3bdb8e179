"""Which layer an error arose in, so that it alone can stay at its own precision."""

import contextlib
import re

from gradhooks.model import keras_internals


def culprit(error, model, known):
    """Finds the layer in whose `call` an error arose: by the traceback, or by the names in the message."""
    import keras

    layers = keras_internals.layers_of(model)[1:]
    candidates = {id(layer): layer for layer in layers if not any(layer is k for k in known)}
    found, traceback = None, error.__traceback__
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if isinstance(owner, keras.layers.Layer) and id(owner) in candidates:
            found = owner
        traceback = traceback.tb_next
    if found is not None:
        return found
    # In a graph, a scope that is entered again gets a number.
    scopes = {re.sub(r"_\d+$", "", scope) for scope in re.split(r"[/\s'\"{}]+", str(error))}
    scopes |= set(re.split(r"[/\s'\"{}]+", str(error)))
    named = [layer for layer in candidates.values() if layer.name in scopes]
    return max(named, key=lambda layer: len(keras_internals.path_of(layer)), default=None)


@contextlib.contextmanager
def whole_tracebacks():
    """Keras cuts its own frames out of tracebacks, and with them the layer in which an error arose."""
    import keras

    was_filtering = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if was_filtering:
            keras.config.enable_traceback_filtering()


def first_line(error):
    """Returns the type of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
