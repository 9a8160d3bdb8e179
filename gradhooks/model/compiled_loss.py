"""The losses given to `compile()`: Keras' container of them, and a stand-in for it."""

import functools

import keras

from gradhooks.model.keras_internals import require


def compile_loss(model):
    """Returns the container of the losses given to `compile()`; None without one."""
    return getattr(model, "_compile_loss", None)


def path_of(owner):
    """Returns how to name, for people, a layer or the compiled loss.

    Args:
        owner: A layer, or the container of the compiled loss.

    Returns:
        The path of the layer, or its name before it is built; of the container
        the names of its losses.
    """
    if isinstance(owner, keras.layers.Layer):
        return getattr(owner, "path", None) or owner.name
    names = []
    for loss in keras.tree.flatten(owner._user_loss):
        if loss is not None:
            names.append(name_of_loss(loss))
    return f"the loss {', '.join(dict.fromkeys(names))}"


def name_of_loss(loss):
    """Returns the name of a loss as `compile()` takes it: a string, a function or an object."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    if isinstance(loss, str):
        return loss
    return getattr(loss, "name", None) or getattr(loss, "__name__", None) or type(loss).__name__


def make_standin(model, y):
    """Returns a stand-in for the compiled loss, so that the user's is never built or changed.

    The container builds its inner losses, and metrics for them, at its first
    call, which may be still to come.

    Args:
        model: The model.
        y: The targets, or None.

    Returns:
        A container like the model's; None if it has none.
    """
    container = compile_loss(model)
    if container is None:
        return None
    if container.built:
        return _copy(container)
    standin = _make_unbuilt(container)
    outputs = getattr(model, "_outputs_struct", None)
    if outputs is not None and y is not None:
        # Several outputs bring metric variables, which must not be made inside a trace. A container
        # that cannot be built from specifications alone builds itself at its first call instead.
        try:
            standin.build(y, outputs)
        except (ValueError, TypeError, KeyError, AttributeError):
            return _make_unbuilt(container)
    return standin


def _copy(container):
    # Not copy.copy: Keras objects are copied by their configuration, which a container has not.
    standin = object.__new__(type(container))
    vars(standin).update(vars(container))
    # In a list of its own; of the losses in it nothing but the dtype is ever replaced.
    standin._flat_losses = list(container._flat_losses)
    return standin


def _make_unbuilt(container):
    loss = require(container, "_user_loss", "evaluate the compiled loss")
    weights = require(container, "_user_loss_weights", "evaluate the compiled loss")
    return type(container)(loss, weights, output_names=container.output_names)


def losses_in(container):
    """Returns the loss objects of a container, the container itself first; none without one."""
    if container is None:
        return []
    losses = [container]
    for loss in keras.tree.flatten(container._user_loss):
        if isinstance(loss, keras.losses.Loss):
            losses.append(loss)
    losses += [entry.loss for entry in container._flat_losses or ()]
    return list({id(loss): loss for loss in losses}.values())


def metrics_of(model, container):
    """Returns every metric that computing the loss may update, also inside other metrics."""
    found = {}
    queue = list(model.metrics)
    if container is not None:
        queue += container.metrics
    while queue:
        metric = queue.pop()
        if id(metric) not in found:
            found[id(metric)] = metric
            queue.extend(getattr(metric, "_metrics", ()))
    return list(found.values())
