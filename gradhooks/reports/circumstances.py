"""How a check measured: at which precision, and how much of the model."""

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


# What a report says where nothing else is known.
PROMOTED, NOTHING_COVERED = Precision("float64"), Coverage(0, 0, 0, 0)
