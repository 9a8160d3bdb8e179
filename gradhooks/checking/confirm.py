"""Measures probes until they are decided, and confirms every failure before it is reported.

A gradient that disagrees with its numeric derivative is examined in three stages.
Each may withdraw the failure, and only what fails all of them stands:

1. It is measured again at a finer sequence of steps. If that passes, it holds.
2. If the estimate is imprecise, backpropagation is evaluated at a few points
   within the step. If it varies there by as much as the gap, no step shows the
   derivative at one point, and the comparison is inconclusive (noise).
3. It is measured again at nudged points, and `replication.confirm` decides: in
   float64 by one replicate, at native precision by five. What is not confirmed
   is put down to a kink if one was seen; to an operation that is wrong at exactly
   this point if the gradient right beside it agrees; else to noise.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gradhooks._types import PerVariable, Vector
from gradhooks.checking import measure
from gradhooks.checking.baseline import EvaluationPoint, StencilSpacing, estimate_baseline
from gradhooks.checking.measurement import Magnitudes, Measurement
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.settings import Settings
from gradhooks.numerics import sampling
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason
from gradhooks.verdicts import replication
from gradhooks.verdicts.replication import Vote

# How far a replicate lies from the point, in units of each variable's scale: off any exact zero,
# still the same network, and farther than the steps, which would reach back to the kink otherwise.
# At native precision the steps are larger. Between these limits the values are a free choice.
_NUDGE, _NUDGE_NATIVE = 1e-2, 1e-1
# Replicates in float64, where each is precise, and at native precision, where none is. Free
# choices: a majority of five survives two bad ones.
_REPLICATES, _REPLICATES_NATIVE = 1, 5
# How far beside the point the gradient is evaluated to see whether it is wrong at exactly this
# point, in units of each variable's scale. Derived: not only the nudge but its square too must be
# far above float64's roundoff, for a special case may be left by a square; and a smooth gradient
# changes by about as much, which is small beside most gaps. Where it is not, noise is said.
_BESIDE = 1e-6
# Points along a step, in units of the step, at which the gradient is evaluated. A free choice: both
# sides, near and far; the first one that shows a large change ends the search.
_POINTS_ALONG_STEP = (0.5, -0.5, 0.9, -0.9, 0.2, -0.3)


@dataclasses.dataclass(frozen=True)
class CheckContext:
    """The point that is checked, and how probes are measured there.

    Failures are replicated at a nudged point of the same batch, not on another
    slice of the batch. A kink on which parameters sit (a fresh bias, a zero
    layer, two ReLUs that cancel) is the same on every slice and gone after a
    nudge: a slice would repeat the false failure. And an error that only some
    examples show is the same after a nudge and absent from other slices: a slice
    would withdraw a true failure.

    Args:
        oracle: The `Oracle`, which evaluates losses and gradients.
        settings: The check's `Settings`.
        baseline: The `EvaluationPoint`: gradients, losses and noise at the point.
        screening: Direction over all parameters, along which the noise is
            estimated; None when everything is measured.
        scales: float64, shape (V,). Typical parameter size per variable.
        spacing: The `StencilSpacing`.
        threshold: Relative difference that the verdict allows.
        declared: Numbers of variables that are declared to mismatch.
    """

    oracle: Oracle
    settings: Settings
    baseline: EvaluationPoint
    screening: Probe | None
    scales: PerVariable
    spacing: StencilSpacing
    threshold: float
    declared: frozenset[int]

    @property
    def layout(self) -> Layout:
        """The `Layout` of the parameters."""
        return self.oracle.layout

    def coordinate(self, position: int) -> Probe:
        """Returns the probe of one parameter."""
        variable = self.layout.variable_of(position)
        return sampling.coordinate_probe(position, self.scales[variable])

    def is_declared(self, measurement: Measurement) -> bool:
        """Whether this is a parameter of a variable that is declared to mismatch."""
        probe = measurement.probe
        if not probe.is_coordinate:
            return False
        return self.layout.variable_of(probe.start) in self.declared

    def measure(
        self,
        probes: Sequence[Probe],
        magnitudes: Sequence[Magnitudes] | None = None,
    ) -> list[Measurement]:
        """Measures probes until they are decided, and confirms failures.

        Args:
            probes: The `Probe`s.
            magnitudes: Per probe and term, the size of the slope before its parts
                cancel; zeros if None.
        """
        first = measure.measure(
            self.oracle,
            self.baseline,
            probes,
            self.threshold,
            magnitudes,
        )
        return self._refine(first)

    def resolve(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """Measures on from first estimates until all are decided, and confirms failures."""
        refined = measure.refine_steps(
            self.oracle,
            self.baseline,
            measurements,
            self.threshold,
        )
        return self._refine(refined)

    def _refine(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """Measures what is unresolved at a sequence of steps, and confirms its failures."""
        unresolved = [k for k, m in enumerate(measurements) if not m.is_accepted]
        refined = measure.refine(
            self.oracle,
            self.baseline,
            [measurements[k] for k in unresolved],
            self.threshold,
        )
        decided = list(measurements)
        confirmed = self._confirm(refined)
        for k, measurement in zip(unresolved, confirmed, strict=True):
            decided[k] = measurement
        return decided

    def _confirm(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """Examines every failure as this module's docstring says.

        A declared mismatch is not reported as a failure and is not examined.
        """
        candidates: list[int] = []
        for k, measurement in enumerate(measurements):
            if measurement.has_failed and not self.is_declared(measurement):
                candidates.append(k)
        failures = [measurements[k] for k in candidates]
        finer = measure.refine(self.oracle, self.baseline, failures, self.threshold, is_fine=True)

        confirmed = list(measurements)
        remaining: list[int] = []
        meets: list[bool] = []
        has_kink: list[bool] = []
        for k, first, second in zip(candidates, failures, finer, strict=True):
            if self._varies_along_step(second):
                second = second.withdraw(Reason.KINK if second.failed_at_kink else Reason.NOISE)
            if not second.has_failed:
                confirmed[k] = second
            elif first.is_finite:
                remaining.append(k)
                meets.append(first.do_slopes_meet and second.do_slopes_meet)
                has_kink.append(first.failed_at_kink or second.failed_at_kink)
        failures = [confirmed[k] for k in remaining]
        stands = self._replicate(failures, meets)
        for k, failure, is_confirmed, is_kinked in zip(
            remaining, failures, stands, has_kink, strict=True
        ):
            if not is_confirmed:
                confirmed[k] = failure.withdraw(self._explain_withdrawal(failure, is_kinked))
        return confirmed

    def _varies_along_step(self, measurement: Measurement) -> bool:
        """Whether a failure is imprecise and backpropagation varies by as much within its step."""
        if not measurement.is_finite or not self.oracle.has_gradient_elsewhere:
            return False
        failed = measurement.failed_comparands
        if not any(comparand.is_imprecise for comparand in failed.values()):
            return False
        step = max(comparand.estimate.step_size for comparand in failed.values())
        probe = measurement.probe
        for fraction in _POINTS_ALONG_STEP:
            point = np.array(self.baseline.point)
            point[probe.start : probe.stop] += fraction * step * probe.weights
            slopes = self._slopes_at(point, probe)
            changes = [slopes[t] - c.analytic for t, c in failed.items()]
            pairs = zip(failed.values(), changes, strict=True)
            if all(comparand.is_explained_by(change) for comparand, change in pairs):
                return True
        return False

    def _explain_withdrawal(self, measurement: Measurement, has_kink: bool) -> Reason:
        """Returns why a failure was not confirmed at other points."""
        if has_kink:
            return Reason.KINK
        if not self.spacing.is_native and self._is_right_beside(measurement):
            return Reason.ONLY_HERE
        return Reason.NOISE

    def _is_right_beside(self, measurement: Measurement) -> bool:
        """Whether the gradient right beside the point agrees with the derivative at the point.

        The loss is smooth, so its derivative is the same there.
        """
        failed = measurement.failed_comparands
        if any(comparand.is_imprecise for comparand in failed.values()):
            return False
        point = self._nudge(sampling.Stream.BESIDE, 0, _BESIDE)
        slopes = self._slopes_at(point, measurement.probe)
        for t, comparand in failed.items():
            if comparand.is_explained_by(slopes[t] - comparand.estimate.slope):
                return False
        return True

    def _slopes_at(self, point: Vector, probe: Probe) -> list[float]:
        """Returns the derivative of each term along a probe by backpropagation at a point."""
        gradients = self.oracle.gradients(point).terms.values()
        return [probe.slope_of(gradient) for gradient in gradients]

    def _replicate(
        self,
        failures: Sequence[Measurement],
        meets: Sequence[bool],
    ) -> list[bool]:
        """Returns which failures stand after they were measured again at nudged points.

        Args:
            failures: The `Measurement`s that failed.
            meets: Whether the one-sided slopes of each meet within their bars.
        """
        if not self.oracle.has_gradient_elsewhere:
            return list(meets)

        def vote(numbers: Sequence[int], replicate: int) -> list[Vote]:
            selected = [failures[k] for k in numbers]
            replicates = self._measure_replicate(selected, replicate)
            votes: list[Vote] = []
            for first, second in zip(selected, replicates, strict=True):
                votes.append(first.vote(second, self.threshold))
            return votes

        is_native = self.spacing.is_native
        count = _REPLICATES_NATIVE if is_native else _REPLICATES
        return replication.confirm([is_native or not smooth for smooth in meets], count, vote)

    def _measure_replicate(
        self,
        failures: Sequence[Measurement],
        number: int,
    ) -> list[Measurement]:
        """Measures the probes of failures at a nudged point, another one for each number."""
        at = self._nudge_point(number)
        replicates = measure.first_estimates(
            self.oracle,
            at,
            [m.probe for m in failures],
            self.threshold,
            [m.magnitude for m in failures],
        )
        unresolved = [k for k, m in enumerate(replicates) if not m.is_accepted]
        refined = measure.refine(
            self.oracle, at, [replicates[k] for k in unresolved], self.threshold
        )
        for k, measurement in zip(unresolved, refined, strict=True):
            replicates[k] = measurement
        return replicates

    def _nudge_point(self, number: int) -> EvaluationPoint:
        """Returns the baseline at a nudged point."""
        assert self.screening is not None
        size = _NUDGE_NATIVE if self.spacing.is_native else _NUDGE
        point = self._nudge(sampling.Stream.REPLICATE, number, size)
        gradients = self.oracle.gradients(point)
        nudged, _ = estimate_baseline(
            self.oracle,
            point,
            gradients.terms,
            self.screening,
            self.spacing,
            has_steps=bool(self.oracle.precision.step_operations),
        )
        # A nudge does not change how many digits the loss has: the larger of both estimates holds.
        noise = np.maximum(nudged.noise, self.baseline.noise)
        return dataclasses.replace(nudged, noise=noise)

    def _nudge(self, stream: sampling.Stream, number: int, size: float) -> Vector:
        rng = sampling.generator(self.settings.seed, self.settings.step, stream, number)
        return sampling.nudge(self.layout, self.baseline.point, self.scales, rng, size)
