"""What flows through a check: plain frozen records, in the order in which they come to be.

A `Probe` is what is varied, `DerivativeEstimate` what the losses along it imply,
`Comparison` the judgement on one number and `CheckReport` everything that one
check has to say. None of them knows a
framework, a file or a clock.
"""

import dataclasses
import math

import numpy as np

from gradhooks.numerics import serialization
from gradhooks.numerics.reasons import Reason, Verdict

TERMS = ("total", "data", "penalty")


@dataclasses.dataclass(frozen=True)
class Probe:
    """A direction in parameter space, nonzero on one contiguous range of the flat parameter vector.

    A coordinate is a probe with a single weight, so nothing downstream tells
    coordinates and directions apart.

    Args:
        start: First flat index of the range.
        weights: float64, shape (K,). The direction's entries in the range.
            Parameters are moved by `offset * weights`.
        scale: Typical size of the parameters in the range, in parameter units
            per unit of offset. Steps are chosen in proportion to it.
    """

    start: int
    weights: np.ndarray
    scale: float = 1.0

    @property
    def stop(self):
        """Flat index behind the range."""
        return self.start + len(self.weights)

    @property
    def is_coordinate(self):
        """Whether a single parameter is varied."""
        return len(self.weights) == 1

    def slope_of(self, gradient):
        """Returns the derivative along this probe that a flat gradient (float64, shape (P,)) implies."""
        if self.is_coordinate:
            return float(self.weights[0]) * float(gradient[self.start])  # asked for a dozen times per sample
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite gradient gives NaN, which is judged
            return float(np.dot(self.weights, gradient[self.start : self.stop]))


@dataclasses.dataclass(frozen=True)
class DerivativeEstimate:
    """A numeric derivative and what is known about it.

    Args:
        slope: The derivative along the probe, in loss per unit of offset.
        error: Half width of the error bar around `slope`, same unit.
        step: The step of the quotient that gave `slope`, as actually taken.
        left: One-sided slope `(J(0) - J(-step)) / step`.
        right: One-sided slope `(J(step) - J(0)) / step`.
        is_kink: Whether the one-sided slopes fail to meet as the step shrinks.
        evaluations: How many loss evaluations went into it.
        truncation: The part of `error` that bounds how far the slope itself
            changes within the step; the rest comes from rounding.
    """

    slope: float
    error: float
    step: float
    left: float
    right: float
    is_kink: bool = False
    evaluations: int = 2
    truncation: float = 0.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One analytic number beside its numeric measurement, and the judgement.

    Args:
        path: Path of the variable, or `"*"` for a direction over all of them.
        index: Multi-index of the parameter in its variable; None for a
            direction over many parameters.
        term: `"total"`, `"data"`, `"penalty"` or `"trained"`.
        analytic: What backpropagation says, in loss per parameter unit.
        numeric: What central differences measure, same unit.
        error: Half width of the error bar of `numeric`.
        step: The step actually taken, in parameter units.
        relative_difference: `|a - n| / (|a| + |n|)`, 0 where both are 0.
        verdict: A `Verdict`.
        reason: A `Reason`.
        left: One-sided slope from below.
        right: One-sided slope from above.
        allowed: Largest gap that would have passed: tolerance times size, plus
            the error bar.
        position: Flat index of the first parameter concerned.
        distance: `||trained - analytic||` for the term `"trained"`, where
            `analytic` and `numeric` hold the norms of the analytic gradient
            and of the trained one, and `error` what rounding alone leaves of
            a gradient; NaN otherwise.
        cosine: Cosine between the two, likewise.
        scale: Best factor `s` in `trained = s * analytic`, likewise.
        zeros: Share of exact zeros in the trained gradient where the analytic
            one is not zero, likewise.
        magnitude: Size of a direction's slope if nothing cancelled; else 0.
        is_kink: Whether the loss was found to have a corner here.
        dtype: Name of the dtype that training computes in, for the term
            `"trained"`; empty otherwise, and where a report is older.
        truncation: The part of `error` that does not come from rounding; NaN
            where it is not known.
    """

    path: str
    index: tuple[int, ...] | None
    term: str
    analytic: float
    numeric: float
    error: float
    step: float
    relative_difference: float
    verdict: Verdict
    reason: Reason
    left: float = math.nan
    right: float = math.nan
    allowed: float = math.nan
    position: int = 0
    distance: float = math.nan
    cosine: float = math.nan
    scale: float = math.nan
    zeros: float = math.nan
    magnitude: float = 0.0
    is_kink: bool = False
    dtype: str = ""
    truncation: float = math.nan

    @property
    def gap(self):
        """`|analytic - numeric|`, or the distance of the two gradients where both are whole."""
        return abs(self.analytic - self.numeric) if math.isnan(self.distance) else self.distance

    @property
    def label(self):
        """`path[i, j]`, or the path alone for a direction."""
        return self.path if self.index is None else f"{self.path}[{', '.join(map(str, self.index))}]"


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is wrong with one variable, in words.

    Args:
        path: Path of the variable.
        sentence: What was found and what usually causes it, without the path.
        terms: Which terms fail.
        scale: Best factor `s` in `analytic = s * numeric`; NaN if undefined.
        cosine: Cosine between analytic and numeric over the probes of the
            variable; NaN if undefined.
        is_culprit: Whether this is where the bug is, as far as the pattern of
            passing and failing variables can tell.
    """

    path: str
    sentence: str
    terms: tuple[str, ...] = ()
    scale: float = math.nan
    cosine: float = math.nan
    is_culprit: bool = False


@dataclasses.dataclass(frozen=True)
class Precision:
    """At which precision the loss was evaluated.

    Args:
        rung: `"float64"` (everything promoted), `"partial"` (some layers left
            at their own precision) or `"model"` (nothing promoted).
        native_layers: Paths of layers left at their own precision.
        narrow_operations: Operations found in the promoted graph that still
            compute in a lower precision between parameters and loss.
        step_operations: Operations through which the loss depends on
            parameters in steps: rounding, quantization, values in integers,
            lookups.
        noise: Measured rounding level of the loss, in loss units.
        note: One sentence for people, empty when everything was promoted.
    """

    rung: str
    native_layers: tuple[str, ...] = ()
    narrow_operations: tuple[str, ...] = ()
    noise: float = 0.0
    note: str = ""
    step_operations: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of the model has been compared so far, over all checks of a run."""

    variables: int
    variables_total: int
    parameters: int
    parameters_total: int

    @property
    def share(self):
        """Share of trainable variables compared at least once, in [0, 1]."""
        return self.variables / self.variables_total if self.variables_total else 0.0


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Everything that one check found.

    Args:
        step: Count of training batches before the check.
        verdict: FAIL if anything failed, PASS if something was compared and
            nothing failed, else INCONCLUSIVE.
        reason: The reason behind `verdict`.
        relative_difference: `||a - n|| / (||a|| + ||n||)` over the sampled
            parameters, per term; NaN where nothing was measured.
        comparisons: All comparisons, coordinates first, then directions.
        diagnoses: One per failed variable, the most likely culprit first.
        loss: Loss per term at the checked point.
        threshold: Relative difference above which a comparison can fail.
        precision: A `Precision`.
        coverage: A `Coverage`.
        seed: Seed of the sampling.
        samples: Number of sampled parameters asked for.
        evaluations: Number of loss evaluations.
        jitter: Difference of the loss between two evaluations at one point.
        replaced: Number of probes replaced because they sat on a kink.
        trail: How bisection found a culprit, one line per step.
        notes: Remarks for people.
        error: What went wrong in the checking itself, else empty.
        seconds: Wall time of the check.
        overhead: Time spent on checks per time spent on training, since the
            first check of the run; NaN where it was not measured.
        postponed: By how many batches the check came late to keep to
            `max_overhead`.
        name: Name of the check.
        expect: Declared mismatches, pairs (path pattern, kind).
    """

    step: int
    verdict: Verdict
    reason: Reason
    relative_difference: dict[str, float]
    comparisons: tuple[Comparison, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    loss: dict[str, float] = dataclasses.field(default_factory=dict)
    threshold: float = math.nan
    precision: Precision = Precision("float64")
    coverage: Coverage = Coverage(0, 0, 0, 0)
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

    @property
    def failures(self):
        """The comparisons with verdict FAIL, worst relative difference first."""
        failed = (c for c in self.comparisons if c.verdict is Verdict.FAIL)
        return tuple(
            sorted(failed, key=lambda c: -c.relative_difference if math.isfinite(c.relative_difference) else -math.inf)
        )

    @property
    def inconclusive(self):
        """The comparisons that could not be decided; vacuous and declared ones are not among them."""
        decided = (Reason.VACUOUS, Reason.DECLARED)
        return tuple(c for c in self.comparisons if c.verdict is Verdict.INCONCLUSIVE and c.reason not in decided)

    @property
    def vacuous(self):
        """The comparisons in which both derivatives vanish."""
        return tuple(c for c in self.comparisons if c.reason is Reason.VACUOUS)

    def raise_on_failure(self):
        """Raises `gradhooks.GradientMismatchError` if the verdict is FAIL; returns the report otherwise."""
        if self.verdict is Verdict.FAIL:
            from gradhooks.errors import GradientMismatchError  # errors shows reports, so it comes later

            raise GradientMismatchError(self)
        return self

    def to_json(self):
        """Returns the report as one line of strict JSON in ASCII; NaN and infinities become strings."""
        return serialization.dumps(self)

    @classmethod
    def from_json(cls, text):
        """Returns the report that `to_json` wrote.

        Fields that this version does not know are ignored, missing ones that have
        a default get it. Everything else must be there and be of its type.

        Raises:
            ValueError: If `text` is not such a report.
        """
        return serialization.loads(cls, text)

    def __str__(self):
        from gradhooks.reporting.table import render  # telling sits above the records

        return render(self)
