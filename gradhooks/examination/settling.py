"""Measures probes as often as it takes to decide them; nobody is accused without a second opinion."""

import dataclasses
import math
from typing import Any

import numpy as np

from gradhooks.examination.settings import Settings
from gradhooks.numerics import derivative, measurement, sampling, surveying, verdict
from gradhooks.numerics.records import Probe, Reason, Verdict

# How far the second opinion moves, in units of each variable's scale: off any exact zero, still the same network, and
# farther than the steps, or they reach back to the corner. At native precision those are larger.
_NUDGE, _NUDGE_NATIVE = 1e-2, 1e-1
# Gaps at two points within this factor of each other are one error, not rounding twice.
_ALIKE = 4.0
# Rounding in half precision may repeat itself once.
_WITNESSES_NATIVE = 2


@dataclasses.dataclass(frozen=True)
class Settling:
    """The point that is checked, and how probes are measured there.

    Args:
        oracle: What is asked for losses.
        settings: The check's `Settings`.
        place: The `surveying.Place`.
        screening: Direction over all parameters, along which noise is measured;
            None when all is measured.
        scales: float64, shape (V,). Typical parameter size per variable.
        spacing: A `surveying.Spacing`.
        tolerance: Relative difference that the verdict allows.
        declared: Numbers of variables that are declared to mismatch.
    """

    oracle: Any
    settings: Settings
    place: surveying.Place
    screening: Probe | None
    scales: np.ndarray
    spacing: surveying.Spacing
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
        """Measures probes: two evaluations, smaller steps, then a ladder, and before accusing a second opinion."""
        return self.decided(measurement.quick(self.oracle, self.place, probes, self.tolerance, magnitudes))

    def decided(self, measured):
        """Measures on where two evaluations did not settle it."""
        for sharpness in derivative.CLOSER:
            measured = measurement.closer(self.oracle, self.place, measured, self.tolerance, sharpness)
        unsettled = [m for m in measured if not m.settled]
        climbed = measurement.climb(self.oracle, self.place, unsettled, self.tolerance)
        decided = iter(self._confirmed(climbed))
        return [m if m.settled else next(decided) for m in measured]

    def _confirmed(self, measured):
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
        finer = measurement.climb(self.oracle, self.place, suspects, self.tolerance, derivative.FINE_LADDER)
        pairs = list(zip(suspects, finer, strict=True))
        accused = [
            (m, _is_beside_corner(m) or _is_beside_corner(fine))
            for m, fine in pairs
            if fine.has_failed and all(map(math.isfinite, m.analytic))
        ]
        acquitted = set()
        for turn in range((_WITNESSES_NATIVE if self.spacing.is_native else 1) if accused else 0):
            acquitted |= self._acquitted(accused, self._nudged(turn))
        finer = [m if fine.has_failed else fine for m, fine in pairs]
        replacement = iter([_on_kink(m) if id(m) in acquitted else m for m in finer])
        return [next(replacement) if m.has_failed and not self.is_declared(m) else m for m in measured]

    def _acquitted(self, accused, place):
        """ids of measurements that the nudged point acquits: the gap was one of an exact corner.

        Args:
            accused: Pairs (measurement, whether corners were seen there). Beside
                corners it takes a second witness to convict, and at native
                precision one who saw the same: there the analytic gradient is
                rounded too, which no error bar knows, and at the nudged point
                rounding is drawn anew. Elsewhere it takes a witness that passes,
                and has seen sharply, to acquit.
            place: The `surveying.Place` at the nudged point.
        """
        is_native = self.spacing.is_native
        probes, magnitudes = [m.probe for m, _ in accused], [m.magnitude for m, _ in accused]
        quick = measurement.quick(self.oracle, place, probes, self.tolerance, magnitudes)
        climbed = iter(measurement.climb(self.oracle, place, [m for m in quick if not m.settled], self.tolerance))
        again = [m if m.settled else next(climbed) for m in quick]
        return {
            id(m)
            for (m, is_beside_corner), second in zip(accused, again, strict=True)
            if (is_beside_corner and not second.has_failed)
            or (is_native and not _is_repeated(m, second))
            or (_passes(second) and self._is_sharp(second, m))
        }

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

    def _nudged(self, turn):
        settings = self.settings
        size = _NUDGE_NATIVE if self.spacing.is_native else _NUDGE
        point = sampling.nudge(self.layout, self.place.point, self.scales, settings.seed + turn, settings.step, size)
        gradients = self.oracle.gradients(point)
        place, _ = surveying.survey(self.oracle, point, gradients.terms, self.screening, self.spacing)
        # A nudge does not change how many digits the loss has; the larger estimate of the two holds.
        return dataclasses.replace(place, noise=np.maximum(place.noise, self.place.noise))


def _passes(measured):
    return all(v is Verdict.PASS or r is Reason.VACUOUS for v, r in measured.judgements) and not measured.is_vacuous


def _is_repeated(first, second):
    """Whether a term failed twice, by relative gaps of one sign and about one size."""
    terms = zip(first.judgements, second.judgements, _relative_gaps(first), _relative_gaps(second), strict=True)
    return any(
        one is other is Verdict.FAIL and gap * again > 0 and 1 / _ALIKE <= gap / again <= _ALIKE
        for (one, _), (other, _), gap, again in terms
    )


def _relative_gaps(measured):
    """Per term, the gap in units of the larger slope, sign included: a wrong factor gives the same everywhere."""
    pairs = zip(measured.analytic, measured.estimates, strict=True)
    return [(a - e.slope) / max(a, e.slope, key=abs) if a != e.slope else 0.0 for a, e in pairs]


def _is_beside_corner(measured):
    """Whether a term that failed did so where the one-sided slopes do not meet."""
    pairs = zip(measured.judgements, measured.estimates, strict=True)
    return any(v is Verdict.FAIL and estimate.is_kink for (v, _), estimate in pairs)


def _on_kink(measured):
    softened = tuple(
        (Verdict.INCONCLUSIVE, Reason.KINK) if v is Verdict.FAIL else (v, r) for v, r in measured.judgements
    )
    return dataclasses.replace(measured, judgements=softened)
