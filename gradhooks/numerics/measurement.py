"""Measuring at one place: its noise, and the derivatives along probes.

An oracle is anything with `losses(point, probes, pairs)`, returning float64 of
shape (pairs, T), one column per loss term, and `gradients(point)`.
"""

import dataclasses

import numpy as np

from gradhooks.numerics import derivative, noise, verdict
from gradhooks.numerics.records import DerivativeEstimate, Probe, Reason, Verdict

_REACH = noise.POINTS // 2


@dataclasses.dataclass(frozen=True)
class Spacing:
    """How finely the noise is sampled along a direction, in relative parameter changes.

    Args:
        tiny: Shows the rounding of the loss alone: nothing smooth moves at this distance.
        working: A third of the step of the screening probe: shows lost digits that only larger steps meet.
        wide: Further distances to look at where a core of low precision is known or suspected.
    """

    tiny: float
    working: float
    wide: tuple[float, ...]


PROMOTED = Spacing(1e-9, 3e-6, (1e-4, 3e-3))
NATIVE = Spacing(1e-4, 3e-3, ())


@dataclasses.dataclass(frozen=True)
class Place:
    """A point in parameter space and what is known there.

    Args:
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        base: float64, shape (T,). Loss terms at the point.
        noise: float64, shape (T,). Standard deviation of their rounding noise.
        jitter: Largest difference between two evaluations at the point.
    """

    point: np.ndarray
    gradients: dict
    base: np.ndarray
    noise: np.ndarray
    jitter: float = 0.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The derivatives of every loss term along one probe, analytic and numeric.

    Args:
        probe: The `Probe`.
        analytic: Per term, the slope that backpropagation implies.
        estimates: Per term, a `DerivativeEstimate`.
        magnitude: Per term, the natural size of the slope (0 for coordinates).
        settled: Whether the first quotient agreed for every term.
        judgements: Per term, (Verdict, Reason).
    """

    probe: Probe
    analytic: tuple[float, ...]
    estimates: tuple[DerivativeEstimate, ...]
    magnitude: tuple[float, ...]
    settled: bool
    judgements: tuple[tuple[Verdict, Reason], ...]

    @property
    def has_failed(self):
        """Whether any term failed."""
        return any(v is Verdict.FAIL for v, _ in self.judgements)

    @property
    def is_on_kink(self):
        """Whether no term failed and some could not be compared because of a kink."""
        return not self.has_failed and any(r is Reason.KINK for _, r in self.judgements)

    @property
    def is_vacuous(self):
        """Whether no term showed any signal."""
        return all(r is Reason.VACUOUS for _, r in self.judgements)


def survey(oracle, point, gradients, screening, spacing, is_suspect=False):
    """Evaluates the loss along the screening probe: base value, jitter, noise.

    Args:
        oracle: The oracle.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: `Probe` over all parameters, in relative parameter changes.
        spacing: A `Spacing`.
        is_suspect: Whether a core of low precision is known, so that wide
            distances are looked at in any case.

    Returns:
        (Place, windows): windows maps a spacing to float64, shape (POINTS, T).
    """
    near = _windows(oracle, point, screening, (spacing.tiny, spacing.working, 0.0))
    base, again = near.pop(0.0)[:2]
    level = np.array([noise.floor(b) for b in base])
    level = np.maximum(level, _roughness(near[spacing.tiny]))
    working = _roughness(near[spacing.working])
    wide = ()
    if is_suspect:
        wide = spacing.wide
    elif np.any(working > _SUSPICIOUS * level):
        wide = (16 * spacing.working,)
    far = _windows(oracle, point, screening, wide) if wide else {}
    for window in far.values():
        rough = _roughness(window)
        lost = [noise.is_staircase(w, r) for w, r in zip(working, rough, strict=True)]
        level = np.where(is_suspect | np.array(lost), np.maximum(level, np.maximum(working, rough)), level)
    jitter = float(np.max(np.abs(base - again)))
    return Place(point, gradients, base, level, jitter), {**near, **far}


# Kinks make a window rougher than rounding alone; only this much more calls for a second look.
_SUSPICIOUS = 50.0


def _windows(oracle, point, probe, spacings):
    offsets = np.arange(-_REACH, _REACH + 1)
    pairs = [(0, float(s * j)) for s in spacings for j in offsets]
    found = oracle.losses(point, [probe], pairs)
    return dict(zip(spacings, found.reshape(len(spacings), noise.POINTS, -1), strict=True))


def _roughness(window):
    return np.array([noise.roughness(column) for column in window.T])


def from_window(place, probe, window, spacing, magnitude, tolerance):
    """Returns the `Measurement` along the screening probe that the survey already paid for."""
    step = _REACH * spacing
    return _measured(place, probe, step, window[-1], window[0], magnitude, tolerance)


def quick(oracle, place, probes, tolerance, magnitudes=None):
    """Measures with two evaluations a probe."""
    magnitudes = magnitudes or [(0.0,) * len(place.base)] * len(probes)
    steps = [_actual(place, p, _first_step(place, p, tolerance)) for p in probes]
    pairs = [(k, sign * step) for k, step in enumerate(steps) for sign in (1, -1)]
    found = oracle.losses(place.point, probes, pairs).reshape(len(probes), 2, -1) if probes else ()
    return [
        _measured(place, probe, step, plus, minus, magnitude, tolerance)
        for probe, step, (plus, minus), magnitude in zip(probes, steps, found, magnitudes, strict=True)
    ]


def climb(oracle, place, measurements, tolerance, factors=derivative.LADDER):
    """Measures again on a ladder of steps around the first one, for what two evaluations did not settle."""
    if not measurements:
        return []
    ladders = [
        [
            _actual(place, m.probe, s)
            for s in derivative.ladder(_first_step(place, m.probe, tolerance), m.probe.scale, factors)
        ]
        for m in measurements
    ]
    pairs = [(k, sign * step) for k, steps in enumerate(ladders) for step in steps for sign in (1, -1)]
    found = iter(oracle.losses(place.point, [m.probe for m in measurements], pairs))
    climbed = []
    for measurement, steps in zip(measurements, ladders, strict=True):
        values = np.array([[next(found), next(found)] for _ in steps])
        estimates = tuple(
            derivative.from_ladder(place.base[t], steps, values[:, 0, t], values[:, 1, t], place.noise[t])
            for t in range(len(place.base))
        )
        climbed.append(
            _judged(measurement.probe, measurement.analytic, estimates, measurement.magnitude, False, tolerance)
        )
    return climbed


def _first_step(place, probe, tolerance):
    slope = probe.slope_of(place.gradients["total"])
    return derivative.first_step(slope, place.base[0], place.noise[0], probe.scale, tolerance)


def _actual(place, probe, step):
    """The step that floating point really takes from here: `(theta + h) - theta`, for a coordinate."""
    if not probe.is_coordinate:
        return step
    value = place.point[probe.start]
    return float(((value + step) - (value - step)) / 2)


def _measured(place, probe, step, plus, minus, magnitude, tolerance):
    analytic = tuple(probe.slope_of(g) for g in place.gradients.values())
    estimates = tuple(
        derivative.central(place.base[t], plus[t], minus[t], step, place.noise[t], probe.scale)
        for t in range(len(place.base))
    )
    settled = all(
        verdict.is_settled(a, e, derivative.rounding_error(n, step), tolerance, m)
        for a, e, n, m in zip(analytic, estimates, place.noise, magnitude, strict=True)
    )
    return _judged(probe, analytic, estimates, magnitude, settled, tolerance)


def _judged(probe, analytic, estimates, magnitude, settled, tolerance):
    judgements = tuple(
        verdict.judge(a, e, tolerance, m) for a, e, m in zip(analytic, estimates, magnitude, strict=True)
    )
    return Measurement(probe, analytic, estimates, magnitude, settled, judgements)
