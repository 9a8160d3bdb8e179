"""Which layer an error arose in, or whether in the compiled loss, so that it alone can stay at its own precision."""

import contextlib
import re

from gradhooks.model import keras_internals
from gradhooks.reports.errors import GradientFailsError


def failing_layer(error, model, known=()):
    """Finds the layer in which an error arose, or the compiled loss: by the traceback, or by the names of operations.

    Returns:
        The layer, the container of the compiled loss, or None.
    """
    candidates = _candidates(model, known)
    found, said, traceback = None, str(error), error.__traceback__
    container = keras_internals.compile_loss(model)
    while traceback is not None:
        held = traceback.tb_frame.f_locals
        inside = held.get("self")
        if container is not None and type(inside) is type(container):
            inside = container  # a stand-in for it
        if id(inside) in candidates:
            found = inside
        # While a graph is differentiated, this is the operation whose turn it is.
        said += f" {getattr(held.get('op'), 'name', '')}"
        traceback = traceback.tb_next
    if found is not None:
        return found
    # In a graph, a scope that is entered again gets a number.
    names = re.split(r"[/\s'\"{}]+", said)
    scopes = {*names, *(re.sub(r"_\d+$", "", name) for name in names)}
    named = [owner for owner in candidates.values() if owner.name in scopes]
    # A layer in the loss goes before the loss.
    return max(
        named, key=lambda o: -1 if o is container else len(keras_internals.path_of(o)), default=None
    )


def _candidates(model, known):
    owners = [*keras_internals.layers_of(model)[1:], keras_internals.compile_loss(model)]
    return {
        id(owner): owner
        for owner in owners
        if owner is not None and not any(owner is k for k in known)
    }


def gradient_fails(error, model):
    """Returns the `GradientFailsError` that says in which layer an exception of the backward pass arose."""
    layer = failing_layer(error, model)
    return GradientFailsError(
        "" if layer is None else keras_internals.path_of(layer), first_line(error)
    )


def note_where_the_loss_may_be(error, model):
    """Adds a note to an exception of the compiled loss where the model's own `train_step` may do without that."""
    is_of_the_loss = isinstance(error, NotImplementedError) or failing_layer(
        error, model
    ) is keras_internals.compile_loss(model)
    if is_of_the_loss and keras_internals.has_own_train_step(model):
        error.add_note(
            "The model has a `train_step` of its own. If that computes the loss, pass it to the check: "
            "loss_fn=, a function (model, x, y, sample_weight, training) that returns the scalar loss."
        )


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
