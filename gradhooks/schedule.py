"""When to check: steps counted in training batches, and the time that checking may take."""

import dataclasses
import math
import time
from collections.abc import Callable

from gradhooks._types import Frequency

# A check is shrunk to a quarter of its samples at most. A free choice: it bounds how many more
# checks a run needs to cover the same parameters, and no verdict depends on it.
_LEAST_SHARE = 0.25


class Schedule:
    """Counts training batches and says when a check is due.

    Args:
        freq: `"epoch"`, an int of batches, or a callable `step -> bool`.

    Attributes:
        step: Number of batches trained before the latest batch began.
    """

    def __init__(self, freq: Frequency) -> None:
        self._freq: Frequency = freq
        self.begin(0)

    def begin(self, trained: int, epochs: int = 0) -> None:
        """Starts counting at a number of batches, and of epochs, that have been trained already."""
        self.step = self._epoch_start = self._considered = trained
        self._epochs = epochs
        # Of the epoch: the batch that began last, and the one that ended last.
        self._begun = self._ended = -1

    def begin_epoch(self, epoch: int) -> None:
        """Notes that an epoch begins, counted from 0."""
        self._epochs = epoch
        self._begun = self._ended = -1

    def begin_batch(self, batch: int) -> bool:
        """Notes that a batch of the epoch begins; returns whether a check is due."""
        self.step = self._epoch_start + batch
        self._begun = batch
        return self._is_due()

    def end_batch(self, batch: int) -> None:
        """Notes that a batch was trained on; of an execution of many, it is the last one.

        Where the length of the data is unknown, Keras begins one batch more
        than there are; that batch never ends. Other threads may call this, late and
        in any order, before the epoch ends.
        """
        self._ended = max(self._ended, batch)

    def end_epoch(self, per_execution: int, batches: int | None) -> bool:
        """Notes that the epoch is over; returns whether a check is due.

        Args:
            per_execution: Number of batches trained in one execution.
            batches: Number of batches in the epoch, None if unknown.
        """
        self._epochs += 1
        end = self.step
        if self._ended >= self._begun:
            end += per_execution
        if batches is not None:
            # The last execution may have been a short one.
            end = min(end, self._epoch_start + batches)
        self.step = self._epoch_start = end
        self._begun = self._ended = -1
        return self._is_due() or self._freq == "epoch"

    def _is_due(self) -> bool:
        """Whether a check is due between the step considered last and this one."""
        before, self._considered = self._considered, self.step
        if self.step <= before or self._freq == "epoch":
            return False
        if callable(self._freq):
            return bool(self._freq(self.step))
        # One execution may take many batches, so the multiple itself may have been passed.
        return self.step // self._freq > before // self._freq

    @property
    def check_index(self) -> int:
        """Number of the check in its run, from the step alone, so that a resumed run agrees."""
        if callable(self._freq):
            return self.step
        if self._freq == "epoch":
            return self._epochs
        return self.step // self._freq


@dataclasses.dataclass(frozen=True)
class Allowance:
    """What one check may cost.

    Args:
        samples: Number of parameters it may sample.
        postponed: Number of batches by which it comes late.
        overhead: Time spent checking per time spent training so far; NaN
            before training has begun.
    """

    samples: int
    postponed: int = 0
    overhead: float = math.nan

    def notes(self, samples: int, most: float | None) -> tuple[str, ...]:
        """Returns a sentence about how the check was limited, or nothing.

        Args:
            samples: Number of parameters that a check samples when there is time.
            most: Largest share of the training time; None for no limit.
        """
        limits: list[str] = []
        if self.postponed:
            limits.append(f"postponed by {self.postponed} batches")
        if self.samples < samples:
            limits.append(f"shrunk from {samples} to {self.samples} samples")
        if not limits or most is None:
            return ()
        cause = f"to keep checking below {most:.3g} of the training time"
        return (f"{' and '.join(limits)}, {cause}",)


@dataclasses.dataclass(frozen=True)
class _Cost:
    """What the latest check took, in seconds."""

    fixed: float
    per_sample: float


class Budget:
    """Keeps the time that checks take below a share of the time that training takes.

    A check that is due waits until there is time for it. When the next check
    becomes due before that, the waiting one is shrunk to the samples that
    there is time for, as soon as these are a quarter of its samples. The first
    check, which compiles, is not counted; what it took, apart from tracing the
    model, is what the second one is expected to take at most.

    Args:
        most: Largest share, for example 0.05; None for no limit.
        samples: Number of parameters that a check samples when there is time.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self, most: float | None, samples: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._most, self._samples, self._clock = most, samples, clock
        self.begin()

    def begin(self) -> None:
        """Forgets all checks."""
        self._checking = 0.0
        self._cost: _Cost | None = None
        self._started: float | None = None
        self._due_since: int | None = None
        self._times_due = 0

    @property
    def overhead(self) -> float:
        """Time spent checking per time spent training since the first check; NaN without one."""
        training = self._training_time()
        return self._checking / training if training > 0 else math.nan

    @property
    def is_waiting(self) -> bool:
        """Whether a check is due and has not been made."""
        return self._due_since is not None

    def _training_time(self) -> float:
        """Seconds since the first check, without those of checks."""
        return 0.0 if self._started is None else self._clock() - self._started - self._checking

    def call(self, step: int, is_due: bool) -> Allowance | None:
        """Returns what a check at this step may cost; None if none is due or there is no time.

        Args:
            step: Number of batches trained.
            is_due: Whether a check has become due at this step.
        """
        if is_due:
            self._times_due += 1
            if self._due_since is None:
                self._due_since = step
        if self._due_since is None:
            return None
        samples = self._affordable_samples()
        if not samples:
            return None
        return Allowance(samples, step - self._due_since, self.overhead)

    def _affordable_samples(self) -> int:
        """Number of samples that there is time for; 0 if the check has to wait."""
        if self._most is None or self._cost is None:
            return self._samples
        cost = self._cost
        left = self._most * self._training_time() - self._checking
        if left >= cost.fixed + cost.per_sample * self._samples:
            return self._samples
        possible = 0
        if left > cost.fixed and cost.per_sample > 0:
            possible = int((left - cost.fixed) / cost.per_sample)
        is_late = self._times_due > 1
        least = max(1, _LEAST_SHARE * self._samples)
        return possible if is_late and possible >= least else 0

    def spent(self, seconds: float, samples: int, evaluations: int, measuring: float) -> None:
        """Notes what a check took.

        Args:
            seconds: Wall time.
            samples: Number of parameters sampled.
            evaluations: Number of losses evaluated, of which two belong to each sample.
            measuring: The part of `seconds` behind the tracing of the model; 0 if
                the check ended before.
        """
        self._due_since, self._times_due = None, 0
        if self._started is None:
            # Mostly compilation: later checks do not repeat it, fewer samples do not shorten it.
            self._started = self._clock()
            self._cost = _Cost(measuring or seconds, 0.0)
            return
        self._checking += seconds
        share_of_samples = min(1.0, 2 * samples / evaluations) if evaluations else 1.0
        of_samples = seconds * share_of_samples
        self._cost = _Cost(seconds - of_samples, of_samples / max(1, samples))
