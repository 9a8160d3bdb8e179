"""Rules of `validation` for arguments that need more than a look at their type."""

import inspect
import numbers
from typing import Any

from gradhooks._types import Verbosity
from gradhooks.reports.errors import bad_input

_LOSS = "loss_fn(model, x, y, sample_weight, training)"
_ADVICE = (
    "Try loss_fn=None to check the compiled loss; a loss of (y_true, y_pred) goes to "
    "`model.compile(loss=...)`."
)


def check_loss_function(value: Any) -> Any:
    """Returns None, or the value if it can be called as a `loss_fn` is.

    What has no signature, such as some builtin functions, is let pass.

    Raises:
        BadInputError: If it cannot.
    """
    if value is None:
        return None
    expected = f"None or a function that can be called as `{_LOSS}`"
    if not callable(value):
        raise bad_input("`loss_fn` must be callable.", "loss_fn", value, expected, _ADVICE)
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return value
    try:
        signature.bind("model", "x", "y", "sample_weight", "training")
    except TypeError as error:
        rule = f"`loss_fn` is called with five arguments, by position: {error}."
        raise bad_input(rule, "loss_fn", value, expected, _ADVICE) from None
    return value


def check_verbosity(value: Any) -> Verbosity:
    """Returns `"auto"`, 0, 1 or 2; a bool counts as 0 or 1, as in Keras.

    Raises:
        BadInputError: For anything else.
    """
    if isinstance(value, str) and value == "auto":
        return "auto"
    if isinstance(value, numbers.Integral) and int(value) in (0, 1, 2):
        return int(value)
    raise bad_input(
        "`verbose` says how much is printed.",
        "verbose",
        value,
        "'auto', 0, 1 or 2",
        "Try verbose=1, a line for every check, or verbose=2, its table.",
    )


def name_function(function: Any, otherwise: str) -> str:
    """Returns the name of a function as code calls it; a lambda has none."""
    name = getattr(function, "__name__", otherwise)
    return name if name.isidentifier() else otherwise
