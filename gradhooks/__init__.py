"""Training hooks for Keras 3 that prove, while a model trains, that its gradients are right.

Public names are loaded on first use: TensorBoard imports this package when it
starts, and must not have to wait for a framework.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "GradientCheck": "gradhooks.callback",
    "check_gradients": "gradhooks.check",
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

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name):
    if name == "testing":
        return importlib.import_module("gradhooks.testing")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
