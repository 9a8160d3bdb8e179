"""What gradhooks raises and warns with."""


class GradientMismatchWarning(UserWarning):
    """A gradient is wrong. The message names the parameter, both numbers and the line that reproduces them."""


class GradientCheckWarning(UserWarning):
    """The checking itself could not do its work; training goes on untouched."""


class RecordingError(RuntimeError):
    """A `train_step` cannot be recorded, or not without risking the model."""


class GradientMismatchError(Exception):
    """Raised out of `fit` with `on_failure="raise"`, and by `CheckReport.raise_on_failure()`.

    Attributes:
        report: The `CheckReport` with the failure.
    """

    def __init__(self, report):
        from gradhooks.reporting.message import failure_message  # telling sits above the errors

        super().__init__(failure_message(report))
        self.report = report

    def __reduce__(self):
        return type(self), (self.report,)
