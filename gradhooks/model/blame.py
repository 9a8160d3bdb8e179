"""Which layer an error arose in, so that it alone can stay at its own precision."""

import contextlib
import re

from gradhooks.errors import GradientFailsError
from gradhooks.model import keras_internals


def culprit(error, model, known=()):
    """Finds the layer in which an error arose: by the traceback, or by the names of operations."""
    import keras

    layers = keras_internals.layers_of(model)[1:]
    candidates = {id(layer): layer for layer in layers if not any(layer is k for k in known)}
    found, said, traceback = None, str(error), error.__traceback__
    while traceback is not None:
        held = traceback.tb_frame.f_locals
        if isinstance(held.get("self"), keras.layers.Layer) and id(held["self"]) in candidates:
            found = held["self"]
        # While a graph is differentiated, this is the operation whose turn it is.
        said += f" {getattr(held.get('op'), 'name', '')}"
        traceback = traceback.tb_next
    if found is not None:
        return found
    # In a graph, a scope that is entered again gets a number.
    names = re.split(r"[/\s'\"{}]+", said)
    scopes = {*names, *(re.sub(r"_\d+$", "", name) for name in names)}
    named = [layer for layer in candidates.values() if layer.name in scopes]
    return max(named, key=lambda layer: len(keras_internals.path_of(layer)), default=None)


def gradient_fails(error, model):
    """Returns the `GradientFailsError` that says in which layer an exception of the backward pass arose."""
    layer = culprit(error, model)
    return GradientFailsError("" if layer is None else keras_internals.path_of(layer), first_line(error))


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
    """Returns the type of an error and the first line of what it says, or the line that tells most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0] == "Graph execution error:":
        # TensorFlow tells first where the operation was made, and what happened last.
        lines = [line for line in lines if not line.startswith("[[")][-1:]
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"
