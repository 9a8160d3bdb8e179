"""What gradhooks raises and warns with."""

from typing import Any, Literal

from gradhooks.reports.message import failure_message
from gradhooks.reports.records import Report


class GradientMismatchWarning(UserWarning):
    """A gradient is wrong.

    The message names the parameter and the numbers, and gives the line that
    reproduces them.
    """


class GradientCheckWarning(UserWarning):
    """The check itself could not do its work; training goes on untouched."""


class BadInputError(ValueError):
    """An argument, the data or the model cannot be checked.

    Raised before training begins. It is the only error of gradhooks that stops
    `fit` whatever `on_failure` says.
    """


def bad_input(rule: str, name: str, value: Any, expected: str, advice: str) -> BadInputError:
    """Returns a `BadInputError` whose message has four parts.

    Args:
        rule: The rule that was broken, a sentence.
        name: The argument that breaks it.
        value: What was received for it.
        expected: What was expected instead.
        advice: What to try, one or more sentences.
    """
    return BadInputError(f"{rule} Received: {name}={value!r}. Expected {expected}. {advice}")


class GradientFailsError(RuntimeError):
    """The loss can be evaluated, but its backward pass raises.

    Args:
        path: Path of the layer that raises, or name of the loss; empty if unknown.
        cause: What was raised there, in one line.
        kind: `"layer"` or `"loss"`.
        source: Where its code stands, a `gradhooks.model.sources.Source`; None if unknown.
    """

    def __init__(
        self,
        path: str,
        cause: str,
        kind: Literal["layer", "loss"] = "layer",
        source: Any = None,
    ):
        layer = f"of {path} " if path else ""
        super().__init__(f"the backward pass {layer}raises {cause}")
        self.path = path
        self.cause = cause
        self.kind: Literal["layer", "loss"] = kind
        self.source = source


class EagerCodeError(RuntimeError):
    """Code of the model reads the values of a tensor, so it runs eagerly and cannot be traced."""


class RecordingError(RuntimeError):
    """A `train_step` cannot be recorded, or not without risk to the model."""


class GradientMismatchError(Exception):
    """A check failed: raised by `fit` with `on_failure="raise"`, and by `raise_on_failure()`.

    Args:
        report: The `CheckReport` with the failure.

    Example:

    >>> import gradhooks
    >>> report = gradhooks.CheckReport(
    ...     step=100,
    ...     verdict=gradhooks.Verdict.FAIL,
    ...     reason=gradhooks.Reason.MISMATCH,
    ...     relative_difference={"total": 0.5},
    ... )
    >>> try:
    ...     report.raise_on_failure()
    ... except gradhooks.GradientMismatchError as error:
    ...     print("failed at step", error.report.step)
    failed at step 100
    """

    def __init__(self, report: Report):
        super().__init__(failure_message(report))
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


class StateWriteError(RuntimeError):
    """An evaluation of the loss would write to state outside Keras variables; it is not run.

    Args:
        operations: Names of the operations that write, of which three are shown.
    """

    def __init__(self, operations: list[str] | tuple[str, ...]):
        super().__init__(
            "Evaluating the loss of this model writes to state outside Keras variables, which a "
            f"check must not do. Received: operations {', '.join(operations[:3])}. Expected state "
            "in keras.Variable and noise from keras.random.SeedGenerator. Try replacing "
            "tf.Variable and tf.random.Generator by those."
        )
