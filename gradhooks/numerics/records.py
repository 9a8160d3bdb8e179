"""What flows through a check: plain frozen records, in the order in which they come to be.

A `Probe` is what is varied, `DerivativeEstimate` what the losses along it imply,
`Comparison` the judgement on one number and `CheckReport` everything that one
check has to say. None of them knows a
framework, a file or a clock.
"""

import dataclasses
import enum
import json
import math

import numpy as np

TERMS = ("total", "data", "penalty")


class Verdict(enum.Enum):
    """The judgement on one comparison, or on a whole check."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    def __str__(self):
        return self.name


class Reason(enum.Enum):
    """Why a verdict was given. The value says what it means and what to do.

    Example:

    >>> Reason.KINK.name, Reason.KINK.explanation.split(":")[0]
    ('KINK', 'the loss has a corner here')
    """

    AGREES = "numeric and analytic derivative agree within the tolerance and the error bar"
    MISMATCH = (
        "the analytic derivative is wrong: the gap to the numeric one exceeds both the error bar and the "
        "tolerance, at several step sizes; look for a custom gradient, a hand-written layer or loss in this path"
    )
    BLOCKED = (
        "the loss depends on this parameter but its gradient is zero: look for stop_gradient, rounding, "
        "argmax or a detached branch between the parameter and the loss"
    )
    NON_FINITE_GRADIENT = (
        "the gradient is NaN or infinite while the loss is finite: look for sqrt, log, division or norm "
        "evaluated at zero, and for a where() that hides an infinite branch"
    )
    DECLARED = "a mismatch that `expect` declares; it is not counted as a failure"
    UNDECLARED_MATCH = (
        "`expect` declares a mismatch here, but the gradient now agrees: the declaration is out of date, "
        "or what it stands for (a straight-through estimator, a reversal) has silently stopped working"
    )
    VACUOUS = (
        "numeric and analytic derivative are both zero to within the rounding noise of the loss: "
        "nothing to compare; nothing is wrong by itself"
    )
    KINK = (
        "the loss has a corner here: the one-sided slopes differ, so there is no derivative to compare "
        "with (a ReLU at zero, a tie in a maximum); any value in between is a valid subgradient"
    )
    NOISE = (
        "the error bar of the numeric derivative is too wide to tell: the loss is computed with too few "
        "digits for a derivative this small; sample more, or use a larger batch or precision='float64'"
    )
    NOT_DETERMINISTIC = (
        "the loss changes between two evaluations at the same point, so differences of it mean nothing: "
        "look for random operations without a keras.random.SeedGenerator and for state outside Keras variables"
    )
    NON_FINITE_LOSS = "the loss is NaN or infinite at this point, so it has no derivative to compare with"
    ERROR = "the check itself could not be carried out; the report names the cause, training was not touched"
    UNTRAINED = (
        "the optimizer does not receive the gradient of the loss: `train_step` loses, scales or changes it on the way"
    )
    UNDERFLOW = (
        "small gradients become zero in half precision before they reach the optimizer: "
        "use keras.optimizers.LossScaleOptimizer, or the policy mixed_bfloat16"
    )
    NOT_RECORDED = "the gradient that the optimizer receives could not be recorded; the notes say why"
    NOTHING_SAMPLED = "no sampled parameter has any influence on the loss, so nothing could be compared"

    @property
    def explanation(self):
        """The sentence for people: what it means, what usually causes it, what to try."""
        return self.value

    def __str__(self):
        return self.name.lower()


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
    """

    slope: float
    error: float
    step: float
    left: float
    right: float
    is_kink: bool = False
    evaluations: int = 2


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
            and of the trained one; NaN otherwise.
        cosine: Cosine between the two, likewise.
        scale: Best factor `s` in `trained = s * analytic`, likewise.
        zeros: Share of exact zeros in the trained gradient where the analytic
            one is not zero, likewise.
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
        noise: Measured rounding level of the loss, in loss units.
        note: One sentence for people, empty when everything was promoted.
    """

    rung: str
    native_layers: tuple[str, ...] = ()
    narrow_operations: tuple[str, ...] = ()
    noise: float = 0.0
    note: str = ""


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
        name: Name of the check.
    """

    step: int
    verdict: Verdict
    reason: Reason
    relative_difference: dict
    comparisons: tuple[Comparison, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    loss: dict = dataclasses.field(default_factory=dict)
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
    name: str = "gradcheck"

    @property
    def failures(self):
        """The comparisons with verdict FAIL, worst relative difference first."""
        failed = (c for c in self.comparisons if c.verdict is Verdict.FAIL)
        return tuple(sorted(failed, key=lambda c: -_finite_or_infinite(c.relative_difference)))

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
        """Returns the report as one line of strict JSON; NaN and infinities become strings."""
        return json.dumps(_plain(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text):
        """Returns the report that `to_json` wrote.

        Raises:
            ValueError: If `text` is not such a report.
        """
        try:
            return _record(cls, json.loads(text))
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as cause:
            raise ValueError(
                "A stored report must be one JSON object as written by `CheckReport.to_json()`. "
                f"Received: {text[:80]!r}. Expected the fields of CheckReport. "
                "Try reading the file line by line, one report a line."
            ) from cause

    def __str__(self):
        from gradhooks.reporting.table import render  # telling sits above the records

        return render(self)


def _finite_or_infinite(value):
    return value if math.isfinite(value) else math.inf


def _plain(value):
    """Records, enumerations, tuples and NumPy numbers as what JSON knows."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    value = float(value)
    return value if math.isfinite(value) else str(value)


_NESTED = {"precision": Precision, "coverage": Coverage}
_NESTED_MANY = {"comparisons": Comparison, "diagnoses": Diagnosis}
_NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_WORDS = {"path", "term", "sentence", "rung", "note", "error", "name"}


def _record(cls, fields):
    """The inverse of `_plain` for the records of this module; unknown fields are ignored."""
    known = {f.name for f in dataclasses.fields(cls)}
    return cls(**{name: _value(cls, name, value) for name, value in fields.items() if name in known})


def _value(cls, name, value):
    if name in _NESTED:
        return _record(_NESTED[name], value)
    if name in _NESTED_MANY:
        return tuple(_record(_NESTED_MANY[name], v) for v in value)
    if name == "verdict":
        return Verdict[value]
    if name == "reason":
        return Reason[value]
    if isinstance(value, dict):
        return {k: _NUMBERS.get(v, v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(value)
    is_word = name in _WORDS and not (cls is Comparison and name == "error")
    return value if is_word or not isinstance(value, str) else _NUMBERS[value]
