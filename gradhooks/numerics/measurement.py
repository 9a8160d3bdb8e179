"""Measuring at one place: its noise, and the derivatives along probes.

An oracle is anything with `losses(point, probes, pairs)`, returning float64 of
shape (pairs, T), one column per loss term, and `gradients(point)`.
"""

import dataclasses

import numpy as np

from gradhooks.numerics import derivative, noise, verdict
from gradhooks.numerics.records import DerivativeEstimate, Probe, Reason, Verdict

_REACH = noise.OFFSETS[-1]
_MIDDLE = noise.OFFSETS.index(0.0)


@dataclasses.dataclass(frozen=True)
class Spacing:
    """How finely the noise is sampled along a direction, in relative parameter changes.

    Args:
        tiny: Shows the rounding of the loss alone: nothing smooth moves at this distance.
        working: A quarter of the step of the screening probe: shows lost digits that only larger steps meet.
        wide: Further distances to look at where a core of low precision is known or suspected.
        is_native: Whether low precision is a matter of course.
    """

    tiny: float
    working: float
    wide: tuple[float, ...]
    is_native: bool = False


PROMOTED = Spacing(1e-9, 2.5e-6, (1e-4, 3e-3, 5e-2))
NATIVE = Spacing(1e-4, 2.5e-3, (), True)


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
    near = _windows(oracle, point, screening, (spacing.tiny, spacing.working))
    # Both windows have the point itself in the middle.
    base, again = (near[s][_MIDDLE] for s in (spacing.tiny, spacing.working))
    if not np.isfinite([base, again]).all():
        return Place(point, gradients, base, np.zeros_like(base), 0.0), near
    level = np.maximum([noise.floor(b) for b in base], _roughness(near[spacing.tiny], 2, has_corner=True))
    working = _roughness(near[spacing.working], 3)
    suspicious = _SUSPICIOUS_NATIVE if spacing.is_native else _SUSPICIOUS
    # Two windows know the noise better than one, as long as the larger one shows nothing but noise.
    is_rougher = working > suspicious * level
    level = np.where(is_rougher, level, np.maximum(level, working))
    is_flat = _is_flat(near[spacing.working], gradients, screening, spacing.working, level)
    if is_suspect or spacing.is_native:
        level = np.maximum(level, np.where(is_flat, noise.FLOAT32 * np.abs(base), 0.0))
    if is_suspect:
        level = np.maximum(level, np.where(is_flat, 0.0, working))
    if is_flat.any():
        level = _level_from_afar(oracle, point, gradients, screening, spacing.wide, base, level, is_flat, is_suspect)
    elif is_rougher.any():
        further = _roughness(_windows(oracle, point, screening, (16 * spacing.working,)).popitem()[1], 3)
        lost = [noise.is_staircase(w, f) for w, f in zip(working, further, strict=True)]
        level = np.where(lost, np.maximum(level, np.maximum(working, further)), level)
    level[0] = max(level)  # the total is made of the other terms, and has lost what they have lost
    return Place(point, gradients, base, level, float(np.max(np.abs(base - again)))), near


def _level_from_afar(oracle, point, gradients, screening, spacings, base, level, is_flat, is_suspect):
    """Looks further and further along a loss that stands still, until it moves.

    If its jumps are then of the size that float32 leaves, it has few digits; if
    they are larger it has real steps, which are no noise.
    """
    level, is_flat = level.copy(), is_flat.copy()
    for spacing in spacings:
        window = _windows(oracle, point, screening, (spacing,))[spacing]
        still = _is_flat(window, gradients, screening, spacing, level)
        rough = _roughness(window, 3)
        for t in np.flatnonzero(is_flat & ~still):
            if is_suspect or noise.is_float32(rough[t], base[t]):
                level[t] = max(level[t], rough[t])
        is_flat &= still
        if not is_flat.any():
            break
    return level


# Kinks make a window rougher than rounding alone; only this much more calls for a second look. At native precision,
# where the windows are far wider, kinks are met often, and noise in excess means steps across even more of them.
_SUSPICIOUS, _SUSPICIOUS_NATIVE = 50.0, 4.0


def _is_flat(window, gradients, probe, spacing, level):
    """Per term, whether the loss stands still where backpropagation says that it moves.

    It must move by far less than its parts promise, and by less than they
    promise together: in some directions they cancel, and that is no standstill.
    """
    span = 2 * _REACH * spacing
    promised = [span * size for size in natural_sizes(probe, gradients)]
    together = [span * abs(probe.slope_of(gradient)) for gradient in gradients.values()]
    moved = np.ptp(np.where(np.isfinite(window), window, 0.0), axis=0)
    return np.array(
        [
            p > 100.0 * n and m < min(0.01 * p, 0.5 * t)
            for p, t, n, m in zip(promised, together, level, moved, strict=True)
        ]
    )


def _windows(oracle, point, probe, spacings):
    """Maps each spacing to the losses around the point."""
    pairs = [(0, float(s * t)) for s in spacings for t in noise.OFFSETS]
    found = oracle.losses(point, [probe], pairs)
    return dict(zip(spacings, np.asarray(found).reshape(len(spacings), noise.POINTS, -1), strict=True))


def _roughness(window, degree, has_corner=False):
    return np.array([noise.roughness(column, degree, noise.OFFSETS, has_corner) for column in window.T])


def natural_sizes(probe, gradients):
    """Returns, per term, the size of the slope along a probe when its parts do not cancel."""
    part = slice(probe.start, probe.stop)
    with np.errstate(over="ignore", invalid="ignore"):
        return tuple(_norm(probe.weights * g[part]) for g in gradients.values())


def _norm(values):
    """The Euclidean norm, also where the squares overflow; 0 where an entry is not finite."""
    largest = np.max(np.abs(values), initial=0.0)
    if not largest or not np.isfinite(largest):
        return 0.0
    return min(float(largest * np.linalg.norm(values / largest)), float(np.finfo(np.float64).max))


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
