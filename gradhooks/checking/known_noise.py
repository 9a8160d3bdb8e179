"""The noise of a loss, measured in one check of a run and confirmed in the next ones.

Noise is rounding in what leads to the loss, and hardly changes from step to step. Two
evaluations close to the point show whether it has grown, and the screening direction
is measured with two more. If either disagrees, the noise is measured anew; among dense
kinks the direction seldom agrees at once, and does not count.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from gradhooks._types import Floats, PerTerm, Vector
from gradhooks.checking.baseline import StencilSpacing
from gradhooks.checking.evaluation_point import EvaluationPoint
from gradhooks.checking.measure import from_stencil
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.stencil import REACH
from gradhooks.numerics.differences import DEVIATIONS
from gradhooks.numerics.probe import Probe, uncancelled_magnitudes

# Noise above this fraction of the loss is no rounding in float64, and is measured in every check. A
# free choice between the noise of networks, 1e-16 to 1e-13, and that of float32.
_MOST = 1e-12
# The noise follows the loss: it is measured anew once that has changed by more than this factor. A
# free choice: within it, steps are at most that much longer or shorter than they should be.
_LARGEST_CHANGE = 2.0
# After so many checks it is measured anew in any case. A free choice, which costs one evaluation a
# check.
_CHECKS = 16
# Standard deviation of `J(h) - 2 J(0) + J(-h)`, in units of the noise. Derived: 1 + 4 + 1.
_SECOND_DIFFERENCE = math.sqrt(6.0)


@dataclasses.dataclass(frozen=True)
class KnownNoise:
    """What was measured.

    Args:
        level: Noise level of each term.
        base: The loss terms there.
        has_dense_kinks: Whether the loss had kinks everywhere.
        kink_precision: As of `EvaluationPoint`, once a check has found it.
        checks: How many checks have used it.
    """

    level: tuple[float, ...]
    base: tuple[float, ...]
    has_dense_kinks: bool
    kink_precision: float = math.inf
    checks: int = 1

    def count_check(self) -> "KnownNoise":
        """Returns the same after one more check."""
        return dataclasses.replace(self, checks=self.checks + 1)


def remember(at: EvaluationPoint, former: KnownNoise | None = None) -> KnownNoise | None:
    """Returns the noise at a point for the checks that follow; None if it is more than rounding.

    Args:
        at: The `EvaluationPoint`.
        former: What was known before, if anything.
    """
    is_rounding = at.noise[0] <= _MOST * abs(at.base[0])
    if at.is_jittering or at.gradient_noise is not None or not is_rounding:
        return None
    kink_precision = math.inf
    if former is not None and former.checks < _CHECKS and at.has_dense_kinks:
        kink_precision = former.kink_precision
    level, base = (tuple(map(float, values)) for values in (at.noise, at.base))
    return KnownNoise(level, base, at.has_dense_kinks, kink_precision)


def confirm(
    known: KnownNoise,
    oracle: Oracle,
    point: Vector,
    gradients: Mapping[str, Vector],
    screening: Probe,
    spacing: StencilSpacing,
    threshold: float,
) -> tuple[EvaluationPoint, dict[float, Floats]] | None:
    """Confirms the noise of an earlier check at a point, by five evaluations.

    Args:
        known: What was measured.
        oracle: The `Oracle`.
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        screening: `Probe` over all parameters, in relative parameter changes.
        spacing: The `StencilSpacing`.
        threshold: Relative difference that the verdict allows.

    Returns:
        As `baseline.estimate_baseline`, with the losses at both ends of the working
        stencil alone; None where the noise must be measured anew.
    """
    if known.checks >= _CHECKS:
        return None
    ends = [REACH * s * sign for s in (spacing.tiny, spacing.working) for sign in (-1, 1)]
    pairs = [(0, offset) for offset in (0.0, *ends)]
    base, *around = np.asarray(oracle.losses(point, [screening], pairs))
    before, after, *window = around
    if not _is_alike(known, base, np.stack([before, after])):
        return None
    at = EvaluationPoint(
        point,
        gradients,
        base,
        np.asarray(known.level),
        has_dense_kinks=known.has_dense_kinks,
        kink_precision=known.kink_precision,
    )
    windows = {spacing.working: np.stack(window)}
    magnitude = uncancelled_magnitudes(screening, gradients)
    screened = from_stencil(
        at,
        oracle.layout,
        screening,
        windows[spacing.working],
        spacing.working,
        magnitude,
        threshold,
    )
    is_confirmed = screened.is_accepted or known.has_dense_kinks
    return (at, windows) if is_confirmed else None


def _is_alike(known: KnownNoise, base: PerTerm, around: Floats) -> bool:
    """Whether the loss is about what it was, and as smooth close to the point.

    Args:
        known: What was measured.
        base: float64, shape (T,). The loss terms at the point.
        around: float64, shape (2, T). The same at a tiny distance on both sides.
    """
    if not (np.isfinite(base).all() and np.isfinite(around).all()):
        return False
    before, now = abs(known.base[0]), abs(float(base[0]))
    if not before / _LARGEST_CHANGE <= now <= _LARGEST_CHANGE * before:
        return False
    differences = np.abs(around[0] - 2 * base + around[1])
    return bool((differences <= DEVIATIONS * _SECOND_DIFFERENCE * np.asarray(known.level)).all())
