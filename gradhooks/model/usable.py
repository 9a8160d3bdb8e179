"""Whether a model has what a gradient check needs, asked before anything is traced."""

import os

import keras

from gradhooks.model import keras_internals
from gradhooks.reports.errors import bad_input
from gradhooks.reports.reasons import Reason


def check_kind(model, loss_fn=None):
    """Raises an error for what is no model of Keras 3.

    Args:
        model: What was given for a model.
        loss_fn: The user's loss function, or None. With one, a layer will do.

    Raises:
        BadInputError: If it is anything else.
    """
    is_layer = isinstance(model, keras.layers.Layer)
    if isinstance(model, keras.Model) or (is_layer and loss_fn is not None):
        return
    advice = "Try the model that `fit` is called on."
    shown = type(model).__name__
    if model is None:
        shown, advice = None, "A function that builds a model must return it. Try " + advice[4:]
    elif isinstance(model, (str, os.PathLike)):
        shown, advice = model, "A path is not read. Try keras.models.load_model() first."
    elif is_layer:
        advice = (
            "A layer has no loss. Try gradhooks.testing.assert_gradients(layer, x), or pass "
            "`loss_fn`, or a model around the layer."
        )
    elif isinstance(model, type):
        shown, advice = model, "This is a class. Try an instance of it."
    elif any(kind.__module__.startswith("tf_keras") for kind in type(model).__mro__):
        shown = f"{shown} of tf_keras"
        advice = (
            "tf_keras is Keras 2. Try building the model with `import keras`, and without the "
            "environment variable TF_USE_LEGACY_KERAS."
        )
    rule = "What is checked is a model of Keras 3."
    raise bad_input(rule, "model", shown, "a keras.Model", advice)


def is_built(model, loss_fn=None):
    """Returns whether the loss of a model can be evaluated without making weights."""
    # The user's loss may need only layers that are built, and not the model as a whole.
    return model.built or (loss_fn is not None and keras_internals.are_parts_built(model))


def check_usable(model, loss_fn, batch):
    """Raises an error for a model that cannot be checked.

    Args:
        model: The Keras model.
        loss_fn: The user's loss function, or None for the compiled loss.
        batch: The `Batch` that it is checked on.

    Raises:
        BadInputError: If it is no model of Keras 3, is not compiled, not built,
            has nothing to train, no loss, or no targets for its loss.
    """
    check_kind(model, loss_fn)
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
        _check_loss(model, batch)


def _check_loss(model, batch):
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
    if needs_targets and batch.y is None:
        advice = "Try passing the `y` that `fit()` gets."
        if isinstance(batch.x, (list, tuple)) and len(batch.x) == 2:
            advice += " `x` is a pair: if it is (x, y), try two arguments in place of one."
        raise bad_input(
            "The compiled loss compares with targets, so the check needs them.",
            "y",
            None,
            "targets for every example in `x`",
            advice,
        )


def refuse_infinite_loss(report, batch):
    """Raises a `BadInputError` if the loss is NaN or infinite before training has begun."""
    if report.reason is not Reason.NON_FINITE_LOSS:
        return
    parts = batch.not_finite()
    if parts:
        advice = (
            f"Entries of the batch that are NaN or infinite: {parts}. "
            "Try leaving them out of the loss, or of the batch."
        )
    else:
        advice = (
            "All of the batch is finite. Try looking for weights that are NaN, "
            "infinite or huge, and for huge inputs or targets."
        )
    raise bad_input(
        "The loss must be finite to have a gradient.",
        "loss",
        report.loss,
        "a finite scalar",
        advice,
    )
