"""Whether a model has what a gradient check needs, asked before anything is traced."""

from gradhooks.model import keras_internals
from gradhooks.reports.errors import bad_input


def check_usable(model, loss_fn, y):
    """Raises an error for a model that cannot be checked.

    Args:
        model: The Keras model.
        loss_fn: The user's loss function, or None for the compiled loss.
        y: The targets of the batch, or None.

    Raises:
        BadInputError: If the model is not compiled, not built, has nothing to
            train, no loss, or no targets for its loss.
    """
    if not getattr(model, "compiled", False) and loss_fn is None:
        raise bad_input(
            "The model must be compiled: its loss is what is checked.",
            "model",
            getattr(model, "name", model),
            "a compiled keras.Model",
            "Try `model.compile(optimizer, loss)` first, or pass `loss_fn`.",
        )
    # The user's loss function need not call the model as a whole, which would build it.
    is_built = model.built or (loss_fn is not None and bool(model.trainable_variables))
    if not is_built:
        raise bad_input(
            "The model must be built: it has no weights yet.",
            "model",
            model.name,
            "a built keras.Model",
            "Try calling it once on a batch.",
        )
    if not model.trainable_variables:
        raise bad_input(
            "The model must have trainable weights: nothing else has a gradient to check.",
            "model",
            model.name,
            "at least one trainable weight",
            "Try `layer.trainable = True` and compile again.",
        )
    if loss_fn is None:
        _check_loss(model, y)


def _check_loss(model, y):
    """Raises an error for a model whose own loss cannot be found or evaluated."""
    has_compiled_loss = getattr(model, "loss", None) is not None
    has_own_compute_loss = keras_internals.has_own_compute_loss(model)
    has_own_train_step = keras_internals.has_own_train_step(model)
    if has_own_train_step and not has_compiled_loss and not has_own_compute_loss:
        raise bad_input(
            "The loss of this model lives in its `train_step`, where a check cannot find it.",
            "loss_fn",
            None,
            "a function `loss_fn(model, x, y, sample_weight, training)` that returns the "
            "scalar loss",
            "Try moving the lines of `train_step` up to the loss into such a function.",
        )
    needs_targets = (
        has_compiled_loss and model.compiled and not has_own_compute_loss and not has_own_train_step
    )
    if needs_targets and y is None:
        raise bad_input(
            "The compiled loss compares with targets, so the check needs them.",
            "y",
            None,
            "targets for every example in `x`",
            "Try passing the `y` that `fit()` gets.",
        )
