"""Optimizers in a recorded step: what they receive is noted, and how they scale losses is known, or left out."""


def scale_of(optimizer):
    """Returns by what an optimizer scales losses at present, and whether it looks for that scale itself."""
    if getattr(optimizer, "inner_optimizer", None) is None:
        return float(optimizer.loss_scale_factor or 1.0), False
    # A sum is a number even where tf.distribute keeps a copy of the variable on every device.
    return float(
        optimizer.dynamic_scale + 0.0 if optimizer.built else optimizer.initial_scale
    ), True


def unscale(put, optimizer):
    """Has an optimizer scale losses by 1; a dynamic scale is a variable once it is built, and for others to move.

    Args:
        put: A `threads.Swap`.
        optimizer: A `keras.optimizers.Optimizer`.
    """
    put(optimizer, "loss_scale_factor", None)
    put(optimizer, "initial_scale", 1.0)


def note_gradients(put, optimizer, noted):
    """Has an optimizer note the gradients that it receives, unscaled, and apply nothing.

    Args:
        put: A `threads.Swap`.
        optimizer: A `keras.optimizers.Optimizer`.
        noted: List to which (optimizer, pairs of gradient and variable) goes.
    """
    is_scaling = getattr(optimizer, "inner_optimizer", None) is not None

    def scale():
        if is_scaling:
            return optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        return optimizer.loss_scale_factor

    def note(gradients, variables):
        factor = scale()
        noted.append(
            (
                optimizer,
                [(_divided(g, factor), v) for g, v in zip(gradients, variables, strict=True)],
            )
        )

    def apply(grads, trainable_variables=None):
        note(list(grads), list(trainable_variables or optimizer._trainable_variables))

    def apply_gradients(grads_and_vars, **kwargs):
        gradients, variables = zip(*grads_and_vars, strict=True)
        note(gradients, variables)

    put(optimizer, "apply", apply)
    put(optimizer, "apply_gradients", apply_gradients)
    put(optimizer, "build", lambda variables: None)  # makes no slots


def _divided(gradient, factor):
    import keras

    if gradient is None or factor is None:
        return gradient
    if hasattr(gradient, "values"):
        # Rows of an embedding, kept sparse.
        values = gradient.values / keras.ops.cast(factor, gradient.values.dtype)
        return type(gradient)(values, gradient.indices, gradient.dense_shape)
    return gradient / keras.ops.cast(factor, gradient.dtype)
