"""Everything that one check has to say."""

import dataclasses
import math

from gradhooks.reports import serialization
from gradhooks.reports.errors import GradientMismatchError
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Comparison, Coverage, Diagnosis, Precision
from gradhooks.reports.table import render

_PROMOTED, _NOTHING = Precision("float64"), Coverage(0, 0, 0, 0)


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
    precision: Precision = _PROMOTED
    coverage: Coverage = _NOTHING
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
            sorted(
                failed,
                key=lambda c: (
                    -c.relative_difference if math.isfinite(c.relative_difference) else -math.inf
                ),
            )
        )

    @property
    def inconclusive(self):
        """The comparisons that could not be decided; vacuous and declared ones are not among them."""
        decided = (Reason.VACUOUS, Reason.DECLARED)
        return tuple(
            c
            for c in self.comparisons
            if c.verdict is Verdict.INCONCLUSIVE and c.reason not in decided
        )

    @property
    def vacuous(self):
        """The comparisons in which both derivatives vanish."""
        return tuple(c for c in self.comparisons if c.reason is Reason.VACUOUS)

    def raise_on_failure(self):
        """Raises `gradhooks.GradientMismatchError` if the verdict is FAIL; returns the report otherwise."""
        if self.verdict is Verdict.FAIL:
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
        return render(self)
