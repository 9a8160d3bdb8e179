"""Training hooks for Keras 3 that check, while a model trains, that its gradients are right.

Public names are loaded on first use: TensorBoard imports this package when it
starts, and must not have to wait for a framework.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # For editors and type checkers, which do not see what `__getattr__` loads. A test compares
    # these imports with `_HOMES`.
    from gradhooks import testing as testing
    from gradhooks.callback import GradientCheck
    from gradhooks.check import check_gradients
    from gradhooks.function import check_function
    from gradhooks.replaying import replay
    from gradhooks.reports.errors import (
        BadInputError,
        GradientCheckWarning,
        GradientMismatchError,
        GradientMismatchWarning,
    )
    from gradhooks.reports.reasons import Reason, Verdict
    from gradhooks.reports.records import (
        Comparison,
        DerivativeComparison,
        GradientComparison,
    )
    from gradhooks.reports.report import CheckReport

__version__ = "0.1.0"

_HOMES = {
    "GradientCheck": "gradhooks.callback",
    "check_gradients": "gradhooks.check",
    "check_function": "gradhooks.function",
    "replay": "gradhooks.replaying",
    "CheckReport": "gradhooks.reports.report",
    "Comparison": "gradhooks.reports.records",
    "DerivativeComparison": "gradhooks.reports.records",
    "GradientComparison": "gradhooks.reports.records",
    "Reason": "gradhooks.reports.reasons",
    "Verdict": "gradhooks.reports.reasons",
    "BadInputError": "gradhooks.reports.errors",
    "GradientCheckWarning": "gradhooks.reports.errors",
    "GradientMismatchError": "gradhooks.reports.errors",
    "GradientMismatchWarning": "gradhooks.reports.errors",
}

# Written out, since type checkers do not evaluate it.
__all__ = [
    "BadInputError",
    "CheckReport",
    "Comparison",
    "DerivativeComparison",
    "GradientCheck",
    "GradientCheckWarning",
    "GradientComparison",
    "GradientMismatchError",
    "GradientMismatchWarning",
    "Reason",
    "Verdict",
    "__version__",
    "check_function",
    "check_gradients",
    "replay",
]

if not TYPE_CHECKING:
    # Hidden from type checkers: with a module `__getattr__` they would accept any name.

    def __getattr__(name):
        if name == "testing":
            return importlib.import_module("gradhooks.testing")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "testing"])
