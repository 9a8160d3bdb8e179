"""Bad input, told apart from bad gradients: the rule, what was received, what was expected, what to try."""

import math
import numbers
import os
import re
from collections.abc import Mapping

from gradhooks.reports.errors import bad_input
from gradhooks.reports.reasons import Reason
from gradhooks.verdicts.declared import KINDS

FREQUENCIES = "'epoch', a positive int of batches, or a callable step -> bool"
ON_FAILURE = ("warn", "raise", "stop", "ignore")
PRECISIONS = ("auto", "float64", "model")


def positive_int(name, value, advice):
    """Returns the value if it is an int above 0; bools are not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise bad_input(
            f"`{name}` must be a positive int.", name, value, "an int of at least 1", advice
        )
    return int(value)


def natural_int(name, value, advice):
    """Returns the value if it is an int of at least 0; bools are not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise bad_input(
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
        raise bad_input(
            f"`{name}` must be one of a few words.", name, value, f"one of {choices}", advice
        )
    return value


def flag(name, value):
    """Returns the value if it is a bool."""
    if not isinstance(value, bool):
        raise bad_input(
            f"`{name}` must be a bool.", name, value, "True or False", f"Try {name}={bool(value)}."
        )
    return value


def threshold(value):
    """Returns None or the value if it is a finite float above 0."""
    if value is None:
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise bad_input(
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
        raise bad_input(
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
        raise bad_input(
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
        raise bad_input(f"`{name}` must be callable.", name, value, "None or a function", advice)
    return value


def expectations(value):
    """Returns declared mismatches as a tuple of pairs (path pattern, kind)."""
    expected = f"a dict of path patterns to one of {KINDS}"
    advice = "Try expect={'*/quantize/*': 'mismatch'}; patterns are those of `fnmatch`, on variable paths."
    if not isinstance(value, Mapping):
        raise bad_input("`expect` declares mismatches.", "expect", value, expected, advice)
    for pattern, kind in value.items():
        if not isinstance(pattern, str) or kind not in KINDS:
            raise bad_input("`expect` declares mismatches.", "expect", value, expected, advice)
    return tuple(value.items())


def callables(name, value):
    """Returns a tuple of functions."""
    if not isinstance(value, (list, tuple)) or not all(callable(v) for v in value):
        raise bad_input(
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
        raise bad_input(
            f"`{name}` must be a path.", name, value, "None, a str or a path", f"Try {name}='logs'."
        )
    return None if value is None else os.fspath(value)


def file_name(name, value):
    """Returns a word that can stand in a file name, in a log key and in a tag."""
    if not isinstance(value, str) or not re.fullmatch(r"(?!\.+$)[A-Za-z0-9_.-]+", value):
        raise bad_input(
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
        raise bad_input(
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
