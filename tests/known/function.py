"""A function of a few numbers of which it is known where it has a kink."""

import dataclasses
from collections.abc import Callable

import numpy as np

from gradhooks.checking import run
from gradhooks.checking.function_oracle import FunctionOracle
from gradhooks.checking.settings import Settings
from gradhooks.reports.reasons import Reason, Verdict

# Parameters of a function, and examples that a loss is the mean of. Free choices: enough to mix.
SIZE = 6
EXAMPLES = 20


@dataclasses.dataclass(frozen=True)
class Function:
    """A loss with a gradient that is right, or at kinks a subgradient.

    Args:
        name: Family and number.
        loss: Maps float64, shape (P,), to a number.
        gradient: Its gradient, float64, shape (P,).
        point: Where it is checked, float64, shape (P,).
        kinked: Indices of the parameters with a kink at the point.
        penalty: A second `(loss, gradient)` that is added; None for none.
        may_pass: Whether a kinked parameter may pass, because the gradient there is the true
            derivative of one smooth side or the kink is too small to hide a wrong one.
    """

    name: str
    loss: Callable
    gradient: Callable
    point: np.ndarray
    kinked: tuple[int, ...] = ()
    penalty: tuple[Callable, Callable] | None = None
    may_pass: bool = False

    def __str__(self):
        return self.name


def check(function, gradient=None):
    """Returns the report on every parameter of a function, with another gradient if it is given."""
    oracle = FunctionOracle(
        function.loss,
        gradient or function.gradient,
        function.point,
        penalty=function.penalty,
    )
    return run.check(oracle, Settings(samples=len(function.point)))


def says_kink(report):
    """Whether a report speaks of a kink, of a comparison or as a whole."""
    return report.reason is Reason.KINK or any(
        c.reason is Reason.KINK or c.is_kink for c in report.comparisons
    )


def is_kink_recognized(function, report):
    """Whether nothing fails, and a kink is said of every kinked parameter."""
    if report.verdict is Verdict.FAIL:
        return False
    for index in function.kinked:
        found = [c for c in report.comparisons if c.index == (index,) and c.term == "total"]
        if not found or not all(_is_right_at_kink(function, c) for c in found):
            return False
    return True


def _is_right_at_kink(function, comparison):
    if comparison.verdict is Verdict.PASS:
        return function.may_pass
    return comparison.reason is Reason.KINK
