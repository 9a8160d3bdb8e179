"""When to check: steps counted in training batches, and the time that checking may take."""

import dataclasses
import math
import time

# A check is shrunk to a quarter of its samples at most; below that it would say too little.
_LEAST_SHARE = 0.25


class Schedule:
    """Counts training batches and says when a check is due.

    Args:
        freq: `"epoch"`, an int of batches, or a callable `step -> bool`.

    Attributes:
        step: Batches trained before the latest batch began.
    """

    def __init__(self, freq):
        self._freq = freq
        self.begin(0)

    def begin(self, trained, epochs=0):
        """Starts counting where `trained` batches, and `epochs` epochs, have been trained already."""
        self.step = self._epoch_start = self._considered = trained
        self._epochs, self._has_ended = epochs, True

    def begin_epoch(self, epoch):
        """Notes that an epoch begins, and so how many are over."""
        self._epochs = epoch

    def begin_batch(self, batch):
        """Notes that a batch begins, the number `batch` of its epoch; returns whether a check is due."""
        self.step, self._has_ended = self._epoch_start + batch, False
        return self._is_due()

    def end_batch(self):
        """Notes that the batch was trained on; where the end of the data is unknown, the last one begins in vain."""
        self._has_ended = True

    def end_epoch(self, per_execution, batches):
        """Notes that the epoch is over; returns whether a check is due.

        Args:
            per_execution: Batches trained at once.
            batches: Batches of the epoch, None if unknown.
        """
        self._epochs += 1
        # The last execution may have been a short one.
        end = self.step + per_execution * self._has_ended
        self.step = self._epoch_start = (
            end if batches is None else min(end, self._epoch_start + batches)
        )
        return self._is_due() or self._freq == "epoch"

    def _is_due(self):
        """Whether a check lies between the latest step considered and this one."""
        before, self._considered = self._considered, self.step
        if self.step <= before or self._freq == "epoch":
            return False
        if callable(self._freq):
            return bool(self._freq(self.step))
        # One execution may take many batches, so the multiple itself may have been passed.
        return self.step // self._freq > before // self._freq

    @property
    def turn(self):
        """Number of the check, as far as it follows from the step alone, so that a resumed run goes on in turn."""
        if callable(self._freq):
            return self.step
        return self._epochs if self._freq == "epoch" else self.step // self._freq


@dataclasses.dataclass(frozen=True)
class Allowance:
    """What a check may do now.

    Args:
        samples: Number of parameters it may sample.
        postponed: By how many batches it comes late.
        overhead: Time spent checking per time spent training so far; NaN
            before training has begun.
    """

    samples: int
    postponed: int = 0
    overhead: float = math.nan

    def note(self, samples, most):
        """Returns the sentence about what the check had to do without, None if it could do all that was asked.

        Args:
            samples: Number of parameters that a check samples when there is time.
            most: Largest share of the training time.
        """
        done = [f"postponed by {self.postponed} batches"] if self.postponed else []
        if self.samples < samples:
            done.append(f"shrunk from {samples} to {self.samples} samples")
        return (
            f"{' and '.join(done)}, to keep checking below {most:.3g} of the training time"
            if done
            else None
        )


class Budget:
    """Keeps the time that checks take below a share of the time that training takes.

    A check that is due waits until there is time for it. Waiting for a quarter
    of its samples, it is shrunk to what there is time for as soon as the next
    one is due. The first check, which compiles, is not counted.

    Args:
        most: Largest share, for example 0.05; None for no limit.
        samples: Number of parameters that a check samples when there is time.
        clock: Function that returns seconds.
    """

    def __init__(self, most, samples, clock=time.perf_counter):
        self._most, self._samples, self._clock = most, samples, clock
        self.begin()

    def begin(self):
        """Forgets everything."""
        self._checking, self._last = 0.0, None
        self._started = None
        self._due_since, self._times_due = None, 0

    @property
    def overhead(self):
        """Time spent checking per time spent training since the first check; NaN without one."""
        training = self._training()
        return self._checking / training if training > 0 else math.nan

    @property
    def is_waiting(self):
        """Whether a check is due and has not been made."""
        return self._due_since is not None

    def _training(self):
        return 0.0 if self._started is None else self._clock() - self._started - self._checking

    def call(self, step, is_due):
        """Returns the `Allowance` of a check at this step, or None if there is nothing to do or no time.

        Args:
            step: Batches trained.
            is_due: Whether a check has become due at this step.
        """
        if is_due:
            self._times_due += 1
            if self._due_since is None:
                self._due_since = step
        if self._due_since is None:
            return None
        samples = self._affordable()
        if not samples:
            return None
        return Allowance(samples, step - self._due_since, self.overhead)

    def _affordable(self):
        """How many samples there is time for; 0 if a check has to wait."""
        if self._most is None or self._last is None:
            return self._samples
        fixed, each = self._last
        left = self._most * self._training() - self._checking
        if left >= fixed + each * self._samples:
            return self._samples
        possible = int((left - fixed) / each) if left > fixed and each > 0 else 0
        is_late = self._times_due > 1
        return possible if is_late and possible >= max(1, _LEAST_SHARE * self._samples) else 0

    def spent(self, seconds, samples, evaluations):
        """Notes what a check took.

        Args:
            seconds: Wall time.
            samples: Parameters sampled.
            evaluations: Loss evaluations, of which two belong to each sample.
        """
        self._due_since, self._times_due = None, 0
        if self._started is None:
            # Mostly compilation: it says nothing about what the next one will take.
            self._started = self._clock()
            return
        self._checking += seconds
        of_samples = seconds * min(1.0, 2 * samples / evaluations) if evaluations else seconds
        self._last = (seconds - of_samples, of_samples / max(1, samples))
