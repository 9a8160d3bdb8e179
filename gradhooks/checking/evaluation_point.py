"""A point at which a check measures derivatives, and what is known there."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from gradhooks._types import Floats, PerTerm, Vector
from gradhooks.numerics import determinism
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe


@dataclasses.dataclass(frozen=True)
class EvaluationPoint:
    """A point in parameter space and what is known there.

    Args:
        point: float64, shape (P,).
        gradients: Per term name, float64, shape (P,).
        base: float64, shape (T,). Loss terms at the point.
        noise: float64, shape (T,). Standard deviation of their rounding noise.
        jitter: Root mean square difference between two evaluations at the point,
            of the term that changes most; 0 if they agree.
        has_dense_kinks: Whether the loss has kinks everywhere, so close to each
            other that the usual steps would cross some.
        gradient_noise: float64, shape (T, V). Standard deviation of a gradient
            entry between evaluations at the point, per variable; None for zeros.
        kink_precision: The precision of the steps at which most parameters passed
            among kinks in an earlier check, see `numerics.step_sizes`; infinite
            where that is not known.
    """

    point: Vector
    gradients: Mapping[str, Vector]
    base: PerTerm
    noise: PerTerm
    jitter: float = 0.0
    has_dense_kinks: bool = False
    gradient_noise: Floats | None = None
    kink_precision: float = math.inf

    @property
    def is_jittering(self) -> bool:
        """Whether evaluations of the loss at the point differ."""
        return self.jitter > 0

    def analytic_errors(self, probe: Probe, layout: Layout) -> PerTerm:
        """Returns the error bar of the slope by backpropagation along a probe.

        Zero for a gradient that is the same in every evaluation.

        Args:
            probe: The `Probe`.
            layout: The `Layout` of the parameters.

        Returns:
            float64, shape (T,), in loss per unit of offset.
        """
        if self.gradient_noise is None:
            return np.zeros(len(self.base))
        return determinism.slope_errors(self.gradient_noise, probe, layout)
