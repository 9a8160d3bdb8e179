"""What is known of a place before anything is measured there: its loss, its noise, whether it is full of kinks.

An oracle is anything with `losses(point, probes, pairs)`, returning float64 of
shape (pairs, T), one column per loss term, and `gradients(point)`.
"""

import dataclasses

import numpy as np

from gradhooks.checking import lost_digits
from gradhooks.numerics import differences, noise

# How far a window reaches, in spacings.
REACH = noise.OFFSETS[-1]
_MIDDLE = noise.OFFSETS.index(0.0)

# Kinks make a window rougher than rounding alone; only this much more calls for a second look. At
# native precision, where the windows are far wider, kinks are met often, and noise in excess means
# steps across even more of them.
_SUSPICIOUS, _SUSPICIOUS_NATIVE = 10.0, 4.0

# Norms between this and its inverse come from squares that float64 can hold.
_TAME = 1e-130

# What stands still must be at most this share of the slope, or it would be seen at a tiny distance.
_VISIBLE = 2e-3


@dataclasses.dataclass(frozen=True)
class StencilSpacing:
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


PROMOTED = StencilSpacing(1e-9, 2.5e-6, (1e-4, 3e-3, 5e-2))
NATIVE = StencilSpacing(1e-4, 2.5e-3, (), True)


@dataclasses.dataclass(frozen=True)
class EvaluationPoint:
    """A point in parameter space and what is known there.

    Args:
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        base: float64, shape (T,). Loss terms at the point.
        noise: float64, shape (T,). Standard deviation of their rounding noise.
        jitter: Largest difference between two evaluations at the point.
        has_dense_kinks: Whether the loss has kinks everywhere, so near to each other
            that the usual steps would cross some.
    """

    point: np.ndarray
    gradients: dict
    base: np.ndarray
    noise: np.ndarray
    jitter: float = 0.0
    has_dense_kinks: bool = False


def estimate_baseline(
    oracle, point, gradients, screening, spacing, is_suspect=False, has_steps=False
):
    """Evaluates the loss along the screening probe: base value, jitter, noise.

    Args:
        oracle: The oracle.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: `Probe` over all parameters, in relative parameter changes.
        spacing: A `Spacing`.
        is_suspect: Whether a core of low precision is known, so that wide
            distances are looked at in any case.
        has_steps: Whether the loss is known to depend on parameters in steps,
            which are no rounding, however many of them there are.

    Returns:
        (Place, windows): windows maps a spacing to float64, shape (POINTS, T).
    """
    near = _windows(oracle, point, screening, (spacing.tiny, spacing.working))
    # Both windows have the point itself in the middle.
    base, again = (near[s][_MIDDLE] for s in (spacing.tiny, spacing.working))
    if not np.isfinite([base, again]).all():
        return EvaluationPoint(point, gradients, base, np.zeros_like(base), 0.0), near
    level = np.maximum(
        [noise.rounding_floor(b) for b in base], _roughness(near[spacing.tiny], 2, has_kink=True)
    )
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
    if is_suspect and not (spacing.is_native or has_steps or is_flat.any()):
        distances = (spacing.working, *spacing.wide)
        level = np.maximum(
            level, lost_digits.hidden_level(oracle, point, gradients, screening, distances, level)
        )
    is_kinky = False
    if is_flat.any():
        level = _level_from_afar(
            oracle, point, gradients, screening, spacing.wide, base, level, is_flat, is_suspect
        )
    elif (
        is_rougher.any()
        and not is_suspect
        and _follows(near, gradients, screening, spacing.tiny, level)
    ):
        is_kinky = True
    elif is_rougher.any():
        further = _roughness(
            _windows(oracle, point, screening, (16 * spacing.working,)).popitem()[1], 3
        )
        lost = np.array([noise.is_staircase(w, f) for w, f in zip(working, further, strict=True)])
        if has_steps and lost.any() and not (is_suspect or spacing.is_native):
            lost &= lost_digits.lose_digits(
                oracle, point, gradients, screening, spacing.working, level
            )
        is_kinky = bool((is_rougher & ~lost).any())
        level = np.where(lost, np.maximum(level, np.maximum(working, further)), level)
    level[0] = max(level)  # the total is made of the other terms, and has lost what they have lost
    return EvaluationPoint(
        point, gradients, base, level, float(np.max(np.abs(base - again))), is_kinky
    ), near


def _level_from_afar(
    oracle, point, gradients, screening, spacings, base, level, is_flat, is_suspect
):
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


def _is_flat(window, gradients, probe, spacing, level):
    """Per term, whether the loss stands still where backpropagation says that it moves.

    It must move by far less than its parts promise, and by less than they
    promise together: in some directions they cancel, and that is no standstill.
    """
    span = 2 * REACH * spacing
    promised = [span * size for size in uncancelled_magnitudes(probe, gradients)]
    together = [span * abs(probe.slope_of(gradient)) for gradient in gradients.values()]
    moved = np.ptp(np.where(np.isfinite(window), window, 0.0), axis=0)
    return np.array(
        [
            p > 100.0 * n and m < min(0.01 * p, 0.5 * t)
            for p, t, n, m in zip(promised, together, level, moved, strict=True)
        ]
    )


def _follows(windows, gradients, probe, spacing, level):
    """Whether the loss follows backpropagation so closely, at a tiny distance, that it cannot have lost digits.

    What has lost them stands still or jumps there. A part of the loss too small to
    be seen, with fewer digits than the rest, is the price of not looking further.
    """
    # All points of the window know the slope better than its two ends.
    places = spacing * (np.array(noise.OFFSETS) - np.mean(noise.OFFSETS))
    extent = np.linalg.norm(places)
    slopes = places @ (windows[spacing] - windows[spacing][_MIDDLE]) / extent**2
    gaps = [
        abs(slope - probe.slope_of(g)) for slope, g in zip(slopes, gradients.values(), strict=True)
    ]
    bars = [differences.DEVIATIONS * n / extent for n in level]
    return all(
        gap <= bar + 0.01 * _VISIBLE * size and gap + bar <= _VISIBLE * size
        for gap, bar, size in zip(gaps, bars, uncancelled_magnitudes(probe, gradients), strict=True)
        if size
    )


def _windows(oracle, point, probe, spacings):
    """Maps each spacing to the losses around the point."""
    pairs = [(0, float(s * t)) for s in spacings for t in noise.OFFSETS]
    found = oracle.losses(point, [probe], pairs)
    return dict(
        zip(spacings, np.asarray(found).reshape(len(spacings), noise.POINTS, -1), strict=True)
    )


def _roughness(window, degree, has_kink=False):
    return np.array(
        [noise.roughness(column, degree, noise.OFFSETS, has_kink) for column in window.T]
    )


def uncancelled_magnitudes(probe, gradients):
    """Returns, per term, the size of the slope along a probe when its parts do not cancel."""
    part = slice(probe.start, probe.stop)
    with np.errstate(over="ignore", invalid="ignore"):
        return tuple(_norm(probe.weights * g[part]) for g in gradients.values())


def _norm(values):
    """The Euclidean norm, also where the squares overflow or vanish; 0 where an entry is not finite."""
    plain = float(np.linalg.norm(values))
    if _TAME < plain < 1 / _TAME:
        return plain
    largest = np.max(np.abs(values), initial=0.0)
    if not largest or not np.isfinite(largest):
        return 0.0
    return min(float(largest * np.linalg.norm(values / largest)), float(np.finfo(np.float64).max))
