"""Rules of `validation` for arguments that need more than a look at their type."""

import inspect
from typing import Any

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
