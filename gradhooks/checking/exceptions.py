"""The report of a check that an exception ended."""

import dataclasses
import math
from typing import Any

from gradhooks.checking.settings import Settings
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.errors import GradientFailsError
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, TERMS, DerivativeComparison, Diagnosis
from gradhooks.reports.report import CheckReport
from gradhooks.verdicts import pinpointing


def report_exception(error: Exception, settings: Settings) -> CheckReport:
    """Returns the report of a check that an exception ended.

    An exception in the backward pass is a failure: the model cannot be trained.
    Any other says nothing about the gradient.

    Args:
        error: The exception.
        settings: The `Settings` of the check.
    """
    unknown: dict[str, float] = dict.fromkeys(TERMS, math.nan)
    common: dict[str, Any] = {
        "seed": settings.seed,
        "samples": settings.samples,
        "name": settings.name,
        "expect": settings.expect,
    }
    if not isinstance(error, GradientFailsError):
        lines = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
        return CheckReport(
            settings.step,
            Verdict.INCONCLUSIVE,
            Reason.ERROR,
            unknown,
            error="\n".join(lines),
            **common,
        )
    path = error.path or EVERYTHING
    sentence = f"its backward pass raises {error.cause}"
    diagnosis = Diagnosis(path, sentence, ("total",), is_leading=bool(error.path))
    return CheckReport(
        settings.step,
        Verdict.FAIL,
        Reason.GRADIENT_FAILS,
        unknown,
        (_fail(path),),
        (diagnosis,),
        culprit=_find_place(error),
        **common,
    )


def _find_place(error: GradientFailsError) -> Culprit | None:
    """Where a backward pass raises; None if that is unknown."""
    if not error.path:
        return None
    evidence = ("the loss can be evaluated",)
    sentence = pinpointing.describe_exception(error.path, error.source, error.cause)
    place, package = "", ""
    if error.source is not None:
        place, package = error.source.place, error.source.package
    culprit = Culprit(error.kind, error.path, None, evidence, place, sentence)
    return dataclasses.replace(culprit, package=package)


def _fail(path: str) -> DerivativeComparison:
    """The failure of a backward pass that raises: there is no number to compare."""
    return DerivativeComparison(
        path,
        None,
        "total",
        analytic=math.nan,
        numeric=math.nan,
        error=math.nan,
        step_size=math.nan,
        relative_difference=math.nan,
        verdict=Verdict.FAIL,
        reason=Reason.GRADIENT_FAILS,
    )
