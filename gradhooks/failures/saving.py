"""Saves failing checks of a run: one for every place and reason."""

import dataclasses
from collections.abc import Callable
from typing import Any

from gradhooks import arguments
from gradhooks.checking.memory import Memory
from gradhooks.checking.settings import Settings
from gradhooks.failures.directory import write_failure
from gradhooks.failures.record import Failure, Request
from gradhooks.model import distribution, state, untouched
from gradhooks.model.batch import Batch
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.validation import Options

# Failures that one fit saves at most. A free choice: one bug has few places, and each failure takes
# the room of the weights.
_MOST = 8


class FailureSaver:
    """Writes failing checks to a directory.

    A bug fails in every check of a run; what it takes to make one of them again is
    saved once for every reason and place.

    Args:
        directory: Where to; None saves nothing.
    """

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._saved: set[tuple[str, ...]] = set()

    def begin_fit(self) -> None:
        """Begins a new fit: everything is saved again."""
        self._saved = set()

    def save(
        self,
        report: CheckReport,
        model: Any,
        batch: Batch,
        settings: Settings,
        options: Options,
        memory: Memory,
        warn: Callable[[str], object],
    ) -> CheckReport:
        """Saves a check if it has failed; returns its report, which then says where.

        Args:
            report: The report.
            model: The model, in the state in which it was checked.
            batch: The fixed batch.
            settings: What the check was asked to do.
            options: What the user has asked for.
            memory: What the oracle remembered before the check.
            warn: Called with a sentence if nothing can be saved.
        """
        if self._directory is None or report.verdict is not Verdict.FAIL:
            return report
        culprit = report.culprit
        place = (culprit.kind, culprit.path) if culprit is not None else ()
        known = (report.reason.name, *place)
        if known in self._saved or not distribution.is_chief(model):
            return report
        if len(self._saved) == _MOST:
            sentence = f"not saved: {_MOST} failures of this fit have been"
            return dataclasses.replace(report, notes=(*report.notes, sentence))
        self._saved.add(known)
        request = _describe_request(settings, options)
        try:
            with untouched.Untouched(model):
                failure = Failure(
                    report,
                    request,
                    memory,
                    batch,
                    state.read_state(model),
                    state.trained_numbers(model),
                    settings.seen,
                )
                saved_in = write_failure(self._directory, failure, getattr(model, "save", None))
        # Whatever the model's code or the disk does: training goes on.
        except Exception as error:
            sentence = f"the failing check could not be saved: {type(error).__name__}: {error}"
            warn(f"{report.name}: {sentence}")
            return dataclasses.replace(report, notes=(*report.notes, sentence))
        return dataclasses.replace(report, saved_in=saved_in)


def _describe_request(settings: Settings, options: Options) -> Request:
    loss_fn = options.loss_fn
    return Request(
        samples=settings.samples,
        seed=settings.seed,
        step=settings.step,
        name=settings.name,
        threshold=settings.threshold,
        training=options.training,
        precision=options.precision,
        train_step=settings.train_step,
        expect=settings.expect,
        max_memory=options.max_memory,
        check_index=settings.check_index,
        loss_fn="" if loss_fn is None else arguments.name_function(loss_fn, "loss_fn"),
    )
