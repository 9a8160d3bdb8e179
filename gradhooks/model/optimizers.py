"""Optimizers in a recorded step: they note what they receive, and their loss scale is known."""

import keras

from gradhooks.model import keras_internals

_base_optimizer = keras_internals.private_module("optimizers.base_optimizer")


def scale_of(optimizer):
    """Returns the factor by which an optimizer scales losses, and whether it adapts that itself."""
    if getattr(optimizer, "inner_optimizer", None) is None:
        return float(optimizer.loss_scale_factor or 1.0), False
    if not optimizer.built:
        return float(optimizer.initial_scale), True
    # A sum is a number even where tf.distribute keeps a copy of the variable on every device.
    return float(optimizer.dynamic_scale + 0.0), True


def unscale(patch, optimizer):
    """Makes an optimizer scale losses by 1.

    A dynamic scale is a variable once the optimizer is built, and then for the
    caller to replace.

    Args:
        patch: A `threads.Patcher`.
        optimizer: A `keras.optimizers.Optimizer`.
    """
    patch(optimizer, "loss_scale_factor", None)
    patch(optimizer, "initial_scale", 1.0)


def note_gradients(patch, optimizer, notes):
    """Makes an optimizer note the gradients that it receives, unscaled, and apply nothing.

    Args:
        patch: A `threads.Patcher`.
        optimizer: A `keras.optimizers.Optimizer`.
        notes: List to which (optimizer, pairs of gradient and variable) is appended.
    """

    def scale():
        if getattr(optimizer, "inner_optimizer", None) is not None:
            return optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        return optimizer.loss_scale_factor

    def note(gradients, variables):
        factor = scale()
        pairs = []
        for gradient, variable in zip(gradients, variables, strict=True):
            pairs.append((_divide(gradient, factor), variable))
        notes.append((optimizer, pairs))

    def apply(grads, trainable_variables=None):
        note(list(grads), list(trainable_variables or optimizer._trainable_variables))

    def apply_gradients(grads_and_vars, **kwargs):
        gradients, variables = zip(*grads_and_vars, strict=True)
        note(gradients, variables)

    patch(optimizer, "apply", apply)
    patch(optimizer, "apply_gradients", apply_gradients)
    patch(optimizer, "build", lambda variables: None)  # makes no slots


def note_new_optimizers(patch, note):
    """Calls a function with every optimizer that is made from now on.

    Args:
        patch: A `threads.Patcher`.
        note: The function, called once the optimizer has its attributes.
    """
    kind = keras_internals.require(_base_optimizer, "BaseOptimizer", "see new optimizers")
    begin = kind.__init__

    def begin_and_note(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        note(self)

    patch(kind, "__init__", begin_and_note)


def _divide(gradient, factor):
    """Returns a gradient divided by the loss scale; None as it is."""
    if gradient is None or factor is None:
        return gradient
    if hasattr(gradient, "values"):
        # Rows of an embedding, which stay sparse.
        values = gradient.values / keras.ops.cast(factor, gradient.values.dtype)
        return type(gradient)(values, gradient.indices, gradient.dense_shape)
    return gradient / keras.ops.cast(factor, gradient.dtype)
