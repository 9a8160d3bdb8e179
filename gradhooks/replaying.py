"""replay(): makes a check again that has failed elsewhere."""

import dataclasses
import math
import os
from typing import Any

from gradhooks import _types, arguments, backends, validation
from gradhooks._types import LossFunction
from gradhooks.checker import Checker
from gradhooks.failures.directory import is_damaged, read_failure
from gradhooks.failures.record import Request
from gradhooks.model import state, usable
from gradhooks.reports.errors import BadInputError, bad_input
from gradhooks.reports.report import CheckReport


def replay(
    directory: _types.Directory, model: Any, *, loss_fn: LossFunction | None = None
) -> CheckReport:
    """Makes a failing check again that `save_failures=` has saved.

    The model takes over the values that its variables and its optimizer had in the
    check, and keeps them afterwards, so that the bug can be looked at with the weights
    that show it; the batch is in `batch.npz`. (What an optimizer has made since, such as
    moments, stays.) With the same code and versions, on the same kind of device, the
    numbers are the same, bit for bit; what code keeps beside Keras variables, such as an
    attribute that changes while it trains, is its own. A note tells if the loss is another.

    Nothing in the directory is run: weights and batch are plain arrays, and the model is
    the one that you pass. Where Keras could save the model, `model.keras` holds it, for
    `keras.saving.load_model`.

    Args:
        directory: The directory of one failure, as the report names it in `saved_in`.
        model: A `keras.Model` built and compiled by the code that did so for the check.
        loss_fn: The loss function of the check, if it had one. Defaults to None: the
            compiled loss.

    Returns:
        The `gradhooks.CheckReport` of the check as it is made now.

    Raises:
        BadInputError: If the directory holds no failure or a damaged one, or if the model
            has other variables, trains others, or needs a `loss_fn`. The model keeps its
            values then.

    Example:

    ```python
    report = gradhooks.check_gradients(model, x_train, y_train, save_failures="failures")
    if report.saved_in:  # the check has failed; later, or elsewhere:
        print(gradhooks.replay(report.saved_in, model))
    ```
    """
    backends.current()
    failure = read_failure(directory)
    request = failure.request
    loss_fn = arguments.check_loss_function(loss_fn)
    usable.check_kind(model, loss_fn)
    if (loss_fn is None) == bool(request.loss_fn):
        raise bad_input(
            "A check is made again with the loss that it had.",
            "loss_fn",
            loss_fn,
            request.loss_fn or "None, the compiled loss",
            "Try the function that the check was given.",
        )
    try:
        options = _make_options(request, loss_fn)
    except BadInputError as error:
        raise is_damaged(directory, error) from error
    usable.check_usable(model, loss_fn, failure.batch)
    state.check_trained(model, failure.trained)
    state.write_state(model, failure.state)
    checker = Checker(options, (None, None, None, None), request.name)
    checker.resume(failure)
    report = checker.check(model, request.step, request.check_index, request.samples)
    return dataclasses.replace(
        report,
        arguments=failure.report.arguments,
        saved_in=os.fspath(directory),
        notes=(*report.notes, *_compare_losses(report, failure.report)),
    )


def _compare_losses(report: CheckReport, former: CheckReport) -> list[str]:
    """Returns a note if the loss is not that of the former check."""
    if dict(report.loss) == dict(former.loss):
        return []
    told: list[str] = []
    for each in (report, former):
        versions = ", ".join(f"{name} {number}" for name, number in each.origin.versions.items())
        told.append(f"{each.loss.get('total', math.nan):.17g} ({versions})")
    return [f"the loss is {told[0]}; in the check that was saved it was {told[1]}"]


def _make_options(request: Request, loss_fn: LossFunction | None) -> validation.Options:
    """The arguments of the check; they are validated like a user's."""
    return validation.Options(
        samples=request.samples,
        threshold=request.threshold,
        loss_fn=loss_fn,
        training=request.training,
        precision=request.precision,
        train_step=request.train_step,
        expect=dict(request.expect),  # type: ignore[arg-type]  # validated there
        max_memory=request.max_memory,
        seed=request.seed,
    )
