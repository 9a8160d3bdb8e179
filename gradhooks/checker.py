"""One gradient check after another of a model on one fixed batch."""

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from gradhooks import validation
from gradhooks.checking import exceptions, memory, run
from gradhooks.checking.origin import begin_origin
from gradhooks.checking.settings import Settings
from gradhooks.failures.record import Failure
from gradhooks.failures.saving import FailureSaver
from gradhooks.model import batch, layer_patterns, objective, oracle, unmatched, usable
from gradhooks.model.batch import Batch
from gradhooks.model.origin import add_model
from gradhooks.reports.errors import BadInputError
from gradhooks.reports.excuses import Excuse
from gradhooks.reports.report import CheckReport
from gradhooks.reports.stages import Stage, StageObserver, tell_nobody
from gradhooks.verdicts import proof

# `(x, y, sample_weight, class_weight)` as `fit()` takes them.
Data: TypeAlias = tuple[Any, Any, Any, Any]


class Checker:
    """Checks a model on one fixed batch, as often as it is asked.

    The model is traced at the first check, and again when it has been
    compiled, frozen or rebuilt since.

    Args:
        options: What each check is asked to do.
        data: `(x, y, sample_weight, class_weight)` as `fit()` takes them.
        name: Name of the checks in their reports.
        warn: Called with each sentence that the user should read at once.

    Attributes:
        oracle: The traced `ModelOracle`; None before the first check.
        seen: Flat indices compared so far.
        unmatched: Sentences about patterns of `expect` that match nothing.
        fit: Id of the training that the checks belong to; empty outside of one.
    """

    def __init__(
        self,
        options: validation.Options,
        data: Data,
        name: str,
        warn: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        self._options, self._data, self._name = options, data, name
        self._warn = warn
        self._arguments = (*_name_data(data), *options.list_arguments())
        self._batch: Batch | None = None
        self._excuses: tuple[Excuse, ...] = ()
        self._memory = memory.Memory()
        self._saver = FailureSaver(options.save_failures)
        self.oracle: oracle.ModelOracle | None = None
        self.seen: frozenset[int] = frozenset()
        self.unmatched: tuple[str, ...] = ()
        self.fit = ""

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy takes along: not the trace, which it makes anew."""
        return {**vars(self), "oracle": None, "_excuses": ()}

    @property
    def batch(self) -> Batch:
        """The fixed batch.

        Raises:
            RuntimeError: If it has not been taken yet.
        """
        if self._batch is None:
            raise RuntimeError(
                "The fixed batch is taken when training begins. Received: a check before that. "
                "Expected a call of `on_train_begin`. Try `fit()`, or call it in your own loop."
            )
        return self._batch

    def take_batch(self) -> None:
        """Takes the fixed batch from the data, the first time it is called.

        Raises:
            BadInputError: If there is no example, or arrays of different
                lengths would have to be cut.
        """
        if self._batch is None:
            self._batch = batch.take_batch(*self._data, self._options.batch_size)
            self._data = (None, None, None, None)  # so that data sets can be released

    def resume(self, failure: Failure) -> None:
        """Takes over the batch and what was known before a check that failed."""
        self._batch = failure.batch
        self._memory = failure.memory
        self.seen = failure.seen

    def begin_fit(self) -> None:
        """Begins a new fit: coverage counts from nothing, and its reports have an id of their own.

        The id comes from the operating system: it advances no random generator.
        """
        self._saver.begin_fit()
        self.seen = frozenset()
        self.fit = uuid.uuid4().hex

    def check_usable(self, model: Any) -> None:
        """Raises a `BadInputError` for a model that cannot be checked."""
        usable.check_usable(model, self._options.loss_fn, self.batch)

    def check(
        self,
        model: Any,
        step: int,
        check_index: int | None = None,
        samples: int | None = None,
        is_first: bool = True,
        watch: run.GradientObserver | None = None,
        tell: StageObserver = tell_nobody,
    ) -> CheckReport:
        """Checks the model in its present state.

        Args:
            model: A `keras.Model`.
            step: Count of training batches before the check.
            check_index: Number of the check in its run; `step` if None.
            samples: Number of parameters to sample; that of the options if None.
            is_first: Whether bad input may raise, since nothing has been trained yet.
            watch: Called with the layout and the gradient that the optimizer
                receives (float32 or float64, shape (P,)), if it has been recorded.
            tell: Called with each `Stage` when it begins.

        Raises:
            BadInputError: For a model that cannot be checked and for a loss
                that is not a finite scalar, if `is_first`. Any other exception
                becomes a report.
        """
        origin = begin_origin()
        settings = self._make_settings(step, check_index, samples)
        remembered = self._memory
        tell(Stage.TRACING)
        try:
            traced = self._trace_if_changed(model)
            settings = dataclasses.replace(settings, seen=self.seen, excuses=self._excuses)
            remembered = memory.capture(traced)
            report = run.check(traced, settings, watch, tell)
            report = dataclasses.replace(report, notes=(*report.notes, *self.unmatched))
            for complaint in traced.complaints:
                self._warn(f"{self._name}: {complaint}")
            if is_first:
                usable.refuse_infinite_loss(report, self.batch)
        except BadInputError as error:
            if is_first:
                raise
            report = exceptions.report_exception(error, settings)
        except Exception as error:  # from the model's code, or from the framework
            report = exceptions.report_exception(error, settings)
        report = dataclasses.replace(
            report, origin=add_model(origin, model, self.fit), arguments=self._arguments
        )
        report = self._saver.save(
            report, model, self.batch, settings, self._options, remembered, self._warn
        )
        self.seen |= proof.positions_with_proof(report.comparisons)
        return report

    def _make_settings(self, step: int, check_index: int | None, samples: int | None) -> Settings:
        """Returns the settings of one check, without what earlier checks have compared."""
        options = self._options
        return Settings(
            samples=options.samples if samples is None else samples,
            threshold=options.threshold,
            seed=options.seed,
            step=step,
            check_index=check_index,
            name=self._name,
            expect=options.declared,
            train_step=options.train_step,
            has_own_loss=options.loss_fn is not None,
        )

    def _trace_if_changed(self, model: Any) -> oracle.ModelOracle:
        """Returns the traced model, traced anew if it has changed since."""
        former = self.oracle
        if former is not None and former.signature == oracle.signature(model):
            return former
        self.check_usable(model)
        options = self._options
        target = objective.Objective(model, options.training, options.loss_fn)
        watched = layer_patterns.WatchedLayers(model, options.declared, options.training)
        self.oracle = oracle.ModelOracle(
            target,
            self.batch,
            options.precision,
            watch=watched.note_calls,
            max_memory=options.max_memory,
        )
        memory.restore(self.oracle, self._memory)
        self._memory = memory.Memory()  # that of the first oracle alone
        self._excuses = watched.list_excuses(self.oracle)
        if former is not None and former.layout != self.oracle.layout:
            self.seen = frozenset()  # flat indices mean other parameters now
        precision = self.oracle.precision
        if precision.level != "float64" and options.precision != "model":
            self._warn(precision.note)
        self.unmatched = unmatched.describe_unmatched(model, options.declared)
        for sentence in self.unmatched:
            self._warn(f"{self._name}: {sentence}")
        return self.oracle


def _name_data(data: Data) -> Iterator[tuple[str, str]]:
    """Which of `(x, y, sample_weight, class_weight)` are given, as arguments of a check."""
    _, y, sample_weight, class_weight = data
    if y is None:
        yield "y", "None"  # the targets are in `x`, or there are none
    if sample_weight is not None:
        yield "sample_weight", "sample_weight"
    if class_weight is not None:
        yield "class_weight", "class_weight"
