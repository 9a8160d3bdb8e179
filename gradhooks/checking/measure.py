"""Measuring at one place: the derivatives along probes.

An oracle is anything with `losses(point, probes, pairs)`, returning float64 of
shape (pairs, T), one column per loss term, and `gradients(point)`.
"""

import dataclasses
import math

import numpy as np

from gradhooks.checking import baseline
from gradhooks.numerics import differences
from gradhooks.numerics.probe import DerivativeEstimate, Probe
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge

# A step must be so much smaller than the last to be worth two evaluations.
_CLOSER_BY = 0.3
# Steps that differ by less are one.
_SAME = 1e-6
# From so many probes on, most of them say that the others are alike. So many go ahead to find out:
# some show no signal.
_TELLING, _AHEAD = 8, 12


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The derivatives of every loss term along one probe, analytic and numeric.

    Args:
        probe: The `Probe`.
        analytic: Per term, the slope that backpropagation implies.
        estimates: Per term, a `DerivativeEstimate`.
        magnitude: Per term, the natural size of the slope (0 for coordinates).
        is_accepted: Whether the first quotient agreed for every term.
        judgements: Per term, (Verdict, Reason).
    """

    probe: Probe
    analytic: tuple[float, ...]
    estimates: tuple[DerivativeEstimate, ...]
    magnitude: tuple[float, ...]
    is_accepted: bool
    judgements: tuple[tuple[Verdict, Reason], ...]

    @property
    def has_failed(self):
        """Whether any term failed."""
        return any(v is Verdict.FAIL for v, _ in self.judgements)

    @property
    def has_passed(self):
        """Whether every term passed, or has no signal, and not all of them have none."""
        return not self.is_vacuous and all(
            v is Verdict.PASS or r is Reason.VACUOUS for v, r in self.judgements
        )

    @property
    def is_on_kink(self):
        """Whether no term failed and some could not be compared because of a kink."""
        return not self.has_failed and any(r is Reason.KINK for _, r in self.judgements)

    @property
    def is_vacuous(self):
        """Whether no term showed any signal."""
        return all(r is Reason.VACUOUS for _, r in self.judgements)


def from_stencil(place, probe, window, spacing, magnitude, tolerance):
    """Returns the `Measurement` along the screening probe that the survey already paid for."""
    step = baseline.REACH * spacing
    return _measured(place, probe, step, window[-1], window[0], magnitude, tolerance)


def measure(oracle, place, probes, tolerance, magnitudes=None):
    """Measures with two evaluations a probe, and with two more each time, closer, where that does not settle it.

    A few of many probes go ahead. Where most of those meet kinks, the others begin at the steps that have settled them.
    """
    magnitudes = magnitudes or [(0.0,) * len(place.base)] * len(probes)

    def seen(numbers, sharpness):
        some, sizes = [probes[k] for k in numbers], [magnitudes[k] for k in numbers]
        return first_estimates(oracle, place, some, tolerance, sizes, sharpness)

    ahead = _ahead(len(probes))
    others = sorted({*range(len(probes))} - {*ahead})
    first, sharpness = seen(ahead, math.inf), math.inf
    if others and _is_crowded(first):
        first = refine_steps(oracle, place, first, tolerance)
        sharpness = _usual_sharpness(place, first, tolerance)
    found = dict(zip(ahead, first, strict=True)) | dict(
        zip(others, seen(others, sharpness), strict=True)
    )
    return refine_steps(oracle, place, [found[k] for k in range(len(probes))], tolerance)


def _ahead(count):
    """Numbers of the probes that go ahead, from all over the model; of a few probes, all of them."""
    if count < 2 * _AHEAD:
        return [*range(count)]
    return np.linspace(0, count - 1, _AHEAD, dtype=int).tolist()


def first_estimates(oracle, place, probes, tolerance, magnitudes=None, sharpness=math.inf):
    """Measures with two evaluations a probe, no sharper than asked for: see `derivative.closer_step`."""
    magnitudes = magnitudes or [(0.0,) * len(place.base)] * len(probes)
    steps = [_first_step(place, p, tolerance) for p in probes]
    if place.has_dense_kinks:
        sharpness = min(sharpness, differences.REFINEMENTS[0][0])
    if math.isfinite(sharpness):
        steps = np.minimum(steps, [_closer_step(place, p, tolerance, sharpness) for p in probes])
    return _two_sided(oracle, place, probes, steps, tolerance, magnitudes)


def refine_steps(oracle, place, measurements, tolerance):
    """Measures what is not settled with two evaluations more each time, at steps that meet fewer kinks.

    Where most probes have met kinks, the steps between would meet them again, and are left out.

    Returns:
        The measurements, with those replaced that are settled now, or that show the kink.
    """
    looks, nearest = (
        differences.REFINEMENTS_AMONG_KINKS
        if _is_crowded(measurements)
        else differences.REFINEMENTS,
        {},
    )
    for look in () if all(m.is_accepted for m in measurements) else looks:
        again = _closer(oracle, place, measurements, tolerance, look)
        nearest |= again
        measurements = [
            again[k] if k in again and again[k].is_accepted else m
            for k, m in enumerate(measurements)
        ]
    is_seen = [
        not m.is_accepted and k in nearest and nearest[k].is_on_kink
        for k, m in enumerate(measurements)
    ]
    return [nearest[k] if is_seen[k] else m for k, m in enumerate(measurements)]


def _is_crowded(measurements):
    """Whether most of what shows a signal is not settled; a few probes say nothing of the others."""
    telling = [m.is_accepted for m in measurements if not m.is_vacuous]
    return len(telling) >= _TELLING and 2 * sum(telling) < len(telling)


def _usual_sharpness(place, measurements, tolerance):
    """How sharply those see that are settled and show a signal: the median, infinite where there are none."""
    seen = [
        differences.step_precision(
            m.analytic[0], m.estimates[0].step_size, place.noise[0], tolerance
        )
        for m in measurements
        if m.is_accepted and not m.is_vacuous and place.noise[0]
    ]
    return float(np.median(seen)) if seen else math.inf


def _closer(oracle, place, measurements, tolerance, look):
    """Measures those again for which a step of the look is worthwhile; by their numbers."""
    steps = {}
    for k, measured in enumerate(measurements):
        tried = [_closer_step(place, measured.probe, tolerance, sharpness) for sharpness in look]
        worthwhile = [
            step
            for step in tried
            if not measured.is_accepted and _is_worthwhile(place, measured, step, tolerance)
        ]
        if worthwhile:
            steps[k] = min(worthwhile)
    probes, magnitudes = (
        [measurements[k].probe for k in steps],
        [measurements[k].magnitude for k in steps],
    )
    again = _two_sided(oracle, place, probes, list(steps.values()), tolerance, magnitudes)
    return dict(zip(steps, again, strict=True))


def _is_worthwhile(place, measured, step, tolerance):
    """Whether a smaller step may settle it: the gaps seen so far would still show, if they were there.

    A look so blurred that it would let them pass settles nothing.
    """
    terms = zip(measured.analytic, measured.estimates, measured.magnitude, place.noise, strict=True)
    return step < _CLOSER_BY * measured.estimates[0].step_size and all(
        _is_settled(analytic, estimate, level, tolerance, magnitude)
        or abs(analytic - estimate.slope)
        > 2
        * judge.accepted_gap(
            analytic, estimate, differences.rounding_error(level, step), tolerance, magnitude
        )
        for analytic, estimate, magnitude, level in terms
    )


def _two_sided(oracle, place, probes, steps, tolerance, magnitudes):
    steps = [_actual(place, p, float(step)) for p, step in zip(probes, steps, strict=True)]
    pairs = [(k, sign * step) for k, step in enumerate(steps) for sign in (1, -1)]
    found = oracle.losses(place.point, probes, pairs).reshape(len(probes), 2, -1) if probes else ()
    return [
        _measured(place, probe, step, plus, minus, magnitude, tolerance)
        for probe, step, (plus, minus), magnitude in zip(
            probes, steps, found, magnitudes, strict=True
        )
    ]


def is_unresolved(place, measured, tolerance):
    """Whether a ladder may tell more: it is not settled, and no kink has been seen as near as the ladder would look."""
    if measured.is_accepted or not measured.is_on_kink:
        return not measured.is_accepted
    nearest = _ladder(place, measured.probe, tolerance, False)[0]
    return bool(measured.estimates[0].step_size > (1 + _SAME) * nearest)


def refine(oracle, place, measurements, tolerance, is_fine=False):
    """Measures again on a ladder of steps around the first one, for what two evaluations did not settle.

    The fine ladder has other steps, and goes on down to where the derivative is seen with few digits.
    """
    if not measurements:
        return []
    ladders = [
        [_actual(place, m.probe, s) for s in _ladder(place, m.probe, tolerance, is_fine)]
        for m in measurements
    ]
    pairs = [
        (k, sign * step) for k, steps in enumerate(ladders) for step in steps for sign in (1, -1)
    ]
    found = iter(oracle.losses(place.point, [m.probe for m in measurements], pairs))
    climbed = []
    for measurement, steps in zip(measurements, ladders, strict=True):
        values = np.array([[next(found), next(found)] for _ in steps])
        estimates = tuple(
            differences.select_estimate(
                place.base[t], steps, values[:, 0, t], values[:, 1, t], place.noise[t]
            )
            for t in range(len(place.base))
        )
        climbed.append(
            _judged(
                measurement.probe,
                measurement.analytic,
                estimates,
                measurement.magnitude,
                False,
                tolerance,
            )
        )
    return climbed


def _ladder(place, probe, tolerance, is_fine):
    step = _first_step(place, probe, tolerance)
    factors = np.array(differences.FINE_STEP_FACTORS if is_fine else differences.STEP_FACTORS)
    # Among kinks the first step is too large already where a closer one sees sharply: larger ones
    # tell of kinks alone.
    is_too_large = (
        place.has_dense_kinks
        and _closer_step(place, probe, tolerance, differences.REFINEMENTS[0][0]) < step
    )
    steps = differences.step_sequence(
        step, probe.length_scale, factors[factors < 1] if is_too_large else factors
    )
    if not is_fine:
        return steps
    closer = np.array(
        [_closer_step(place, probe, tolerance, s) for s in differences.FINE_REFINEMENTS]
    )
    return np.union1d(closer[closer < steps[0]], steps)


def _first_step(place, probe, tolerance):
    slope = probe.slope_of(place.gradients["total"])
    return differences.first_step(
        slope, place.base[0], place.noise[0], probe.length_scale, tolerance
    )


def _closer_step(place, probe, tolerance, sharpness):
    return differences.step_for_precision(
        probe.slope_of(place.gradients["total"]), place.noise[0], tolerance, sharpness
    )


def _actual(place, probe, step):
    """The step that floating point really takes from here: `(theta + h) - theta`, for a coordinate."""
    if not probe.is_coordinate:
        return step
    value = place.point[probe.start]
    return float(((value + step) - (value - step)) / 2)


def _measured(place, probe, step, plus, minus, magnitude, tolerance):
    analytic = tuple(probe.slope_of(g) for g in place.gradients.values())
    estimates = tuple(
        differences.central(
            place.base[t], plus[t], minus[t], step, place.noise[t], probe.length_scale
        )
        for t in range(len(place.base))
    )
    settled = all(
        _is_settled(a, e, n, tolerance, m)
        for a, e, n, m in zip(analytic, estimates, place.noise, magnitude, strict=True)
    )
    return _judged(probe, analytic, estimates, magnitude, settled, tolerance)


def _is_settled(analytic, estimate, level, tolerance, magnitude):
    rounding = differences.rounding_error(level, estimate.step_size)
    return judge.is_accepted(analytic, estimate, rounding, tolerance, magnitude)


def _judged(probe, analytic, estimates, magnitude, settled, tolerance):
    judgements = tuple(
        judge.judge(a, e, tolerance, m)
        for a, e, m in zip(analytic, estimates, magnitude, strict=True)
    )
    return Measurement(probe, analytic, estimates, magnitude, settled, judgements)
