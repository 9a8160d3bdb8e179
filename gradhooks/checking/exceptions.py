"""The report of a check that ended with an exception."""

import math

from gradhooks.reports.errors import GradientFailsError
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, DerivativeComparison, Diagnosis
from gradhooks.reports.report import CheckReport


def report_of(error, settings):
    """Returns the report of a check that an exception ended.

    An exception of the backward pass is a finding: nothing can be trained by
    it. Any other says nothing about the gradient.

    Args:
        error: The exception.
        settings: The `Settings` of the check.
    """
    nothing: dict[str, float] = dict.fromkeys(("total", "data", "penalty"), math.nan)
    common = {
        "seed": settings.seed,
        "samples": settings.samples,
        "name": settings.name,
        "expect": settings.expect,
    }
    if not isinstance(error, GradientFailsError):
        told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
        return CheckReport(
            settings.step, Verdict.INCONCLUSIVE, Reason.ERROR, nothing, error=told, **common
        )
    path = error.path or EVERYTHING
    failure = DerivativeComparison(
        path,
        None,
        "total",
        math.nan,
        math.nan,
        math.nan,
        math.nan,
        math.nan,
        Verdict.FAIL,
        Reason.GRADIENT_FAILS,
    )
    diagnosis = Diagnosis(
        path, f"its backward pass raises {error.cause}", ("total",), is_culprit=bool(error.path)
    )
    return CheckReport(
        settings.step,
        Verdict.FAIL,
        Reason.GRADIENT_FAILS,
        nothing,
        (failure,),
        (diagnosis,),
        **common,
    )
