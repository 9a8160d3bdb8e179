"""The point that is checked, and all that a check knows of it."""

import dataclasses

from gradhooks._types import PerVariable, Vector
from gradhooks.checking.baseline import EvaluationPoint, StencilSpacing
from gradhooks.checking.measurement import Measurement
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.settings import Settings
from gradhooks.numerics import sampling
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe

# A variable, and the numbers of the terms of the loss that failed.
Kind = tuple[int, frozenset[int]]


@dataclasses.dataclass
class Confirmed:
    """What has been confirmed in a check so far.

    Attributes:
        kinds: The `Kind`s of which a clear failure stands; others of these do, too.
        perturbed: The latest perturbed point, by its number.
    """

    kinds: set[Kind] = dataclasses.field(default_factory=set[Kind])
    perturbed: dict[int, EvaluationPoint] = dataclasses.field(
        default_factory=dict[int, EvaluationPoint]
    )


@dataclasses.dataclass(frozen=True)
class CheckContext:
    """The point that is checked, and how probes are measured there.

    Failures are replicated at a perturbed point of the same batch, not on another
    slice of the batch. A kink on which parameters sit (a fresh bias, a zero
    layer, two ReLUs that cancel) is the same on every slice and gone after a
    nudge: a slice would repeat the false failure. And an error that only some
    examples show is the same after a nudge and absent from other slices: a slice
    would withdraw a true failure.

    Args:
        oracle: The `Oracle`, which evaluates losses and gradients.
        settings: The check's `Settings`.
        baseline: The `EvaluationPoint`: gradients, losses and noise at the point.
        screening: Direction over all parameters, along which the noise is
            estimated; None when everything is measured.
        scales: float64, shape (V,). Typical parameter size per variable.
        spacing: The `StencilSpacing`.
        threshold: Relative difference that the verdict allows.
        declared: Numbers of variables that are declared to mismatch.
        excused: Numbers of these and of those that a layer excuses.
        confirmed: What has been confirmed so far.
    """

    oracle: Oracle
    settings: Settings
    baseline: EvaluationPoint
    screening: Probe | None
    scales: PerVariable
    spacing: StencilSpacing
    threshold: float
    declared: frozenset[int]
    excused: frozenset[int] = frozenset()
    confirmed: Confirmed = dataclasses.field(default_factory=Confirmed)

    @property
    def layout(self) -> Layout:
        """The `Layout` of the parameters."""
        return self.oracle.layout

    def coordinate(self, position: int) -> Probe:
        """Returns the probe of one parameter."""
        variable = self.layout.variable_of(position)
        return sampling.coordinate_probe(position, self.scales[variable])

    def kind_of(self, measurement: Measurement) -> Kind | None:
        """Returns what failures of one variable have in common; None for what spans several."""
        probe = measurement.probe
        variable = self.layout.variable_of(probe.start)
        if probe.stop > self.layout.slice(variable).stop:
            return None
        return variable, frozenset(measurement.failed_comparands)

    def is_declared(self, measurement: Measurement) -> bool:
        """Whether this is a parameter of a variable that is declared to mismatch."""
        return self._is_among(measurement, self.declared)

    def is_excused(self, measurement: Measurement) -> bool:
        """Whether this is a parameter of a variable that is declared, or that a layer excuses."""
        return self._is_among(measurement, self.excused)

    def _is_among(self, measurement: Measurement, variables: frozenset[int]) -> bool:
        probe = measurement.probe
        return probe.is_coordinate and self.layout.variable_of(probe.start) in variables

    def nudge(self, stream: sampling.Stream, number: int, size: float) -> Vector:
        """Returns a point nearby: float64, shape (P,).

        Args:
            stream: What the random numbers are drawn for.
            number: Number of the point, each one another.
            size: How far it lies, in units of each variable's scale.
        """
        rng = sampling.generator(self.settings.seed, self.settings.step, stream, number)
        return sampling.nudge(self.layout, self.baseline.point, self.scales, rng, size)

    def slopes_at(self, point: Vector, probe: Probe) -> list[float]:
        """Returns the derivative of each term along a probe by backpropagation at a point."""
        gradients = self.oracle.gradients(point).terms.values()
        return [probe.slope_of(gradient) for gradient in gradients]
