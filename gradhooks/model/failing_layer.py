"""The layer, or the compiled loss, in which an error arose: it alone can stay native."""

import contextlib
import re

import keras

from gradhooks.model import compiled_loss, keras_internals, sources
from gradhooks.reports.errors import GradientFailsError

# How much of a message is quoted: a free choice, so that it stays one line of a report.
_MOST_CHARACTERS = 160


def find_failing_layer(error, model, known=()):
    """Finds the layer in which an error arose, by the traceback or by the names of operations.

    Names do not tell layers of the same name apart: see `named_calls` for where that matters.

    Args:
        error: The exception.
        model: The model.
        known: Layers that are known to fail, and are left out.

    Returns:
        The layer; the container of the compiled loss if the error arose there;
        None if neither is found.
    """
    if isinstance(error, GradientFailsError):
        error = error.__cause__ or error
    candidates = _candidates(model, known)
    failing = _find_in_traceback(error, model, candidates)
    if failing is not None:
        return failing
    names = set(re.split(r"[/\s'\"{}]+", name_operation(error) or str(error)))
    # In a graph, a scope that is entered again gets a number.
    names.update([re.sub(r"_\d+$", "", name) for name in names])
    named = [owner for owner in candidates.values() if owner.name in names]
    container = compiled_loss.compile_loss(model)

    def depth(owner):
        # A layer inside of the loss takes precedence over the loss.
        return -1 if owner is container else len(compiled_loss.path_of(owner))

    return max(named, key=depth, default=None)


def _find_in_traceback(error, model, candidates):
    """Returns the innermost of some layers whose method an exception has passed; None if none."""
    container = compiled_loss.compile_loss(model)
    failing, traceback = None, error.__traceback__
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if container is not None and type(owner) is type(container):
            owner = container  # a stand-in for it
        if id(owner) in candidates:
            failing = owner
        traceback = traceback.tb_next
    return failing


def name_operation(error, mark=""):
    """Returns the name of the innermost operation whose gradient was being taken; empty if none.

    Args:
        error: The exception.
        mark: What the name must contain.
    """
    found, traceback = "", error.__traceback__
    while traceback is not None:
        # While a graph is differentiated, its code calls the operation so.
        name = getattr(traceback.tb_frame.f_locals.get("op"), "name", None)
        if isinstance(name, str) and mark in name:
            found = name
        traceback = traceback.tb_next
    return found


def _candidates(model, known):
    """Returns a dict of ids to the layers, without the model, and the compiled loss."""
    candidates = {}
    owners = [*keras_internals.layers_of(model)[1:], compiled_loss.compile_loss(model)]
    for owner in owners:
        is_known = any(owner is other for other in known)
        if owner is not None and not is_known:
            candidates[id(owner)] = owner
    return candidates


def gradient_fails(error, model):
    """Returns a `GradientFailsError` about an error of the backward pass.

    It says in which layer that is, where code of the layer's own raises it.
    """
    layer = _find_in_traceback(error, model, _candidates(model, ()))
    cause = first_line(error)
    return GradientFailsError("", cause) if layer is None else place_error(cause, layer)


def place_error(cause, layer):
    """Returns the `GradientFailsError` of a layer, or of the container of the compiled loss."""
    path = compiled_loss.path_of(layer)
    if isinstance(layer, keras.layers.Layer):
        return GradientFailsError(path, cause, "layer", sources.find_source(layer))
    return GradientFailsError(path, cause, "loss")


def note_where_the_loss_may_be(error, model):
    """Adds a note to an error of the compiled loss, if the model's `train_step` may not need it."""
    if not keras_internals.has_own_train_step(model):
        return
    is_of_the_loss = isinstance(error, NotImplementedError)
    if not is_of_the_loss:
        failing = find_failing_layer(error, model)
        is_of_the_loss = failing is compiled_loss.compile_loss(model)
    if is_of_the_loss:
        error.add_note(
            "The model has a `train_step` of its own. If that computes the loss, pass it to the "
            "check: loss_fn=, a function (model, x, y, sample_weight, training) that returns the "
            "scalar loss."
        )


@contextlib.contextmanager
def keep_whole_tracebacks():
    """While open, Keras does not remove its frames, and so the failing layer, from tracebacks."""
    was_filtering = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if was_filtering:
            keras.config.enable_traceback_filtering()


def first_line(error):
    """Returns the type of an error and the most informative line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0] == "Graph execution error:":
        # TensorFlow first says where the operation was made, and in the last line what happened.
        lines = [line for line in lines if not line.startswith("[[")][-1:]
    line = lines[0][:_MOST_CHARACTERS] if lines else ""
    return f"{type(error).__name__}: {line}"
