"""What a report is made of: frozen records without a framework, a file or a clock."""

import dataclasses
import math
from typing import Literal

from gradhooks.reports.circumstances import (
    NOTHING_COVERED,
    PROMOTED,
    Coverage,
    Origin,
    Precision,
)
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason, Verdict

# Loss terms whose derivatives are measured, and the term of what the optimizer receives.
TERMS = ("total", "data", "penalty")
TRAINED = "trained"
# Path of a comparison over several variables together.
EVERYTHING = "*"


@dataclasses.dataclass(frozen=True)
class DerivativeComparison:
    """A measured derivative beside the analytic one, and the verdict on the two.

    Args:
        path: Path of the variable, or `"*"` for a direction over all of them.
        index: Multi-index of the parameter in its variable; None for a
            direction over many parameters.
        term: Term of the loss: `"total"`, `"data"` or `"penalty"`.
        analytic: The derivative by backpropagation, in loss per parameter unit.
        numeric: The derivative by central differences, in the same unit.
        error: Half width of the error bar of `numeric`, in the same unit.
        step_size: Step size of the central difference, in parameter units.
        relative_difference: `|a - n| / (|a| + |n|)`, 0 where both are 0.
        verdict: A `Verdict`.
        reason: A `Reason`.
        left: One-sided derivative from below; NaN where it is not known.
        right: One-sided derivative from above; NaN where it is not known.
        allowed: Largest gap that would have passed: the threshold times the size
            of the derivative, plus the error bar.
        position: Flat index of the first parameter concerned.
        magnitude: Size that the derivative along a direction would have if
            nothing cancelled; 0 for a single parameter.
        is_kink: Whether the one-sided derivatives differ by far more than their error
            bars.
        truncation: The part of `error` that does not come from rounding; NaN
            where it is not known.
        left_error: Half width of the error bar of `left`; NaN where it is not
            known.
        right_error: Half width of the error bar of `right`; NaN where it is not
            known.
        pooled: How many parameters were measured together by the same quotient; 1
            for a measurement of its own. Of several, `numeric` is what the derivative
            would be if this parameter alone made all of the difference, so that
            `relative_difference` bounds its error where no other of the pool is wrong.

    Example:

    >>> comparison = DerivativeComparison(
    ...     path="dense/kernel",
    ...     index=(0, 1),
    ...     term="total",
    ...     analytic=3.0,
    ...     numeric=1.0,
    ...     error=1e-9,
    ...     step_size=1e-4,
    ...     relative_difference=0.5,
    ...     verdict=Verdict.FAIL,
    ...     reason=Reason.MISMATCH,
    ... )
    >>> comparison.label, comparison.gap
    ('dense/kernel[0, 1]', 2.0)
    """

    path: str
    index: tuple[int, ...] | None
    term: Literal["total", "data", "penalty"]
    analytic: float
    numeric: float
    error: float
    step_size: float
    relative_difference: float
    verdict: Verdict
    reason: Reason
    left: float = math.nan
    right: float = math.nan
    allowed: float = math.nan
    position: int = 0
    magnitude: float = 0.0
    is_kink: bool = False
    truncation: float = math.nan
    left_error: float = math.nan
    right_error: float = math.nan
    pooled: int = 1

    @property
    def gap(self) -> float:
        """`|analytic - numeric|`."""
        return abs(self.analytic - self.numeric)

    @property
    def label(self) -> str:
        """`path[i, j]`; `path[()]` of a scalar; or the path alone for a direction."""
        if self.index is None:
            return self.path
        return f"{self.path}[{', '.join(map(str, self.index)) or '()'}]"


@dataclasses.dataclass(frozen=True)
class GradientComparison:
    """Two whole gradients of a variable beside each other, and the verdict on the two.

    One is the gradient by backpropagation in float64, the other the gradient
    that the optimizer receives, which training computes at its own precision.

    Args:
        path: Path of the variable; `"*"` for a comparison that could not be
            made, or that is of the loss of training alone.
        analytic_norm: Norm of the gradient by backpropagation in float64.
        received_norm: Norm of the gradient that the optimizer receives; NaN
            where it could not be recorded.
        distance: `||received - analytic||`; NaN where it is not known.
        relative_difference: `distance / (analytic_norm + received_norm)`, 0
            where both are 0.
        verdict: A `Verdict`.
        reason: A `Reason`.
        allowed: Largest distance that passes: what the precision of training
            explains.
        rounding: Norm up to which a gradient of the variable is rounding noise
            beside the gradients of the other variables.
        position: Flat index of the first parameter of the variable.
        cosine: Cosine between the two gradients; NaN where undefined.
        ratio: Best factor `s` in `received = s * analytic`; NaN where undefined.
        zeros: Fraction of exact zeros in the received gradient, of the entries
            where the analytic one is not zero.
        dtype: Name of the dtype that training computes in; empty where a stored
            report is older than this field.
        term: Always `"trained"`.

    Example:

    >>> comparison = GradientComparison(
    ...     path="dense/kernel",
    ...     analytic_norm=3.0,
    ...     received_norm=1.0,
    ...     distance=2.0,
    ...     relative_difference=0.5,
    ...     verdict=Verdict.FAIL,
    ...     reason=Reason.UNTRAINED,
    ... )
    >>> comparison.label, comparison.gap
    ('dense/kernel', 2.0)
    """

    path: str
    analytic_norm: float
    received_norm: float
    distance: float
    relative_difference: float
    verdict: Verdict
    reason: Reason
    allowed: float = math.nan
    rounding: float = math.nan
    position: int = 0
    cosine: float = math.nan
    ratio: float = math.nan
    zeros: float = math.nan
    dtype: str = ""
    term: Literal["trained"] = "trained"

    @property
    def gap(self) -> float:
        """The distance."""
        return self.distance

    @property
    def label(self) -> str:
        """The path."""
        return self.path

    @property
    def index(self) -> None:
        """None: a whole variable is compared, not one of its parameters."""
        return None


Comparison = DerivativeComparison | GradientComparison


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is wrong with one variable, in words.

    Args:
        path: Path of the variable.
        sentence: What was found and what usually causes it, without the path.
        terms: Which terms fail.
        ratio: Best factor `s` in `analytic = s * numeric`, or in
            `received = s * analytic` for the term `"trained"`; NaN if undefined.
        cosine: Cosine between the two, over the probes or the entries of the
            variable; NaN if undefined.
        is_leading: Whether this is the one to read first. Of the variables that one
            error in a backward pass spoils it is the last in forward order, so the
            nearest to the error; where that is made, a `Culprit` says.
    """

    path: str
    sentence: str
    terms: tuple[str, ...] = ()
    ratio: float = math.nan
    cosine: float = math.nan
    is_leading: bool = False


@dataclasses.dataclass(frozen=True)
class Report:
    """The fields of a `CheckReport`, which describes them, and views of its comparisons."""

    step: int
    verdict: Verdict
    reason: Reason
    relative_difference: dict[str, float]
    comparisons: tuple[Comparison, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    loss: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    threshold: float = math.nan
    precision: Precision = PROMOTED
    coverage: Coverage = NOTHING_COVERED
    seed: int = 0
    samples: int = 0
    evaluations: int = 0
    jitter: float = 0.0
    replaced: int = 0
    trail: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0
    overhead: float = math.nan
    postponed: int = 0
    name: str = "gradcheck"
    expect: tuple[tuple[str, str], ...] = ()
    checked: Literal["model", "layer", "function"] = "model"
    arguments: tuple[tuple[str, str], ...] = ()
    culprit: Culprit | None = None
    origin: Origin = dataclasses.field(default_factory=Origin)
    saved_in: str = ""

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """The comparisons with verdict FAIL, largest relative difference first."""
        failed = [c for c in self.comparisons if c.verdict is Verdict.FAIL]
        return tuple(sorted(failed, key=_failure_rank))

    @property
    def inconclusive(self) -> tuple[Comparison, ...]:
        """The comparisons that could not be decided, without vacuous, declared and known ones."""
        settled = (Reason.VACUOUS, Reason.DECLARED, Reason.KNOWN)
        undecided = [c for c in self.comparisons if c.verdict is Verdict.INCONCLUSIVE]
        return tuple(c for c in undecided if c.reason not in settled)

    @property
    def vacuous(self) -> tuple[Comparison, ...]:
        """The comparisons in which both derivatives vanish."""
        return tuple(c for c in self.comparisons if c.reason is Reason.VACUOUS)


def _failure_rank(comparison: Comparison) -> float:
    """What failures are sorted by: those without a finite relative difference come first."""
    difference = comparison.relative_difference
    return -difference if math.isfinite(difference) else -math.inf
