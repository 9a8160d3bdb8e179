"""GradientCheck: when to check, and what to do about a failure."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from gradhooks import _types, backends, validation
from gradhooks._types import Frequency, LossFunction, MismatchKind, OnFailure, PrecisionName, Vector
from gradhooks.checker import Checker
from gradhooks.model import distribution, keras_internals, usable
from gradhooks.numerics.layout import Layout
from gradhooks.reports.errors import GradientMismatchError, GradientMismatchWarning
from gradhooks.reports.message import failure_message
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.schedule import Allowance, Budget, Schedule
from gradhooks.sinks import epoch_logs
from gradhooks.sinks.dispatch import Dispatcher
from gradhooks.sinks.histograms import GradientSnapshot
from gradhooks.sinks.speech import Speaker
from gradhooks.sinks.warning import warn_user


class GradientCheck(keras.callbacks.Callback):
    """Checks gradients numerically while a model trains.

    Before the first batch and then every `freq`, the callback samples a random
    subset of the parameters, measures their derivatives on a fixed minibatch,
    with and without regularization, and compares them with backpropagation.
    The relative difference goes to TensorBoard; a wrong gradient is reported
    once, when it appears. Training is bit for bit what it is without the
    callback.

    The logs of every epoch get `gradcheck_relative_difference` and
    `gradcheck_failures`, for callbacks that come after it in the list: put it
    first. `EarlyStopping(monitor="gradcheck_failures", mode="min")` reads them.

    Args:
        x: Data of the fixed minibatch, as `fit()` takes it; its first batch is
            taken once, when training begins.
        y: Targets, as `fit()` takes them.
        sample_weight: Weights of the examples, as `fit()` takes them.
        class_weight: Weights of the classes, as `fit()` takes them.
        batch_size: Largest number of examples kept. Defaults to 32. None takes
            arrays whole; they then need no common length.
        freq: `"epoch"`, an int of batches, or a callable `step -> bool`.
        at_start: Whether to check before the first batch. Defaults to True. A
            model that is not built yet is checked after that batch, unless its
            `loss_fn` needs only layers that are built.
        samples: Number of parameters sampled per check. Defaults to 32.
        threshold: Relative difference above which a comparison can fail.
            Defaults to that of the precision in use: 1e-7 in float64.
        on_failure: `"warn"`, `"raise"`, `"stop"` (ends training) or `"ignore"`.
            A run in which no check could decide anything is always reported.
        log_dir: Directory for TensorBoard, or a `keras.callbacks.TensorBoard`
            for wherever that one writes, as when a tuner moves it. The callback
            writes the run `<log_dir>/<name>`, and every report as a line of JSON
            to its `reports.jsonl`. Defaults to None: no files.
        histograms: Whether to log histograms of the gradients that the
            optimizer receives, beside their norms. Defaults to False.
        loss_fn: Loss to check in place of the compiled one,
            `loss_fn(model, x, y, sample_weight, training) -> scalar`.
        training: Value of the `training` argument of the forward pass.
            Defaults to True.
        precision: `"auto"` (default), `"float64"` or `"model"`, see
            `check_gradients`.
        train_step: Whether to run the model's `train_step` once per check, on
            copies, and compare the gradient that the optimizer receives.
            Defaults to True.
        expect: Intended mismatches, `{path pattern: "blocked" | "mismatch" |
            "untrained"}`, see `check_gradients`.
        max_overhead: Largest share of the training time that checks may take,
            for example 0.05. A check that would take more waits; if the next
            one is due before there is time, it is shrunk. Its report says so.
            The first check, which compiles, is not counted; the second waits
            until there is time for one that takes as long. Defaults to None:
            no limit.
        max_memory: Bytes that what a check evaluates at once may take, see
            `check_gradients`. Defaults to None: no limit.
        save_failures: Directory that keeps what `gradhooks.replay` needs to make a
            failing check again: weights, batch and settings, once for every place
            and reason. Defaults to None: nothing is kept.
        sinks: Functions that are called with every `CheckReport`.
        seed: Seed of the sampling, which depends on `seed` and the step only.
            Defaults to 0.
        verbose: 0 prints nothing, 1 a line for every check, 2 its table. Unless
            it is 0, a first check that takes longer than five seconds says on
            stderr what it is doing; with `"auto"`, the default, that alone.
        name: Name of the TensorBoard run and prefix of the tags. Defaults to
            `"gradcheck"`.

    Attributes:
        reports: The `CheckReport`s of the current or latest `fit()`.

    Raises:
        BadInputError: For arguments, data or a model that cannot be checked,
            before training starts. It is a `ValueError`. Any other exception
            during a check, even one of the model's own code, becomes a report,
            and training continues.
        GradientMismatchError: If a gradient is wrong and `on_failure` is
            `"raise"`.

    Example:

    ```python
    check = gradhooks.GradientCheck(x_train, y_train, log_dir="logs")
    model.fit(x_train, y_train, epochs=5, callbacks=[check])
    print(check.reports[-1])
    ```
    """

    # Keras may call `on_train_batch_end` on other threads, and go on dispatching meanwhile.
    async_safe = True

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        batch_size: int | None = 32,
        freq: Frequency = "epoch",
        at_start: bool = True,
        samples: int = 32,
        threshold: float | None = None,
        on_failure: OnFailure = "warn",
        log_dir: _types.LogDirectory | None = None,
        histograms: bool = False,
        loss_fn: LossFunction | None = None,
        training: bool = True,
        precision: PrecisionName = "auto",
        train_step: bool = True,
        expect: Mapping[str, MismatchKind] = MappingProxyType({}),
        max_overhead: float | None = None,
        max_memory: int | None = None,
        save_failures: _types.Directory | None = None,
        sinks: Sequence[Callable[[CheckReport], object]] = (),
        seed: int = 0,
        verbose: _types.Verbosity = "auto",
        name: str = "gradcheck",
    ) -> None:
        super().__init__()
        backends.current()  # refuses a backend that is not supported
        self._options = options = validation.CallbackOptions(
            batch_size=batch_size, freq=freq, at_start=at_start, samples=samples,
            threshold=threshold, on_failure=on_failure, log_dir=log_dir, histograms=histograms,
            loss_fn=loss_fn, training=training, precision=precision, train_step=train_step,
            expect=expect, max_overhead=max_overhead, max_memory=max_memory,
            save_failures=save_failures, sinks=sinks, seed=seed, verbose=verbose, name=name,
        )  # fmt: skip
        self._schedule = Schedule(options.freq)
        self._budget = Budget(options.max_overhead, options.samples)
        self._dispatcher = Dispatcher(
            options.name, options.log_dir, options.histograms, options.sinks
        )
        self._speaker = Speaker(options.name, options.verbose)
        data = (x, y, sample_weight, class_weight)
        self._checker = Checker(options, data, options.name, self._dispatcher.warn_once)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy takes along: not the model, which the next `fit()` sets."""
        return {**vars(self), "_model": None}

    def _forget(self) -> None:
        """Begins a new run: counts and reports start anew; the fixed batch and the trace stay."""
        self.reports: list[CheckReport] = []
        self._is_starting = self._is_waiting = False
        self._was_bad = False
        self._failures_in_epoch = 0
        self._gradient: GradientSnapshot | None = None
        self._budget.begin()
        self._checker.begin_fit()

    # When

    def set_model(self, model: Any) -> None:
        """Takes the model; `fit` of Keras 2 does so before it asks for what only it has."""
        usable.check_kind(model, self._options.loss_fn)
        super().set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes the fixed batch and validates the model."""
        self._forget()
        usable.check_kind(self.model, self._options.loss_fn)
        self._dispatcher.begin(distribution.is_chief(self.model))
        self._speaker.begin(self.params)
        for sentence in epoch_logs.describe_order(self, self._options.name):
            self._dispatcher.warn_once(sentence)
        backends.current()
        self._checker.take_batch()
        self._is_starting = True
        if self._is_built:
            self._checker.check_usable(self.model)

    @property
    def _is_built(self) -> bool:
        """Whether the loss can be evaluated without making weights."""
        return usable.is_built(self.model, self._options.loss_fn)

    def _start(self, epoch: int) -> None:
        """Makes the first check: by now every callback in the list has restored its state."""
        if not self._is_starting:
            return
        self._is_starting = False
        self._schedule.begin(keras_internals.batches_trained(self.model), epoch)
        self._is_waiting = self._options.at_start and not self._is_built
        if self._options.at_start and self._is_built:
            self._check(is_first=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the epoch; before the first one, makes the first check."""
        self._speaker.begin_epoch()
        self._start(epoch)
        self._schedule.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Checks if a check is due, before the batch is trained on."""
        self._start(epoch=0)
        is_due = self._schedule.begin_batch(batch)
        if self._is_waiting:
            # A subclassed model builds itself in its first batch; building it here would change its
            # random weights.
            is_due = self._is_built
            self._is_waiting = not is_due
        self._check_in_time(is_due)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes that the batch was trained on."""
        self._schedule.end_batch(batch)
        self._speaker.end_batch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Checks if a check is due, and adds the keys to the logs of every epoch."""
        batches_of_epoch = (self.params or {}).get("steps")
        per_execution = getattr(self.model, "steps_per_execution", 1)
        is_due = self._schedule.end_epoch(per_execution, batches_of_epoch) or self._is_waiting
        self._is_waiting = False
        self._check_in_time(is_due)
        if logs is not None:
            epoch_logs.add_keys(logs, self._options.name, self.reports, self._failures_in_epoch)
        self._failures_in_epoch = 0

    def on_train_end(self, logs: Any = None) -> None:
        """Warns of what the run leaves undecided, and closes the TensorBoard log."""
        if self._options.on_failure == "warn":
            self._dispatcher.log_failures(self.reports)
        if self._budget.is_waiting:
            self._dispatcher.log_waiting(self._options.max_overhead)
        self._dispatcher.warn_if_inconclusive(self.reports, is_over=True)
        self._dispatcher.close()

    # What

    def _check_in_time(self, is_due: bool) -> None:
        """Checks if a check is due, now or since it had to wait, and there is time for it."""
        allowance = self._budget.call(self._schedule.step, is_due)
        if allowance is not None:
            self._check(allowance)

    def _check(self, allowance: Allowance | None = None, is_first: bool = False) -> None:
        """Makes one check, keeps its report, hands it on, and acts on it."""
        options, step = self._options, self._schedule.step
        started = time.perf_counter()
        samples = options.samples if allowance is None else allowance.samples
        index, watch = self._schedule.check_index, self._keep_gradient
        with self._speaker.working(step) as tell:
            report = self._checker.check(self.model, step, index, samples, is_first, watch, tell)
        spent = time.perf_counter() - started
        self._budget.spent(spent, report.samples, report.evaluations, report.seconds)
        report = self._add_overhead(report, allowance)
        self.reports.append(report)
        self._dispatcher.emit(report, self._gradient)
        self._speaker.show(report)
        self._dispatcher.warn_if_inconclusive(self.reports)
        self._gradient = None
        self._act(report)

    def _keep_gradient(self, layout: Layout, gradient: Vector) -> None:
        """Keeps the gradient that the optimizer receives until the report is emitted."""
        if self._options.log_dir is not None:
            self._gradient = GradientSnapshot(layout, gradient)

    def _add_overhead(self, report: CheckReport, allowance: Allowance | None) -> CheckReport:
        """Returns the report with what checking costs, and what the check had to do without."""
        report = dataclasses.replace(report, overhead=self._budget.overhead)
        if allowance is None:
            return report
        notes = (*report.notes, *allowance.notes(self._options.samples, self._options.max_overhead))
        return dataclasses.replace(report, postponed=allowance.postponed, notes=notes)

    def _act(self, report: CheckReport) -> None:
        """Warns when the gradient turns wrong, and stops or raises on request."""
        options, was_bad = self._options, self._was_bad
        is_bad = report.verdict is Verdict.FAIL
        # A check that ended with an error says nothing about whether the gradient is still wrong.
        self._was_bad = is_bad or (was_bad and bool(report.error))
        self._failures_in_epoch += len(report.failures)
        if not is_bad or options.on_failure == "ignore":
            return
        if options.on_failure == "raise":
            self._dispatcher.close()
            raise GradientMismatchError(report)
        if not was_bad:
            warn_user(failure_message(report), GradientMismatchWarning)
        if options.on_failure == "stop":
            model: Any = self.model
            model.stop_training = True
