"""GradientCheck: when to check, and what to do about it. No mathematics."""

import contextlib
import logging
import math
import sys
import warnings
from types import MappingProxyType

import keras

from gradhooks import arguments, backends, examination
from gradhooks.errors import GradientCheckWarning, GradientMismatchError, GradientMismatchWarning
from gradhooks.model import batch as batches
from gradhooks.model import keras_internals, oracle, terms
from gradhooks.numerics.records import CheckReport, Reason, Verdict
from gradhooks.reporting.message import error_message, failure_message
from gradhooks.reporting.tensorboard import TensorBoardSink

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
        batch_size: Largest number of examples kept. Defaults to 32.
        freq: `"epoch"`, an int of batches, or a callable `step -> bool`.
        at_start: Whether to check before the first batch. Defaults to True.
            Where the model is not built yet, the check waits for the first batch.
        samples: Number of parameters sampled per check. Defaults to 32.
        threshold: Relative difference above which a comparison can fail.
            Defaults to that of the precision in use: 1e-6 in float64.
        on_failure: `"warn"`, `"raise"`, `"stop"` (ends training) or `"ignore"`.
        log_dir: Directory for TensorBoard; the run `<log_dir>/<name>` is
            written. None writes nothing.
        loss_fn: Loss to check in place of the compiled one,
            `loss_fn(model, x, y, sample_weight, training) -> scalar`.
        training: Value of the `training` argument of the forward pass.
        precision: `"auto"`, `"float64"` or `"model"`, see `check_gradients`.
        train_step: Whether to run the model's `train_step` once per check, on
            copies, and compare the gradient that the optimizer receives.
        expect: Mismatches that are meant, `{path pattern: "blocked" | "mismatch"}`,
            see `check_gradients`.
        sinks: Functions that are called with every `CheckReport`.
        seed: Seed of the sampling; a check draws by `seed` and step alone.
        verbose: 1 prints every report.
        name: Name of the TensorBoard run and prefix of the tags.

    Attributes:
        reports: The `CheckReport`s of the current or latest `fit()`.

    Raises:
        ValueError: For arguments, data or a model that cannot be checked,
            before training starts.

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
        loss_fn=None,
        training=True,
        precision="auto",
        train_step=True,
        expect=MappingProxyType({}),
        sinks=(),
        seed=0,
        verbose=0,
        name="gradcheck",
    ):
        super().__init__()
        self._data = (x, y, sample_weight, class_weight)
        self._batch_size = arguments.positive_int("batch_size", batch_size, "Try batch_size=32.")
        self._freq = arguments.frequency(freq)
        self._at_start = arguments.flag("at_start", at_start)
        self._samples = arguments.positive_int("samples", samples, "Try samples=32.")
        self._threshold = arguments.threshold(threshold)
        self._on_failure = arguments.one_of("on_failure", on_failure, arguments.ON_FAILURE, "Try on_failure='warn'.")
        self._log_dir = arguments.directory("log_dir", log_dir)
        self._loss_fn = arguments.optional_callable("loss_fn", loss_fn, "Try loss_fn=None to check the compiled loss.")
        self._training = arguments.flag("training", training)
        self._precision = arguments.one_of("precision", precision, arguments.PRECISIONS, "Try precision='auto'.")
        self._train_step = arguments.flag("train_step", train_step)
        self._expect = arguments.expectations(expect)
        self._sinks = arguments.callables("sinks", sinks)
        self._seed = arguments.natural_int("seed", seed, "Try seed=0.")
        self._verbose = arguments.natural_int("verbose", verbose, "Try verbose=1.")
        self._name = arguments.file_name("name", name)
        self.reports = []
        self._batch = None
        self._oracle = None
        self._forget()

    def _forget(self):
        """Starts counting and telling anew; the fixed batch and the traced oracle stay."""
        self.reports = []
        self._epoch_start = 0  # batches trained when the epoch began
        self._begun = 0  # batches trained when the latest batch began
        self._checked_to = -1  # step up to which checks have been considered
        self._epoch = 0
        self._is_waiting = False
        self._was_bad = False
        self._failures_in_epoch = 0
        self._seen = frozenset()
        self._complaints = set()
        self._tensorboard = None

    # When

    def on_train_begin(self, logs=None):
        """Takes the fixed batch, validates the model and makes the first check."""
        self._forget()
        backends.current()
        if self._batch is None:
            self._batch = batches.fixed_batch(*self._data, self._batch_size)
            self._data = None
        self._epoch_start = self._begun = keras_internals.batches_trained(self.model)
        self._checked_to = self._begun
        if not self.model.built:
            self._is_waiting = self._at_start
            return
        arguments.usable_model(self.model, self._loss_fn, self._batch.y)
        if self._at_start:
            self._check(self._begun, is_first=True)

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Checks if it is time, before the batch is trained on."""
        self._begun = self._epoch_start + batch
        if self._is_waiting:
            # A subclassed model builds itself in its first batch; building it here would change its random weights.
            self._is_waiting = not self.model.built
            if not self._is_waiting:
                self._check(self._begun)
        elif self._is_due(self._begun):
            self._check(self._begun)

    def on_epoch_end(self, epoch, logs=None):
        """Checks if it is time, and adds the keys to the logs, in every epoch."""
        self._epoch_start = self._batches_after(epoch)
        is_end = self._freq == "epoch" or self._is_waiting
        if is_end or self._is_due(self._epoch_start):
            self._is_waiting = False
            self._check(self._epoch_start)
        if logs is not None:
            latest = self.reports[-1] if self.reports else None
            logs[f"{self._name}_relative_difference"] = latest.relative_difference["total"] if latest else math.nan
            logs[f"{self._name}_failures"] = self._failures_in_epoch
        self._failures_in_epoch = 0

    def on_train_end(self, logs=None):
        """Sums up and closes the TensorBoard log."""
        bad = sum(r.verdict is Verdict.FAIL for r in self.reports)
        if bad > 1 and self._on_failure == "warn":
            _log.warning("%s: %d of %d checks found a wrong gradient.", self._name, bad, len(self.reports))
        if self._tensorboard is not None:
            with self._complaining("closing the TensorBoard log"):
                self._tensorboard.close()
        self._tensorboard = None

    def _is_due(self, step):
        """Whether a check lies between the latest one considered and this step."""
        before, self._checked_to = self._checked_to, step
        if step <= before or self._freq == "epoch":
            return False
        if callable(self._freq):
            return bool(self._freq(step))
        # One execution may take many batches, so the multiple itself may have been passed.
        return step // self._freq > before // self._freq

    def _batches_after(self, epoch):
        """Batches trained when an epoch ends; the last execution may have been a short one."""
        executed = self._begun + getattr(self.model, "steps_per_execution", 1)
        steps = (self.params or {}).get("steps")
        return executed if steps is None else min(executed, self._epoch_start + steps)

    def _turn(self, step):
        """Number of the check, as far as it follows from the step alone, so that a resumed run goes on in turn."""
        if callable(self._freq):
            return step
        return self._epoch + (step > 0) if self._freq == "epoch" else step // self._freq

    # What

    def _check(self, step, is_first=False):
        if self._verbose:
            print(f"{self._name}: checking gradients before batch {step} ...", file=sys.stderr, flush=True)
        report = self._report(step, is_first)
        self.reports.append(report)
        self._seen |= {c.position for c in report.comparisons if c.index is not None and c.verdict is Verdict.PASS}
        self._tell(report)
        self._act(report)

    def _report(self, step, is_first):
        try:
            report = examination.run(self._current_oracle(), self._settings(step))
            return arguments.finite_loss(report) if is_first else report
        except ValueError as error:
            # Bad input stops training before it starts, and only then.
            if is_first:
                raise
            return self._broken(step, error)
        except Exception as error:
            return self._broken(step, error)

    def _settings(self, step):
        return examination.Settings(
            self._samples,
            self._threshold,
            self._seed,
            step,
            self._turn(step),
            self._name,
            self._seen,
            self._expect,
            self._train_step,
        )

    def _current_oracle(self):
        """The traced oracle; a new one where the model has been compiled, frozen or rebuilt differently since."""
        if self._oracle is None or self._oracle.signature != oracle.signature(self.model):
            arguments.usable_model(self.model, self._loss_fn, self._batch.y)
            objective = terms.Objective(self.model, self._training, self._loss_fn)
            self._oracle = oracle.ModelOracle(objective, self._batch, self._precision)
            if self._oracle.precision.rung != "float64" and self._precision != "model":
                self._complain(self._oracle.precision.note)
        return self._oracle

    def _broken(self, step, error):
        nothing = dict.fromkeys(("total", "data", "penalty"), math.nan)
        text = f"{type(error).__name__}: {error}"
        return CheckReport(
            step, Verdict.INCONCLUSIVE, Reason.ERROR, nothing, seed=self._seed, samples=self._samples,
            error=text, name=self._name,
        )  # fmt: skip

    # Telling and acting

    def _tell(self, report):
        _log.info("%s at step %d: %s (%s)", self._name, report.step, report.verdict, report.reason)
        if report.error:
            self._complain(error_message(report))
        if self._log_dir is not None:
            with self._complaining(f"writing to {self._log_dir}"):
                if self._tensorboard is None:
                    self._tensorboard = TensorBoardSink(self._log_dir, self._name)
                self._tensorboard.write(report)
        for sink in self._sinks:
            with self._complaining(f"the sink {getattr(sink, '__name__', sink)!r}"):
                sink(report)
        if self._verbose:
            print(report, flush=True)

    def _act(self, report):
        """Warns when the state turns bad, and stops or raises on request."""
        is_bad = report.verdict is Verdict.FAIL
        turned, self._was_bad = is_bad and not self._was_bad, is_bad or (self._was_bad and bool(report.error))
        self._failures_in_epoch += len(report.failures)
        if not is_bad or self._on_failure == "ignore":
            return
        if self._on_failure == "raise":
            if self._tensorboard is not None:
                self._tensorboard.close()
            raise GradientMismatchError(report)
        if turned:
            warnings.warn(failure_message(report), GradientMismatchWarning, stacklevel=2)
        if self._on_failure == "stop":
            self.model.stop_training = True

    @contextlib.contextmanager
    def _complaining(self, doing):
        """Turns what goes wrong in telling into one warning; a report that cannot be told is still kept."""
        try:
            yield
        except Exception as error:
            self._complain(f"{self._name}: {doing} failed with {type(error).__name__}: {error}. Training goes on.")

    def _complain(self, message):
        """Warns once about each cause."""
        key = message.split(" at step ")[0][:200]
        if key not in self._complaints:
            self._complaints.add(key)
            warnings.warn(message, GradientCheckWarning, stacklevel=2)
