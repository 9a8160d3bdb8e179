"""Measures probes as often as it takes to decide them; nobody is accused without a second opinion."""

import dataclasses
import math
from typing import Any

import numpy as np

from gradhooks.examination.settings import Settings
from gradhooks.numerics import derivative, measurement, sampling, verdict
from gradhooks.numerics.records import Probe, Reason, Verdict

# How far the second opinion moves, in units of each variable's scale: off any exact zero, still the same network.
_NUDGE = 1e-2


@dataclasses.dataclass(frozen=True)
class Settling:
    """The point that is checked, and how probes are measured there.

    Args:
        oracle: What is asked for losses.
        settings: The check's `Settings`.
        place: The `measurement.Place`.
        screening: Direction over all parameters, along which noise is measured.
        scales: float64, shape (V,). Typical parameter size per variable.
        spacing: A `measurement.Spacing`.
        tolerance: Relative difference that the verdict allows.
        declared: Numbers of variables that are declared to mismatch.
    """

    oracle: Any
    settings: Settings
    place: measurement.Place
    screening: Probe
    scales: np.ndarray
    spacing: measurement.Spacing
    tolerance: float
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
        return measured.probe.is_coordinate and self.layout.variable_of(measured.probe.start) in self.declared

    def settled(self, probes, magnitudes=None):
        """Measures probes: two evaluations, then a ladder, and before accusing a second opinion."""
        return self.decided(measurement.quick(self.oracle, self.place, probes, self.tolerance, magnitudes))

    def decided(self, measured):
        """Measures on where two evaluations did not settle it."""
        unsettled = [m for m in measured if not m.settled]
        climbed = measurement.climb(self.oracle, self.place, unsettled, self.tolerance)
        decided = iter(self._confirmed(climbed))
        return [m if m.settled else next(decided) for m in measured]

    def _confirmed(self, measured):
        """Re-measures what failed: on a finer ladder, then at a nudged point where no exact zero is left.

        What is declared to mismatch accuses nobody, and so needs no second opinion.
        """
        suspects = [m for m in measured if m.has_failed and not self.is_declared(m)]
        finer = measurement.climb(self.oracle, self.place, suspects, self.tolerance, derivative.FINE_LADDER)
        finer = [fine if not fine.has_failed else m for m, fine in zip(suspects, finer, strict=True)]
        accused = [m for m in finer if m.has_failed and all(map(math.isfinite, m.analytic))]
        acquitted = self._acquitted(accused) if accused else set()
        replacement = iter([_on_kink(m) if id(m) in acquitted else m for m in finer])
        return [next(replacement) if m.has_failed and not self.is_declared(m) else m for m in measured]

    def _acquitted(self, accused):
        """ids of measurements whose probes pass at the nudged point: the gap was one of an exact corner."""
        place = self._nudged()
        probes, magnitudes = [m.probe for m in accused], [m.magnitude for m in accused]
        quick = measurement.quick(self.oracle, place, probes, self.tolerance, magnitudes)
        climbed = iter(measurement.climb(self.oracle, place, [m for m in quick if not m.settled], self.tolerance))
        again = [m if m.settled else next(climbed) for m in quick]
        pairs = zip(accused, again, strict=True)
        return {id(m) for m, second in pairs if _passes(second) and self._is_sharp(second, m)}

    def _is_sharp(self, second, first):
        """Whether a second look would have seen the gaps that the first one found; a blind witness acquits nobody."""
        terms = zip(second.analytic, second.estimates, second.magnitude, first.analytic, first.estimates, strict=True)
        return all(
            verdict.allowed_gap(analytic, estimate, self.tolerance, magnitude) < abs(before - measured.slope)
            for (analytic, estimate, magnitude, before, measured), (judged, _) in zip(
                terms, first.judgements, strict=True
            )
            if judged is Verdict.FAIL
        )

    def _nudged(self):
        settings = self.settings
        point = sampling.nudge(self.layout, self.place.point, self.scales, settings.seed, settings.step, _NUDGE)
        gradients = self.oracle.gradients(point)
        place, _ = measurement.survey(self.oracle, point, gradients.terms, self.screening, self.spacing)
        # A nudge does not change how many digits the loss has; the larger estimate of the two holds.
        return dataclasses.replace(place, noise=np.maximum(place.noise, self.place.noise))


def _passes(measured):
    return all(v is Verdict.PASS or r is Reason.VACUOUS for v, r in measured.judgements) and not measured.is_vacuous


def _on_kink(measured):
    softened = tuple(
        (Verdict.INCONCLUSIVE, Reason.KINK) if v is Verdict.FAIL else (v, r) for v, r in measured.judgements
    )
    return dataclasses.replace(measured, judgements=softened)
