"""GradientCheck: when to check, and what to do about it. No mathematics."""

import dataclasses
import logging
import math
import sys
import time
import warnings
from types import MappingProxyType

import keras

from gradhooks import backends, validation
from gradhooks.checking import exceptions, run
from gradhooks.checking.settings import Settings
from gradhooks.model import batch as batches
from gradhooks.model import distribution, keras_internals, objective, oracle, usable
from gradhooks.reports.errors import BadInputError, GradientMismatchError, GradientMismatchWarning
from gradhooks.reports.message import failure_message
from gradhooks.reports.reasons import Verdict
from gradhooks.schedule import Budget, Schedule
from gradhooks.sinks.dispatch import Dispatcher
from gradhooks.sinks.histograms import GradientSnapshot
from gradhooks.verdicts import proof

_log = logging.getLogger("gradhooks")


class GradientCheck(keras.callbacks.Callback):
    """Checks gradients numerically while a model trains.

    Before the first batch and then every `freq`, a random subset of the
    parameters is sampled, their derivatives are measured on a fixed minibatch
    with regularization on and off, and compared with backpropagation. The
    relative difference goes to TensorBoard; a wrong gradient is reported once,
    when it appears. Training is bit for bit what it is without the callback.

    Args:
        x: Data of the fixed minibatch, as `fit()` takes it; its first batch is
            taken once, when training begins.
        y: Targets, as `fit()` takes them.
        sample_weight: Weights of the examples, as `fit()` takes them.
        class_weight: Weights of the classes, as `fit()` takes them.
        batch_size: Largest number of examples kept. Defaults to 32. None takes
            arrays as they are, which need no common length then.
        freq: `"epoch"`, an int of batches, or a callable `step -> bool`.
        at_start: Whether to check before the first batch. Defaults to True.
            Where the model is not built yet, and no `loss_fn` does without
            that, the check waits for the first batch.
        samples: Number of parameters sampled per check. Defaults to 32.
        threshold: Relative difference above which a comparison can fail.
            Defaults to that of the precision in use: 1e-7 in float64.
        on_failure: `"warn"`, `"raise"`, `"stop"` (ends training) or `"ignore"`.
            A run of which nothing could be decided is told in any case.
        log_dir: Directory for TensorBoard; the run `<log_dir>/<name>` is
            written, with every report as a line of JSON in its
            `reports.jsonl`. None writes nothing.
        histograms: Whether TensorBoard gets histograms of the gradients that
            the optimizer receives, beside their norms. Defaults to False.
        loss_fn: Loss to check in place of the compiled one,
            `loss_fn(model, x, y, sample_weight, training) -> scalar`.
        training: Value of the `training` argument of the forward pass.
        precision: `"auto"`, `"float64"` or `"model"`, see `check_gradients`.
        train_step: Whether to run the model's `train_step` once per check, on
            copies, and compare the gradient that the optimizer receives.
        expect: Mismatches that are meant, `{path pattern: "blocked" | "mismatch"}`,
            see `check_gradients`.
        max_overhead: Largest share of the training time that checks may take,
            for example 0.05. A check that would take more waits, and is shrunk
            when it has waited until the next one is due; its report says so.
            The first check, which compiles, is not counted. Defaults to None,
            no limit.
        sinks: Functions that are called with every `CheckReport`.
        seed: Seed of the sampling; a check draws by `seed` and step alone.
        verbose: 1 prints every report.
        name: Name of the TensorBoard run and prefix of the tags.

    Attributes:
        reports: The `CheckReport`s of the current or latest `fit()`.

    Raises:
        BadInputError: For arguments, data or a model that cannot be checked,
            before training starts. It is a `ValueError`. Any other exception,
            of the model's own code too, is told in a report, and training
            goes on.

    Example:

    ```python
    check = gradhooks.GradientCheck(x_train, y_train, log_dir="logs")
    model.fit(x_train, y_train, epochs=5, callbacks=[check])
    print(check.reports[-1])
    ```
    """

    def __init__(
        self,
        x,
        y=None,
        *,
        sample_weight=None,
        class_weight=None,
        batch_size=32,
        freq="epoch",
        at_start=True,
        samples=32,
        threshold=None,
        on_failure="warn",
        log_dir=None,
        histograms=False,
        loss_fn=None,
        training=True,
        precision="auto",
        train_step=True,
        expect=MappingProxyType({}),
        max_overhead=None,
        sinks=(),
        seed=0,
        verbose=0,
        name="gradcheck",
    ):
        super().__init__()
        self._data = (x, y, sample_weight, class_weight)
        self._batch_size = validation.batch_size(batch_size)
        self._schedule = Schedule(validation.frequency(freq))
        self._at_start = validation.flag("at_start", at_start)
        self._samples = validation.positive_int("samples", samples, "Try samples=32.")
        self._threshold = validation.threshold(threshold)
        self._on_failure = validation.one_of(
            "on_failure", on_failure, validation.ON_FAILURE, "Try on_failure='warn'."
        )
        self._log_dir = validation.directory("log_dir", log_dir)
        histograms = validation.flag("histograms", histograms)
        self._loss_fn = validation.optional_callable(
            "loss_fn", loss_fn, "Try loss_fn=None to check the compiled loss."
        )
        self._training = validation.flag("training", training)
        self._precision = validation.one_of(
            "precision", precision, validation.PRECISIONS, "Try precision='auto'."
        )
        self._train_step = validation.flag("train_step", train_step)
        self._expect = validation.expectations(expect)
        self._max_overhead = validation.share("max_overhead", max_overhead)
        sinks = validation.callables("sinks", sinks)
        self._seed = validation.natural_int("seed", seed, "Try seed=0.")
        self._verbose = validation.natural_int("verbose", verbose, "Try verbose=1.")
        self._name = validation.file_name("name", name)
        self._budget = Budget(self._max_overhead, self._samples)
        self._dispatcher = Dispatcher(self._name, self._log_dir, histograms, sinks, self._verbose)
        self._batch = None
        self._oracle = None
        self._forget()

    def _forget(self):
        """Starts counting and telling anew; the fixed batch and the traced oracle stay."""
        self.reports = []
        self._is_starting = self._is_waiting = False
        self._was_bad = False
        self._failures_in_epoch = 0
        self._seen = frozenset()
        self._gradient = None
        self._budget.begin()

    # When

    def on_train_begin(self, logs=None):
        """Takes the fixed batch and validates the model."""
        self._forget()
        self._dispatcher.begin(distribution.is_chief(self.model))
        backends.current()
        if self._batch is None:
            self._batch = batches.take_batch(*self._data, self._batch_size)
            self._data = None
        self._is_starting = True
        if self._is_built:
            usable.check_usable(self.model, self._loss_fn, self._batch.y)

    @property
    def _is_built(self):
        """Whether the loss can be evaluated without making weights; one of the user's may not need the whole model."""
        return self.model.built or (
            self._loss_fn is not None and keras_internals.are_parts_built(self.model)
        )

    def _start(self, epoch):
        """Makes the first check, now that every callback in the list has restored what it restores."""
        if not self._is_starting:
            return
        self._is_starting = False
        self._schedule.begin(keras_internals.batches_trained(self.model), epoch)
        self._is_waiting = self._at_start and not self._is_built
        if self._at_start and self._is_built:
            self._check(is_first=True)

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch; before the first one, makes the first check."""
        self._start(epoch)
        self._schedule.begin_epoch(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        """Checks if it is time, before the batch is trained on."""
        self._start(epoch=0)
        is_due = self._schedule.begin_batch(batch)
        if self._is_waiting:
            # A subclassed model builds itself in its first batch; building it here would change its
            # random weights.
            is_due = self._is_built
            self._is_waiting = not is_due
        self._check_in_time(is_due)

    def on_train_batch_end(self, batch, logs=None):
        """Notes that the batch was trained on."""
        self._schedule.end_batch()

    def on_epoch_end(self, epoch, logs=None):
        """Checks if it is time, and adds the keys to the logs, in every epoch."""
        batches_of_epoch = (self.params or {}).get("steps")
        is_due = self._schedule.end_epoch(
            getattr(self.model, "steps_per_execution", 1), batches_of_epoch
        )
        is_due, self._is_waiting = is_due or self._is_waiting, False
        self._check_in_time(is_due)
        if logs is not None:
            latest = self.reports[-1] if self.reports else None
            logs[f"{self._name}_relative_difference"] = (
                latest.relative_difference["total"] if latest else math.nan
            )
            logs[f"{self._name}_failures"] = self._failures_in_epoch
        self._failures_in_epoch = 0

    def on_train_end(self, logs=None):
        """Sums up and closes the TensorBoard log."""
        bad = sum(r.verdict is Verdict.FAIL for r in self.reports)
        if bad > 1 and self._on_failure == "warn":
            _log.warning(
                "%s: %d of %d checks found a wrong gradient.", self._name, bad, len(self.reports)
            )
        if self._budget.is_waiting:
            _log.warning(
                "%s: training ended before there was time for a check that was due; max_overhead=%g.",
                self._name,
                self._max_overhead,
            )
        self._dispatcher.warn_if_inconclusive(self.reports, is_over=True)
        self._dispatcher.close()

    # What

    def _check_in_time(self, is_due):
        """Checks if a check is due, now or since it had to wait, and there is time for it."""
        allowance = self._budget.call(self._schedule.step, is_due)
        if allowance is not None:
            self._check(allowance)

    def _check(self, allowance=None, is_first=False):
        step, started = self._schedule.step, time.perf_counter()
        if self._verbose:
            print(
                f"{self._name}: checking gradients before batch {step} ...",
                file=sys.stderr,
                flush=True,
            )
        report = self._report(step, allowance.samples if allowance else self._samples, is_first)
        self._budget.spent(time.perf_counter() - started, report.samples, report.evaluations)
        report = self._with_overhead(report, allowance)
        self.reports.append(report)
        self._seen |= proof.positions(report.comparisons)
        self._dispatcher.emit(report, self._gradient)
        self._dispatcher.warn_if_inconclusive(self.reports)
        self._gradient = None
        self._act(report)

    def _report(self, step, samples, is_first):
        settings = Settings(
            samples,
            self._threshold,
            self._seed,
            step,
            self._schedule.turn,
            self._name,
            self._seen,
            self._expect,
            self._train_step,
        )
        try:
            asked = self._current_oracle()
            report = run.check(asked, dataclasses.replace(settings, seen=self._seen), self._watch)
            for complaint in asked.complaints:
                self._dispatcher.warn_once(f"{self._name}: {complaint}")
            return validation.finite_loss(report, self._batch) if is_first else report
        except BadInputError as error:
            # Bad input stops training before it starts, and only then; nothing else ever does.
            if is_first:
                raise
            return exceptions.report_of(error, settings)
        except Exception as error:
            return exceptions.report_of(error, settings)

    def _watch(self, layout, gradient):
        """Keeps the gradient that the optimizer receives, until it has been told."""
        if self._log_dir is not None:
            self._gradient = GradientSnapshot(layout, gradient)

    def _with_overhead(self, report, allowance):
        note = allowance.note(self._samples, self._max_overhead) if allowance else None
        return dataclasses.replace(
            report,
            overhead=self._budget.overhead,
            postponed=allowance.postponed if allowance else 0,
            notes=(*report.notes, note) if note else report.notes,
        )

    def _current_oracle(self):
        """The traced oracle; a new one where the model has been compiled, frozen or rebuilt differently since."""
        if self._oracle is None or self._oracle.signature != oracle.signature(self.model):
            usable.check_usable(self.model, self._loss_fn, self._batch.y)
            target = objective.Objective(self.model, self._training, self._loss_fn)
            former, self._oracle = (
                self._oracle,
                oracle.ModelOracle(target, self._batch, self._precision),
            )
            if former is not None and former.layout != self._oracle.layout:
                self._seen = frozenset()  # flat indices mean other parameters now
            if self._oracle.precision.level != "float64" and self._precision != "model":
                self._dispatcher.warn_once(self._oracle.precision.note)
        return self._oracle

    def _act(self, report):
        """Warns when the state turns bad, and stops or raises on request."""
        is_bad = report.verdict is Verdict.FAIL
        turned, self._was_bad = (
            is_bad and not self._was_bad,
            is_bad or (self._was_bad and bool(report.error)),
        )
        self._failures_in_epoch += len(report.failures)
        if not is_bad or self._on_failure == "ignore":
            return
        if self._on_failure == "raise":
            self._dispatcher.close()
            raise GradientMismatchError(report)
        if turned:
            warnings.warn(failure_message(report), GradientMismatchWarning, stacklevel=2)
        if self._on_failure == "stop":
            self.model.stop_training = True
