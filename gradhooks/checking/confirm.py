"""Measures probes as often as it takes to decide them; nobody is accused without a second opinion."""

import dataclasses
import math
from typing import Any

import numpy as np

from gradhooks.checking import measure
from gradhooks.checking.baseline import EvaluationPoint, StencilSpacing, estimate_baseline
from gradhooks.checking.settings import Settings
from gradhooks.numerics import sampling
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import replication

# How far the second opinion moves, in units of each variable's scale: off any exact zero, still the
# same network, and farther than the steps, or they reach back to the corner. At native precision
# those are larger.
_NUDGE, _NUDGE_NATIVE = 1e-2, 1e-1
# How many nudged points are asked at native precision, for their median.
_WITNESSES_NATIVE = 5


@dataclasses.dataclass(frozen=True)
class CheckContext:
    """The point that is checked, and how probes are measured there.

    Args:
        oracle: What is asked for losses.
        settings: The check's `Settings`.
        baseline: The `EvaluationPoint`: gradients, losses and noise at the point.
        screening: Direction over all parameters, along which noise is measured;
            None when all is measured.
        scales: float64, shape (V,). Typical parameter size per variable.
        spacing: The `StencilSpacing`.
        threshold: Relative difference that the verdict allows.
        declared: Numbers of variables that are declared to mismatch.
    """

    oracle: Any
    settings: Settings
    baseline: EvaluationPoint
    screening: Probe | None
    scales: np.ndarray
    spacing: StencilSpacing
    threshold: float
    declared: frozenset

    @property
    def layout(self):
        """The `Layout` of the parameters."""
        return self.oracle.layout

    def coordinate(self, position):
        """Returns the probe of one parameter."""
        return sampling.coordinate_probe(position, self.scales[self.layout.variable_of(position)])

    def is_declared(self, measured):
        """Whether what was measured belongs to a variable that is declared to mismatch."""
        return (
            measured.probe.is_coordinate
            and self.layout.variable_of(measured.probe.start) in self.declared
        )

    def measure(self, probes, magnitudes=None):
        """Measures probes: two evaluations, smaller steps, then a ladder, and before accusing a second opinion."""
        return self._refine(
            measure.measure(self.oracle, self.baseline, probes, self.threshold, magnitudes)
        )

    def resolve(self, measured):
        """Measures on where two evaluations did not settle it."""
        return self._refine(
            measure.refine_steps(self.oracle, self.baseline, measured, self.threshold)
        )

    def _refine(self, measured):
        """Measures on where no closer look has settled it."""
        is_open = [measure.is_unresolved(self.baseline, m, self.threshold) for m in measured]
        unsettled = [m for m, is_still_open in zip(measured, is_open, strict=True) if is_still_open]
        climbed = measure.refine(self.oracle, self.baseline, unsettled, self.threshold)
        decided = iter(self._confirm(climbed))
        return [
            next(decided) if is_still_open else m
            for m, is_still_open in zip(measured, is_open, strict=True)
        ]

    def _confirm(self, measured):
        """Re-measures what failed: on a finer ladder, then at a nudged point where no exact zero is left.

        What is declared to mismatch accuses nobody, and so needs no second opinion.

        The nudged point stands in for another slice of the batch. A corner at
        which parameters sit (a fresh bias, a zero layer, two ReLUs that cancel)
        is the same on every slice and gone after a nudge, so a slice would
        repeat the false accusation; and a wrong gradient that only some examples
        bring to light is the same after a nudge and absent from other slices,
        so a slice would acquit the guilty.
        """
        suspects = [m for m in measured if m.has_failed and not self.is_declared(m)]
        finer = measure.refine(self.oracle, self.baseline, suspects, self.threshold, is_fine=True)
        finer = [_softened(m, Reason.NOISE) if self._varies_along_step(m) else m for m in finer]
        pairs = list(zip(suspects, finer, strict=True))
        accused = [
            (m, replication.is_beside_kink(m) or replication.is_beside_kink(fine))
            for m, fine in pairs
            if fine.has_failed and _is_finite(m)
        ]
        acquitted = self._find_withdrawn(accused) if accused else set()
        finer = [m if fine.has_failed else fine for m, fine in pairs]
        replacement = iter([_softened(m, Reason.KINK) if id(m) in acquitted else m for m in finer])
        return [
            next(replacement) if m.has_failed and not self.is_declared(m) else m for m in measured
        ]

    def _varies_along_step(self, measured):
        """Whether a failure is blurred, and backpropagation itself changes by as much on the way."""
        if not _is_finite(measured) or not replication.is_imprecise(measured):
            return False
        probe, along = measured.probe, []
        step = max(
            e.step_size
            for e, (v, _) in zip(measured.estimates, measured.judgements, strict=True)
            if v is Verdict.FAIL
        )
        for part in replication.WAY:
            point = np.array(self.baseline.point)
            point[probe.start : probe.stop] += part * step * probe.weights
            along.append([probe.slope_of(g) for g in self.oracle.gradients(point).terms.values()])
            if replication.varies_along_step(measured, along):
                return True
        return False

    def _find_withdrawn(self, accused):
        """ids of measurements that nudged points acquit: the gap was one of an exact corner, or of rounding.

        Args:
            accused: Pairs (measurement, whether corners were seen there). Beside
                corners it takes a second witness to convict, elsewhere one that
                passes, and has seen sharply, to acquit. At native precision no
                witness sees sharply, and several are asked for the share by
                which the gradient is wrong.
        """
        suspects = [m for m, _ in accused]
        if self.spacing.is_native:
            return {id(m) for m in suspects} - self._find_replicated(suspects)
        return {
            id(m)
            for (m, is_beside_corner), second in zip(
                accused, self._replicate(suspects, 0), strict=True
            )
            if (is_beside_corner and not second.has_failed)
            or replication.is_withdrawn_by(second, m, self.threshold)
        }

    def _find_replicated(self, suspects):
        """ids of measurements whose error most nudged points confirm; asks no further once that cannot be any more."""
        looks = [[] for _ in suspects]
        for turn in range(_WITNESSES_NATIVE):
            pairs = zip(suspects, looks, strict=True)
            still = [
                (m, seen)
                for m, seen in pairs
                if replication.may_be_replicated(m, seen, _WITNESSES_NATIVE)
            ]
            again = self._replicate([m for m, _ in still], turn) if still else []
            for (_, seen), look in zip(still, again, strict=True):
                seen.append(look)
        pairs = zip(suspects, looks, strict=True)
        return {id(m) for m, seen in pairs if replication.is_replicated(m, seen, self.threshold)}

    def _replicate(self, suspects, turn):
        """Measures once more at a nudged point, another one each turn."""
        place = self._nudge_point(turn)
        probes, magnitudes = [m.probe for m in suspects], [m.magnitude for m in suspects]
        quick = measure.first_estimates(self.oracle, place, probes, self.threshold, magnitudes)
        climbed = iter(
            measure.refine(
                self.oracle, place, [m for m in quick if not m.is_accepted], self.threshold
            )
        )
        return [m if m.is_accepted else next(climbed) for m in quick]

    def _nudge_point(self, turn):
        settings = self.settings
        size = _NUDGE_NATIVE if self.spacing.is_native else _NUDGE
        rng = sampling.generator(settings.seed, settings.step, sampling.Stream.REPLICATE, turn)
        point = sampling.nudge(self.layout, self.baseline.point, self.scales, rng, size)
        gradients = self.oracle.gradients(point)
        has_steps = bool(self.oracle.precision.step_operations)
        place, _ = estimate_baseline(
            self.oracle, point, gradients.terms, self.screening, self.spacing, has_steps=has_steps
        )
        # A nudge does not change how many digits the loss has; the larger estimate of the two
        # holds.
        return dataclasses.replace(place, noise=np.maximum(place.noise, self.baseline.noise))


def _is_finite(measured):
    return all(map(math.isfinite, measured.analytic))


def _softened(measured, reason):
    judgements = tuple(
        (Verdict.INCONCLUSIVE, reason) if v is Verdict.FAIL else (v, r)
        for v, r in measured.judgements
    )
    return dataclasses.replace(measured, judgements=judgements)
