"""How a check measured: at which precision, how much of the model, and where it ran."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Precision:
    """At which precision the loss was evaluated.

    Args:
        level: `"float64"` (everything promoted), `"partial"` (some layers left
            at their own precision) or `"model"` (nothing promoted).
        native_layers: Paths of layers left at their own precision.
        narrow_operations: Operations in the promoted graph, between parameters
            and loss, that still compute in a lower precision.
        noise: Measured noise level of the loss, in loss units.
        note: One sentence for people, empty if everything was promoted.
        step_operations: Operations that make the loss a step function of
            parameters: rounding, quantization, integer values, lookups.
    """

    level: str
    native_layers: tuple[str, ...] = ()
    narrow_operations: tuple[str, ...] = ()
    noise: float = 0.0
    note: str = ""
    step_operations: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of the model has been compared so far, over all checks of a run.

    Args:
        variables: Number of trainable variables compared at least once.
        variables_total: Number of trainable variables.
        parameters: Number of their parameters compared at least once.
        parameters_total: Number of their parameters.
    """

    variables: int
    variables_total: int
    parameters: int
    parameters_total: int

    @property
    def share(self) -> float:
        """Fraction of the trainable variables compared at least once, in [0, 1]."""
        return self.variables / self.variables_total if self.variables_total else 0.0


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a report comes from: when, of which training, by which software.

    Args:
        time: When the check began, in seconds since 1970 (UTC); 0 where it is not
            known. A number and no date, so that reading a report checks it, and
            that it compares with the times of TensorBoard; people get to see it
            in ISO 8601.
        fit: Id of the call of `fit()`, random, the same in all of its reports;
            empty for a check outside of one.
        model: Name of the model; empty for plain functions.
        device: Device of the model's weights, as the backend names it, such as
            `"GPU:0"`; empty where it is not known.
        backend: Name of the backend of Keras; empty for plain functions.
        versions: Version by name: `"gradhooks"`, `"python"`, and for a model
            `"keras"` and that of the backend.

    Example:

    >>> Origin(versions={"gradhooks": "0.1.0"}).versions
    {'gradhooks': '0.1.0'}
    """

    time: float = 0.0
    fit: str = ""
    model: str = ""
    device: str = ""
    backend: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict[str, str])


# What a report says where nothing else is known.
PROMOTED, NOTHING_COVERED = Precision("float64"), Coverage(0, 0, 0, 0)
