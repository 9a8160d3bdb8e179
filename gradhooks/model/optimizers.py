"""Optimizers in a recorded step: they note what they receive, and their loss scale is known."""

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


def note_gradients(patch, optimizer, notes, model, backend):
    """Makes an optimizer note the gradients that it receives, unscaled, and apply nothing.

    Args:
        patch: A `threads.Patcher`.
        optimizer: A `keras.optimizers.Optimizer`.
        notes: List to which (optimizer, pairs of gradient and variable) is appended.
        model: The model whose weights an optimizer trains that was not built yet.
        backend: The backend module.
    """

    def scale():
        if getattr(optimizer, "inner_optimizer", None) is not None:
            return optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        return optimizer.loss_scale_factor

    def note(gradients, variables):
        factor = scale()
        pairs = []
        for gradient, variable in zip(gradients, variables, strict=True):
            is_scaled = gradient is not None and factor is not None
            scaled = backend.divide_gradient(gradient, factor) if is_scaled else gradient
            pairs.append((scaled, variable))
        notes.append((optimizer, pairs))

    def apply(grads, trainable_variables=None):
        note(list(grads), list(trainable_variables or optimizer._trainable_variables))

    def apply_gradients(grads_and_vars, **kwargs):
        gradients, variables = zip(*grads_and_vars, strict=True)
        note(gradients, variables)

    def stateless_apply(optimizer_variables, grads, trainable_variables):
        variables = optimizer._trainable_variables if optimizer.built else model.trainable_variables
        note(list(grads), variables)
        return trainable_variables, optimizer_variables

    patch(optimizer, "apply", apply)
    patch(optimizer, "stateless_apply", stateless_apply)
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
