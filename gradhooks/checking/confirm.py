"""Measures probes until they are decided, and confirms every failure before it is reported.

A gradient that disagrees with its numeric derivative goes through a sequential
replication test. Each stage may withdraw the failure, and only what fails all of
them stands:

1. It is measured again at a finer sequence of steps. If that passes, it holds.
2. If the estimate is imprecise, backpropagation is evaluated at a few points
   within the step. If it varies there by as much as the gap, no step shows the
   derivative at one point, and the comparison is inconclusive (noise).
3. It is measured again at a nudged point, see `CheckContext`. In float64 one
   replicate decides; at native precision the median of up to five. A failure
   that is not replicated is put down to a kink.
"""

import dataclasses
import math
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
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import replication

# How far a replicate lies from the point, in units of each variable's scale: off any exact zero,
# still the same network, and farther than the steps, which would reach back to the kink otherwise.
# At native precision the steps are larger. Between these limits the values are a free choice.
_NUDGE, _NUDGE_NATIVE = 1e-2, 1e-1
# Replicates at native precision. A free choice: a majority of five survives two bad ones.
_REPLICATES_NATIVE = 5


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
        unresolved: list[int] = []
        for k, measurement in enumerate(measurements):
            if measure.is_unresolved(self.baseline, measurement, self.threshold):
                unresolved.append(k)
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
        """Runs the replication test of this module's docstring on every failure.

        A declared mismatch is not reported as a failure and needs no test.
        """
        candidates: list[int] = []
        for k, measurement in enumerate(measurements):
            if measurement.has_failed and not self.is_declared(measurement):
                candidates.append(k)
        failures = [measurements[k] for k in candidates]
        finer = measure.refine(self.oracle, self.baseline, failures, self.threshold, is_fine=True)

        confirmed = list(measurements)
        remaining: list[int] = []
        is_beside_kink: list[bool] = []
        for k, first, second in zip(candidates, failures, finer, strict=True):
            if self._varies_along_step(second):
                second = _withdraw(second, Reason.NOISE)
            if not second.has_failed:
                confirmed[k] = second
            elif _is_finite(first):
                remaining.append(k)
                is_beside_kink.append(
                    replication.is_beside_kink(first) or replication.is_beside_kink(second)
                )
        if not remaining:
            return confirmed

        failures = [confirmed[k] for k in remaining]
        if not self.oracle.has_gradient_elsewhere:
            is_replicated = [not has_kink for has_kink in is_beside_kink]
        elif self.spacing.is_native:
            is_replicated = self._test_by_median(failures)
        else:
            is_replicated = self._test_once(failures, is_beside_kink)
        for k, stands in zip(remaining, is_replicated, strict=True):
            if not stands:
                confirmed[k] = _withdraw(confirmed[k], Reason.KINK)
        return confirmed

    def _varies_along_step(self, measurement: Measurement) -> bool:
        """Whether a failure is imprecise and backpropagation varies by as much within its step."""
        if not _is_finite(measurement) or not replication.is_imprecise(measurement):
            return False
        if not self.oracle.has_gradient_elsewhere:
            return False
        probe = measurement.probe
        step = 0.0
        for estimate, (verdict, _) in zip(
            measurement.estimates, measurement.judgements, strict=True
        ):
            if verdict is Verdict.FAIL:
                step = max(step, estimate.step_size)
        slopes: list[list[float]] = []
        for fraction in replication.POINTS_ALONG_STEP:
            point = np.array(self.baseline.point)
            point[probe.start : probe.stop] += fraction * step * probe.weights
            gradients = self.oracle.gradients(point).terms.values()
            slopes.append([probe.slope_of(gradient) for gradient in gradients])
            if replication.varies_along_step(measurement, slopes):
                return True
        return False

    def _test_once(
        self,
        failures: Sequence[Measurement],
        is_beside_kink: Sequence[bool],
    ) -> list[bool]:
        """Whether failures stand after one replicate each.

        Where a kink was seen, a failure stands only if the replicate fails too.
        Elsewhere it is withdrawn only by a replicate that passes, with an error
        bar small enough to have detected the gap.
        """
        stands: list[bool] = []
        replicates = self._replicate(failures, 0)
        for first, second, has_kink in zip(failures, replicates, is_beside_kink, strict=True):
            is_kink_gone = has_kink and not second.has_failed
            is_withdrawn = replication.is_withdrawn_by(second, first, self.threshold)
            stands.append(not (is_kink_gone or is_withdrawn))
        return stands

    def _test_by_median(self, failures: Sequence[Measurement]) -> list[bool]:
        """Whether failures stand by the median of several replicates.

        At native precision no replicate is precise, but the relative error of a
        wrong gradient is the same in most of them. Replication stops for a
        failure as soon as the majority is out of reach.
        """
        replicates: list[list[Measurement]] = [[] for _ in failures]
        for number in range(_REPLICATES_NATIVE):
            still_open: list[int] = []
            for k, first in enumerate(failures):
                if replication.may_be_replicated(first, replicates[k], _REPLICATES_NATIVE):
                    still_open.append(k)
            if not still_open:
                break
            further = self._replicate([failures[k] for k in still_open], number)
            for k, measurement in zip(still_open, further, strict=True):
                replicates[k].append(measurement)
        return [
            replication.is_replicated(first, others, self.threshold)
            for first, others in zip(failures, replicates, strict=True)
        ]

    def _replicate(self, failures: Sequence[Measurement], number: int) -> list[Measurement]:
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
        seed, step = self.settings.seed, self.settings.step
        size = _NUDGE_NATIVE if self.spacing.is_native else _NUDGE
        rng = sampling.generator(seed, step, sampling.Stream.REPLICATE, number)
        point: Vector = sampling.nudge(self.layout, self.baseline.point, self.scales, rng, size)
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


def _is_finite(measurement: Measurement) -> bool:
    return all(map(math.isfinite, measurement.analytic))


def _withdraw(measurement: Measurement, reason: Reason) -> Measurement:
    """Returns the measurement with its failures made inconclusive."""
    judgements: list[tuple[Verdict, Reason]] = []
    for verdict, given in measurement.judgements:
        if verdict is Verdict.FAIL:
            judgements.append((Verdict.INCONCLUSIVE, reason))
        else:
            judgements.append((verdict, given))
    return dataclasses.replace(measurement, judgements=tuple(judgements))
