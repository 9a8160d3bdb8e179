"""An oracle over plain NumPy functions: what a check sees of a model, without one."""

import dataclasses
import math

import numpy as np

from gradhooks.checking import baseline
from gradhooks.numerics import sampling
from gradhooks.numerics.layout import Layout
from gradhooks.reports.records import Precision


@dataclasses.dataclass(frozen=True)
class FunctionGradients:
    """What an oracle answers when asked for gradients.

    Args:
        terms: float64, shape (P,), per term.
        connected: bool, shape (V,). Whether backpropagation reaches the variable.
    """

    terms: dict
    connected: np.ndarray


class FunctionOracle:
    """Answers like a `ModelOracle`, from functions of the flat parameter vector.

    Args:
        function: `function(point) -> float`, the data loss; `point` is float64, shape (P,).
        gradient: `gradient(point) -> float64, shape (P,)`, what backpropagation claims, right or wrong.
        point: float64, shape (P,). The parameters.
        shapes: Shape of each variable; one variable that holds everything if None.
        penalty: `(function, gradient)` of the penalty, as for the data loss; None for a
            model without regularization, which has the total as its only term.
        level: The level of the precision ladder that the oracle claims.
        narrow_operations: Operations of low precision that it admits to.

    Attributes:
        evaluations: Number of losses asked for.
        gradient_evaluations: Number of gradients asked for.
    """

    def __init__(
        self,
        function,
        gradient,
        point,
        shapes=None,
        penalty=None,
        level="float64",
        narrow_operations=(),
    ):
        self._point = np.array(point, dtype=np.float64)
        shapes = ((len(self._point),),) if shapes is None else tuple(tuple(s) for s in shapes)
        assert sum(math.prod(s) for s in shapes) == len(self._point), (
            "the shapes must hold the point"
        )
        self.layout = Layout(tuple(f"v{k}" for k in range(len(shapes))), shapes)
        self._parts = [(function, gradient), *([penalty] if penalty else [])]
        self.term_names = ("total", "data", "penalty") if penalty else ("total",)
        self.precision = Precision(level, narrow_operations=narrow_operations)
        self.evaluations = 0
        self.gradient_evaluations = 0

    def point(self):
        """Returns a copy of the parameters."""
        return self._point.copy()

    def losses(self, point, probes, pairs):
        """Returns float64, shape (len(pairs), T): one row per (number of the probe, offset)."""
        self.evaluations += len(pairs)
        return np.array(
            [self._terms(0, self._moved(point, probes[k], offset)) for k, offset in pairs]
        )

    def gradients(self, point):
        """Returns the claimed gradient of every term."""
        self.gradient_evaluations += 1
        found = [np.asarray(g, dtype=np.float64) for g in self._terms(1, point)]
        return FunctionGradients(
            dict(zip(self.term_names, found, strict=True)), np.ones(len(self.layout), bool)
        )

    def _terms(self, which, point):
        """Total, data and penalty of the losses (0) or of the gradients (1)."""
        parts = [part[which](point) for part in self._parts]
        return [sum(parts), *parts] if len(parts) > 1 else parts

    @staticmethod
    def _moved(point, probe, offset):
        moved = point.copy()
        moved[probe.start : probe.stop] += offset * probe.weights
        return moved


def quadratic(size=12, **options):
    """The oracle of a sum of squares."""
    point = np.random.default_rng(1).uniform(0.5, 1.5, size)
    return FunctionOracle(lambda p: float(p @ p), lambda p: 2 * p, point, **options)


def surveyed(oracle, spacing=baseline.PROMOTED, is_suspect=False):
    """(place, probe, windows) along the screening probe, as a check does it."""
    point = oracle.point()
    gradients = oracle.gradients(point).terms
    scales = sampling.variable_scales(oracle.layout, point)
    probe = sampling.screening_probe(
        oracle.layout, scales, gradients["total"], np.random.default_rng(0)
    )
    place, windows = baseline.estimate_baseline(
        oracle, point, gradients, probe, spacing, is_suspect
    )
    return place, probe, windows


def kinky(size=12, bend=1e-2):
    """The oracle of a sum of squares with thousands of corners around each parameter, none within 1e-7.

    Args:
        size: Number of parameters.
        bend: By how much each corner changes the slope, about.
    """
    rng = np.random.default_rng(3)
    point = rng.uniform(0.5, 1.5, size)
    where = point[:, None] + rng.choice([-1, 1], (size, 2000)) * rng.uniform(
        1e-7, 5e-4, (size, 2000)
    )
    bends = bend * rng.normal(size=(size, 2000))

    def loss(p):
        return float(p @ p + np.sum(bends * np.abs(p[:, None] - where)))

    return FunctionOracle(
        loss, lambda p: 2 * p + np.sum(bends * np.sign(p[:, None] - where), axis=1), point
    )


def steep(size=12, rate=1e7):
    """The oracle of a mean of sines, whose derivatives hold over a fraction of `1 / rate` only."""
    rng = np.random.default_rng(2)
    rates, phases, point = (
        rate * rng.uniform(0.5, 2.0, size),
        rng.uniform(0, 6, size),
        rng.normal(size=size),
    )

    def loss(p):
        return float(np.mean(np.sin(rates * (p - point) + phases)))

    return FunctionOracle(
        loss, lambda p: rates * np.cos(rates * (p - point) + phases) / size, point
    )
