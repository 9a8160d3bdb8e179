"""What a report is made of: plain frozen records that know no framework, file or clock."""

import dataclasses
import math

from gradhooks.reports.reasons import Reason, Verdict

# Loss terms whose derivatives are measured, and the term of what the optimizer receives.
TERMS = ("total", "data", "penalty")
TRAINED = "trained"
# Path of a comparison along a direction over several variables.
EVERYTHING = "*"


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
        step_size: The step actually taken, in parameter units.
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
        ratio: Best factor `s` in `trained = s * analytic`, likewise.
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
    step_size: float
    relative_difference: float
    verdict: Verdict
    reason: Reason
    left: float = math.nan
    right: float = math.nan
    allowed: float = math.nan
    position: int = 0
    distance: float = math.nan
    cosine: float = math.nan
    ratio: float = math.nan
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
        return (
            self.path if self.index is None else f"{self.path}[{', '.join(map(str, self.index))}]"
        )


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is wrong with one variable, in words.

    Args:
        path: Path of the variable.
        sentence: What was found and what usually causes it, without the path.
        terms: Which terms fail.
        ratio: Best factor `s` in `analytic = s * numeric`; NaN if undefined.
        cosine: Cosine between analytic and numeric over the probes of the
            variable; NaN if undefined.
        is_culprit: Whether this is where the bug is, as far as the pattern of
            passing and failing variables can tell.
    """

    path: str
    sentence: str
    terms: tuple[str, ...] = ()
    ratio: float = math.nan
    cosine: float = math.nan
    is_culprit: bool = False


@dataclasses.dataclass(frozen=True)
class Precision:
    """At which precision the loss was evaluated.

    Args:
        level: `"float64"` (everything promoted), `"partial"` (some layers left
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

    level: str
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
