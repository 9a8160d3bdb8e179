"""What a check asks about a loss: the seam between checking and models."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from gradhooks._types import Floats, Losses, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe
from gradhooks.reports.circumstances import Precision


class Gradients(Protocol):
    """The analytic gradient at one point."""

    @property
    def terms(self) -> Mapping[str, Vector]:
        """The gradient of each loss term, keyed by the oracle's `term_names`."""
        ...


class VariantGradient(Protocol):
    """The gradient of a variant of the loss at one point."""

    @property
    def terms(self) -> Mapping[str, Vector]:
        """The gradient of each loss term."""
        ...

    @property
    def losses(self) -> Mapping[str, float]:
        """The value of each loss term."""
        ...

    @property
    def subjects(self) -> Mapping[str, str]:
        """What is left out, assigned to or called with, in words, by the names of the variant."""
        ...


@runtime_checkable
class Oracle(Protocol):
    """A loss of P parameters, its gradient, and what is known about how they are computed.

    The parameters form one flat vector of float64, divided into variables by
    `layout`. An oracle never moves the model: it evaluates the loss at points
    near the present one. `gradhooks.testing.FunctionOracle` answers from plain
    NumPy functions; `GradientCheck` and `check_gradients` use an oracle that
    answers from a Keras model.

    Every member is asked for without a default, so an oracle that has nothing
    to say still needs the member: an empty tuple, None, False.

    Attributes:
        layout: Paths and shapes of the variables.
        term_names: Names of the loss terms: `("total",)`, or `("total",
            "data", "penalty")` where the model has a regularization penalty.
        precision: At which precision the loss is evaluated.
        training_dtype: Name of the dtype in which training computes, for
            example `"float32"`; it sets the rounding to expect of the
            optimizer gradient.
        batch_size: Number of examples in the batch; None if unknown.
        replicas: Number of replicas whose gradients the optimizer adds up.
        calls_python: Whether an evaluation runs Python code, whose precision
            is unknown.
        bypassed: Numbers of the variables that the loss reads directly, so
            that moving the point does not move them.
        pooling_groups: Numbers of the first variables of the groups within which
            moving a few parameters at once costs one evaluation; empty where each is
            moved by itself.
        has_gradient_elsewhere: Whether the gradient may be asked for at other
            points than the present one.
        notes: Sentences for the report.
        evaluations: Number of losses evaluated so far.
        gradient_evaluations: Number of gradients evaluated so far.
        gradient_noise: Standard deviation of a gradient entry between
            evaluations at one point: float64, shape (T, V), per term and
            variable. Starts as None; the check sets it once two gradients at one
            point have differed.
        known_noise: What an earlier check has measured of the noise of the loss, a
            `gradhooks.checking.known_noise.KnownNoise`. Starts as None; checks set it.
    """

    evaluations: int
    gradient_evaluations: int
    gradient_noise: Floats | None
    known_noise: Any | None

    @property
    def layout(self) -> Layout:
        """Paths and shapes of the variables."""
        ...

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the T loss terms; the first is `"total"`."""
        ...

    @property
    def precision(self) -> Precision:
        """At which precision the loss is evaluated."""
        ...

    @property
    def training_dtype(self) -> str:
        """Name of the dtype in which training computes."""
        ...

    @property
    def batch_size(self) -> int | None:
        """Number of examples in the batch; None if unknown."""
        ...

    @property
    def replicas(self) -> int:
        """Number of replicas whose gradients the optimizer adds up."""
        ...

    @property
    def calls_python(self) -> bool:
        """Whether an evaluation runs Python code, whose precision is unknown."""
        ...

    @property
    def bypassed(self) -> Sequence[int]:
        """Numbers of the variables that the loss reads directly, past the point it is given."""
        ...

    @property
    def pooling_groups(self) -> Sequence[int]:
        """Where the groups of variables begin whose parameters are moved together."""
        ...

    @property
    def has_gradient_elsewhere(self) -> bool:
        """Whether the gradient is known at other points than the present one."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        ...

    def point(self) -> Vector:
        """Returns the present parameters: float64, shape (P,)."""
        ...

    def losses(
        self, point: Vector, probes: Sequence[Probe], pairs: Sequence[tuple[int, float]]
    ) -> Losses:
        """Evaluates the loss terms at many points.

        Args:
            point: float64, shape (P,). Where the probes start.
            probes: Directions.
            pairs: For each evaluation the number of its probe and the offset along it.

        Returns:
            float64, shape (len(pairs), T).
        """
        ...

    def gradients(self, point: Vector) -> Gradients:
        """Returns the gradient of every term at a point (float64, shape (P,))."""
        ...

    def record(self, point: Vector | None = None, is_unscaled: bool = False) -> Any:
        """Runs the training step on copies and returns what it handed to the optimizer.

        Args:
            point: float64, shape (P,). Parameters to run it at; the present ones if None.
            is_unscaled: Whether the optimizer scales losses by 1.

        Returns:
            A `gradhooks.model.train_step.Recording`, or an object with its
            fields; None if there is no training step.

        Raises:
            RecordingError: If the step cannot be recorded.
        """
        ...

    def watched(self, scale: float) -> tuple[Any, Any | None] | None:
        """Evaluates the loss once as training computes it and once promoted, watching each layer.

        Args:
            scale: Factor of the loss before it is differentiated.

        Returns:
            Two `gradhooks.model.layerwise.Watched`, the second None if nothing
            is promoted; None if layers cannot be watched.
        """
        ...

    def first_jittering_layer(self, tolerance: float) -> str | None:
        """Returns the path of the layer at which two evaluations at the present point differ first.

        That is the first layer in forward order that returns other values for the
        same inputs; if there is none, the first one in backward order that
        propagates other gradients for the same ones.

        Args:
            tolerance: Relative difference that is no more than rounding.

        Returns:
            The path; None if no layer is known.
        """
        ...

    def tapped(self) -> Any | None:
        """Returns the same loss with taps before and behind every call of every layer.

        Returns:
            A `gradhooks.model.tapped_model.TappedModel`; None where there are no layers.
        """
        ...

    def source_of_step(self) -> Any | None:
        """Returns where the code of the training step stands.

        Returns:
            A `gradhooks.model.sources.Source`; None where there is no training step.
        """
        ...

    def is_steady(self, point: Vector, tolerance: float) -> bool:
        """Returns whether the user's code, run anew, computes the same gradient.

        Args:
            point: float64, shape (P,).
            tolerance: Relative difference, per variable, that still counts as the same.
        """
        ...

    def draws_alike(self) -> bool:
        """Returns whether loss and training step draw random numbers at the same places."""
        ...

    def variant_gradient(self, names: Sequence[str], point: Vector) -> VariantGradient | None:
        """Returns the gradient of another loss, as a mistake in the training step would take it.

        Args:
            names: What is done otherwise, one or several at once: `"mode"` (called
                with the other value of `training`), `"unweighted"` (without weights
                of examples or classes), `"averaged"` (each example has the mean of
                all weights), `"paired"` (every target is compared with the outputs
                for every example, where targets are numbers), `"squeezed"` (the same
                where they are columns), `"unadded"` (without what layers add to the
                loss), `"assigned"` (differentiated at
                the values that the forward pass assigns to weights), `"redrawn"`
                (a recomputation on the way back draws other random numbers).
            point: float64, shape (P,).

        Returns:
            A `VariantGradient`; None where there is no such variant.
        """
        ...

    def recompute_loss(
        self, point: Vector, traced_loss: float
    ) -> tuple[float, Sequence[str]] | None:
        """Returns the loss as the user's code computes it now, where that may be another one.

        Args:
            point: float64, shape (P,).
            traced_loss: The loss there as it was traced.

        Returns:
            The loss, and what has changed since the code was traced, in words; None if
            nothing is known to have changed.
        """
        ...

    def states(self) -> Sequence[tuple[str, Floats]]:
        """Returns pairs (name, array) of what the training step may keep beside the parameters."""
        ...

    def chance(self) -> Sequence[tuple[str, str]]:
        """Returns what may differ between evaluations: pairs (place, "random" or "python")."""
        ...
