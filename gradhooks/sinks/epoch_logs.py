"""What checks add to the logs of an epoch, and who in a list of callbacks reads those too early."""

import math
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any

import keras

from gradhooks.reports.report import CheckReport


def list_keys(name: str) -> tuple[str, str]:
    """Returns the keys that a check of a name adds to the logs of every epoch.

    Example:

    >>> list_keys("gradcheck")
    ('gradcheck_relative_difference', 'gradcheck_failures')
    """
    return f"{name}_relative_difference", f"{name}_failures"


def add_keys(
    logs: MutableMapping[str, Any], name: str, reports: Sequence[CheckReport], failures: int
) -> None:
    """Adds what checks found to the logs of an epoch.

    Args:
        logs: The logs, which are changed.
        name: Name of the check.
        reports: All reports of the run so far.
        failures: Number of failed comparisons in the epoch.
    """
    difference = reports[-1].relative_difference["total"] if reports else math.nan
    logs.update(zip(list_keys(name), (difference, failures), strict=True))


def describe_order(check: keras.callbacks.Callback, name: str) -> list[str]:
    """Returns a sentence about callbacks that read the logs before a check adds its keys, or none.

    It must be called from `on_train_begin`, below the list of callbacks that calls it.

    Args:
        check: The callback that adds the keys.
        name: Name of the check.

    Returns:
        list of str; empty if there are no such callbacks, or no list is found.
    """
    keys = list_keys(name)
    readers: dict[str, None] = {}
    for callback in _list_before(check):
        is_log = isinstance(callback, keras.callbacks.CSVLogger)
        if is_log or getattr(callback, "monitor", None) in keys:
            readers[type(callback).__name__] = None
    if not readers:
        return []
    return [
        f"{name}: the check stands behind {', '.join(readers)} in the list of callbacks, where "
        f"{' and '.join(keys)} are not in the logs yet. Try putting the check first: "
        "callbacks=[check, ...]"
    ]


def _list_before(check: Any) -> list[Any]:
    """Returns the callbacks before a check in the list that is calling it; without one, none.

    Keras gives callbacks no way to their list, so it is looked for among the callers.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "on_train_begin":
            caller = frame.f_locals.get("self")
            if isinstance(caller, keras.callbacks.CallbackList):
                numbers = [n for n, c in enumerate(caller.callbacks) if c is check]
                return caller.callbacks[: numbers[0]] if numbers else []
        frame = frame.f_back
    return []
