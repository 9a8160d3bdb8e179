"""Bad input, told apart from bad gradients: the rule, what was received, what was expected, what to try."""

import math
import numbers
import os
import re
from collections.abc import Mapping

from gradhooks.reports.errors import BadInputError
from gradhooks.reports.reasons import Reason
from gradhooks.verdicts.declared import KINDS

FREQUENCIES = "'epoch', a positive int of batches, or a callable step -> bool"
ON_FAILURE = ("warn", "raise", "stop", "ignore")
PRECISIONS = ("auto", "float64", "model")


def invalid(rule, name, value, expected, advice):
    """Returns a `BadInputError` in four parts."""
    return BadInputError(f"{rule} Received: {name}={value!r}. Expected {expected}. {advice}")


def positive_int(name, value, advice):
    """Returns the value if it is an int above 0; bools are not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise invalid(
            f"`{name}` must be a positive int.", name, value, "an int of at least 1", advice
        )
    return int(value)


def natural_int(name, value, advice):
    """Returns the value if it is an int of at least 0; bools are not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise invalid(
            f"`{name}` must be an int that is not negative.",
            name,
            value,
            "an int of at least 0",
            advice,
        )
    return int(value)


def batch_size(value):
    """Returns None, for arrays as they are, or the value if it is an int above 0."""
    return (
        None
        if value is None
        else positive_int("batch_size", value, "Try batch_size=32, or None for all there is.")
    )


def one_of(name, value, choices, advice):
    """Returns the value if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise invalid(
            f"`{name}` must be one of a few words.", name, value, f"one of {choices}", advice
        )
    return value


def flag(name, value):
    """Returns the value if it is a bool."""
    if not isinstance(value, bool):
        raise invalid(
            f"`{name}` must be a bool.", name, value, "True or False", f"Try {name}={bool(value)}."
        )
    return value


def threshold(value):
    """Returns None or the value if it is a finite float above 0."""
    if value is None:
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise invalid(
            "`threshold` is a relative difference.",
            "threshold",
            value,
            "None or a float above 0",
            "Try None, the default of the precision in use, or 1e-6.",
        )
    return float(value)


def share(name, value):
    """Returns None or the value if it is a float above 0 and below 1."""
    if value is None:
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 < value < 1:
        raise invalid(
            f"`{name}` is a share of the training time.",
            name,
            value,
            "None or a float above 0 and below 1",
            "Try None, no limit, or 0.05.",
        )
    return float(value)


def frequency(value):
    """Returns the value if it says when to check."""
    if value == "epoch" or (callable(value) and not isinstance(value, type)):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise invalid(
            "`freq` says when to check.",
            "freq",
            value,
            FREQUENCIES,
            "Try freq='epoch' or freq=100.",
        )
    return int(value)


def optional_callable(name, value, advice):
    """Returns None or the value if it can be called."""
    if value is not None and not callable(value):
        raise invalid(f"`{name}` must be callable.", name, value, "None or a function", advice)
    return value


def expectations(value):
    """Returns declared mismatches as a tuple of pairs (path pattern, kind)."""
    expected = f"a dict of path patterns to one of {KINDS}"
    advice = "Try expect={'*/quantize/*': 'mismatch'}; patterns are those of `fnmatch`, on variable paths."
    if not isinstance(value, Mapping):
        raise invalid("`expect` declares mismatches.", "expect", value, expected, advice)
    for pattern, kind in value.items():
        if not isinstance(pattern, str) or kind not in KINDS:
            raise invalid("`expect` declares mismatches.", "expect", value, expected, advice)
    return tuple(value.items())


def callables(name, value):
    """Returns a tuple of functions."""
    if not isinstance(value, (list, tuple)) or not all(callable(v) for v in value):
        raise invalid(
            f"`{name}` must be a sequence of functions that take a report.",
            name,
            value,
            "a list of callables",
            f"Try {name}=[print].",
        )
    return tuple(value)


def directory(name, value):
    """Returns None or a path as a string."""
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise invalid(
            f"`{name}` must be a path.", name, value, "None, a str or a path", f"Try {name}='logs'."
        )
    return None if value is None else os.fspath(value)


def file_name(name, value):
    """Returns a word that can stand in a file name, in a log key and in a tag."""
    if not isinstance(value, str) or not re.fullmatch(r"(?!\.+$)[A-Za-z0-9_.-]+", value):
        raise invalid(
            f"`{name}` names a directory, log keys and tags.",
            name,
            value,
            "letters, digits, '_', '.' and '-', and not dots alone",
            f"Try {name}='gradcheck'.",
        )
    return value


def finite_loss(report, batch):
    """Returns the report of a first check, unless its loss was not finite.

    Args:
        report: The `CheckReport`.
        batch: The `Batch` on which it was made.

    Raises:
        BadInputError: If the loss is NaN or infinite before training has begun.
    """
    if report.reason is Reason.NON_FINITE_LOSS:
        found = batch.not_finite()
        advice = f"Entries of the batch that are NaN or infinite: {found}. Try leaving them out of the loss, or of"
        raise invalid(
            "The loss must be finite to have a gradient.",
            "loss",
            report.loss,
            "a finite scalar",
            f"{advice} the batch."
            if found
            else "All of the batch is finite. Try looking for weights that are NaN, "
            "infinite or huge, and for huge inputs or targets.",
        )
    return report


def usable_model(model, loss_fn, y):
    """Checks that a model has what a gradient check needs.

    Raises:
        BadInputError: If it is not compiled, not built, has nothing to train, no
            loss, or no targets for its loss.
    """
    if not getattr(model, "compiled", False) and loss_fn is None:
        raise invalid(
            "The model must be compiled: its loss is what is checked.",
            "model",
            getattr(model, "name", model),
            "a compiled keras.Model",
            "Try `model.compile(optimizer, loss)` first, or pass `loss_fn`.",
        )
    # A loss function of the user's need not call the model as a whole.
    if not model.built and (loss_fn is None or not model.trainable_variables):
        raise invalid(
            "The model must be built: it has no weights yet.",
            "model",
            model.name,
            "a built keras.Model",
            "Try calling it once on a batch.",
        )
    if not model.trainable_variables:
        raise invalid(
            "The model must have trainable weights: nothing else has a gradient to check.",
            "model",
            model.name,
            "at least one trainable weight",
            "Try `layer.trainable = True` and compile again.",
        )
    if loss_fn is None and _has_no_loss(model):
        raise invalid(
            "The loss of this model lives in its `train_step`, where a check cannot find it.",
            "loss_fn",
            None,
            "a function `loss_fn(model, x, y, sample_weight, training)` that returns the scalar loss",
            "Try moving the lines of `train_step` up to the loss into such a function.",
        )
    needs_targets = model.compiled and getattr(model, "loss", None) is not None and loss_fn is None
    if needs_targets and y is None:
        from gradhooks.model import keras_internals

        if not keras_internals.has_own_compute_loss(
            model
        ) and not keras_internals.has_own_train_step(model):
            raise invalid(
                "The compiled loss compares with targets, so the check needs them.",
                "y",
                None,
                "targets for every example in `x`",
                "Try passing the `y` that `fit()` gets.",
            )


def _has_no_loss(model):
    """Whether there is neither a compiled loss nor one that the model computes, but a train step of its own."""
    from gradhooks.model import keras_internals

    has_loss = getattr(model, "loss", None) is not None or keras_internals.has_own_compute_loss(
        model
    )
    return not has_loss and keras_internals.has_own_train_step(model)
