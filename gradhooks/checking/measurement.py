"""The derivatives along one probe, analytic beside numeric, and how they are judged."""

import dataclasses
import math
from collections.abc import Callable

from gradhooks._types import PerTerm
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.numerics import differences
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge, replication
from gradhooks.verdicts.replication import Comparand, Vote

# Per term, the size of a slope before its parts cancel: see `Measurement`.
Magnitudes = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The derivatives of every loss term along one probe, analytic and numeric.

    Args:
        probe: The `Probe`.
        analytic: Per term, the slope that backpropagation implies.
        estimates: Per term, a `DerivativeEstimate`.
        magnitude: Per term, the size of the slope before its parts cancel; 0 for
            coordinates.
        is_accepted: Whether a single quotient agreed for every term.
        judgements: Per term, (Verdict, Reason).
        pooled: How many parameters one quotient measured together; 1 for a
            measurement of its own. Of several each is estimated as if it alone made
            all of the difference.
    """

    probe: Probe
    analytic: tuple[float, ...]
    estimates: tuple[DerivativeEstimate, ...]
    magnitude: Magnitudes
    is_accepted: bool
    judgements: tuple[tuple[Verdict, Reason], ...]
    pooled: int = 1

    @property
    def has_failed(self) -> bool:
        """Whether any term failed."""
        return any(verdict is Verdict.FAIL for verdict, _ in self.judgements)

    @property
    def has_passed(self) -> bool:
        """Whether some terms passed, and the others show no signal."""
        if self.is_vacuous:
            return False
        return all(
            verdict is Verdict.PASS or reason is Reason.VACUOUS
            for verdict, reason in self.judgements
        )

    @property
    def is_finite(self) -> bool:
        """Whether every analytic derivative is finite."""
        return all(map(math.isfinite, self.analytic))

    @property
    def do_slopes_meet(self) -> bool:
        """Whether the one-sided slopes of every term that failed meet within their bars."""
        return all(c.estimate.do_slopes_meet for c in self.failed_comparands.values())

    @property
    def failed_at_kink(self) -> bool:
        """Whether a term failed at what is clearly a kink."""
        return any(c.estimate.is_kink for c in self.failed_comparands.values())

    @property
    def is_clear_failure(self) -> bool:
        """Whether it failed clearly by quotients at several steps, and nothing else is open.

        A gradient that is not finite needs no more than one quotient.
        """
        if not self.is_finite:
            return self._has_failed_only(lambda t: not math.isfinite(self.analytic[t]))
        failed = self.failed_comparands.values()
        return all(c.estimate.evaluations > 2 for c in failed) and self.fails_clearly

    @property
    def is_settled(self) -> bool:
        """Whether no further quotient is needed: it is accepted, or failed clearly."""
        return self.is_accepted or self.is_clear_failure

    @property
    def fails_clearly(self) -> bool:
        """Whether it failed clearly by what was measured, if only by one quotient."""
        return self._has_failed_only(
            lambda t: judge.is_clear_failure(self.analytic[t], self.estimates[t])
        )

    def _has_failed_only(self, is_clear: Callable[[int], bool]) -> bool:
        """Whether a term failed, each that did is clear, and the others are decided."""
        for t, (verdict, reason) in enumerate(self.judgements):
            if verdict is Verdict.FAIL:
                if not is_clear(t):
                    return False
            elif verdict is not Verdict.PASS and reason is not Reason.VACUOUS:
                return False
        return self.has_failed

    @property
    def failed_comparands(self) -> dict[int, Comparand]:
        """The terms that failed, by their numbers."""
        failed: dict[int, Comparand] = {}
        for t, (verdict, _) in enumerate(self.judgements):
            if verdict is Verdict.FAIL:
                failed[t] = self.comparand(t)
        return failed

    def comparand(self, term: int) -> Comparand:
        """The analytic derivative of one term beside its estimate."""
        return Comparand(self.analytic[term], self.estimates[term], self.magnitude[term])

    def vote(self, replicate: "Measurement", threshold: float) -> Vote:
        """Returns what the same measurement at a perturbed point says of this failure.

        One term that fails by the same error repeats it; every term that failed
        must be contradicted.

        Args:
            replicate: The `Measurement` at the perturbed point.
            threshold: Relative difference that the verdict allows.
        """
        votes: list[Vote] = []
        for t, first in self.failed_comparands.items():
            votes.append(replication.vote(first, replicate.comparand(t), threshold))
        if Vote.REPEATED in votes:
            return Vote.REPEATED
        if replicate.has_failed or set(votes) != {Vote.CONTRADICTED}:
            return Vote.SILENT
        return Vote.CONTRADICTED

    def withdraw(self, reason: Reason) -> "Measurement":
        """Returns the measurement with its failures made inconclusive."""
        judgements: list[tuple[Verdict, Reason]] = []
        for verdict, given in self.judgements:
            if verdict is Verdict.FAIL:
                judgements.append((Verdict.INCONCLUSIVE, reason))
            else:
                judgements.append((verdict, given))
        return dataclasses.replace(self, judgements=tuple(judgements))

    @property
    def is_on_kink(self) -> bool:
        """Whether no term failed and some could not be compared because of a kink."""
        if self.has_failed:
            return False
        return any(reason is Reason.KINK for _, reason in self.judgements)

    @property
    def is_vacuous(self) -> bool:
        """Whether no term shows any signal."""
        return all(reason is Reason.VACUOUS for _, reason in self.judgements)


def compare_pair(
    at: EvaluationPoint,
    layout: Layout,
    probe: Probe,
    step: float,
    losses: tuple[PerTerm, PerTerm],
    magnitude: Magnitudes,
    threshold: float,
) -> Measurement:
    """Returns the `Measurement` from one quotient.

    Args:
        at: The `EvaluationPoint`.
        layout: The `Layout` of the parameters.
        probe: The `Probe`.
        step: The step size actually taken.
        losses: float64, shape (T,) each: the losses at `+step` and at `-step`.
        magnitude: Per term, the size of the slope before its parts cancel.
        threshold: Relative difference that the verdict allows.
    """
    plus, minus = losses
    analytic_errors = at.analytic_errors(probe, layout)
    analytic: list[float] = []
    estimates: list[DerivativeEstimate] = []
    is_accepted = True
    for t, gradient in enumerate(at.gradients.values()):
        level = at.noise[t]
        slope = probe.slope_of(gradient)
        estimate = differences.central(
            at.base[t], plus[t], minus[t], step, level, probe.length_scale
        )
        is_accepted = is_accepted and accepts(
            probe, slope, estimate, level, threshold, magnitude[t], analytic_errors[t]
        )
        analytic.append(slope)
        estimates.append(estimate)
    return judge_estimates(
        probe,
        tuple(analytic),
        tuple(estimates),
        magnitude,
        is_accepted,
        threshold,
        analytic_errors,
    )


def accepts(
    probe: Probe,
    analytic: float,
    estimate: DerivativeEstimate,
    noise_level: float,
    threshold: float,
    magnitude: float,
    analytic_error: float = 0.0,
) -> bool:
    """Whether a single quotient agrees, to within the threshold and its rounding error."""
    step = estimate.step_size
    rounding = differences.rounding_error(noise_level, step) + analytic_error
    ratio = differences.curvature_ratio(step, probe.length_scale)
    return judge.is_accepted(analytic, estimate, rounding, threshold, magnitude, ratio)


def judge_estimates(
    probe: Probe,
    analytic: tuple[float, ...],
    estimates: tuple[DerivativeEstimate, ...],
    magnitude: Magnitudes,
    is_accepted: bool,
    threshold: float,
    analytic_errors: PerTerm,
    pooled: int = 1,
) -> Measurement:
    """Returns the `Measurement` from its estimates, each judged by `judge.judge`.

    Where the gradient jitters, the analytic derivative has an error bar too. It
    is added to that of the estimate: what counts is their difference.
    """
    widened: list[DerivativeEstimate] = []
    judgements: list[tuple[Verdict, Reason]] = []
    for t, estimate in enumerate(estimates):
        estimate = estimate.widen(float(analytic_errors[t]))
        judgements.append(judge.judge(analytic[t], estimate, threshold, magnitude[t]))
        widened.append(estimate)
    return Measurement(
        probe, analytic, tuple(widened), magnitude, is_accepted, tuple(judgements), pooled
    )
