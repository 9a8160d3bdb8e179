"""What gradhooks raises and warns with."""

from gradhooks.reports.message import failure_message


class GradientMismatchWarning(UserWarning):
    """A gradient is wrong. The message names the parameter, both numbers and the line that reproduces them."""


class GradientCheckWarning(UserWarning):
    """The checking itself could not do its work; training goes on untouched."""


class BadInputError(ValueError):
    """An argument, the data or the model cannot be checked. Before training it stops `fit`; nothing else does."""


def bad_input(rule, name, value, expected, advice):
    """Returns a `BadInputError` in four parts: the rule, what was received, what was expected, what to try.

    Args:
        rule: The rule that was broken, a sentence.
        name: The argument that breaks it.
        value: What was received for it.
        expected: What was expected instead.
        advice: What to try, one or more sentences.
    """
    message = f"{rule} Received: {name}={value!r}. Expected {expected}. {advice}"
    return BadInputError(message)


class GradientFailsError(RuntimeError):
    """The loss can be evaluated, but its backward pass raises.

    Attributes:
        path: Path of the layer in which it arises; empty if unknown.
        cause: What was raised there, in one line.
    """

    def __init__(self, path, cause):
        super().__init__(f"the backward pass {f'of {path} ' if path else ''}raises {cause}")
        self.path, self.cause = path, cause


class EagerCodeError(RuntimeError):
    """Code of the model asks a tensor for its numbers, so it runs eagerly and cannot be traced."""


class RecordingError(RuntimeError):
    """A `train_step` cannot be recorded, or not without risking the model."""


class GradientMismatchError(Exception):
    """Raised out of `fit` with `on_failure="raise"`, and by `CheckReport.raise_on_failure()`.

    Attributes:
        report: The `CheckReport` with the failure.
    """

    def __init__(self, report):
        super().__init__(failure_message(report))
        self.report = report

    def __reduce__(self):
        return type(self), (self.report,)


class StateWriteError(RuntimeError):
    """A loss evaluation would write to state outside Keras variables, so it is not run at all."""

    def __init__(self, operations):
        super().__init__(
            "Evaluating the loss of this model writes to state outside Keras variables, which a check must not do. "
            f"Received: operations {', '.join(operations[:3])}. Expected state in keras.Variable and noise from "
            "keras.random.SeedGenerator. Try replacing tf.Variable and tf.random.Generator by those."
        )
