"""The gradient that the replicas of a strategy add up to, from the step of one of them.

An optimizer adds up what the replicas hand it. `train_step` therefore divides a
mean by their number, and where it does not, steps are too large by it. It runs
here as one replica would run it, on the whole batch, and what it hands on is
taken as often as there are replicas.
"""

from gradhooks import backends
from gradhooks.model import distribution
from gradhooks.model.batch import Batch
from gradhooks.model.train_step import TrainStep
from gradhooks.reports.errors import RecordingError

# A mean over examples that are all there twice is the same mean; a sum is twice as large. Random
# layers drawn for more examples make a mean smaller.
_SAME = 1.1


def step_of(model, batch, layout):
    """Returns what records the train step of a model: a `TrainStep`, or a `ReplicatedStep` under a strategy."""
    strategy = distribution.strategy_of(model)
    replicas = backends.current().count_devices(strategy)
    return (
        ReplicatedStep(model, batch, layout, strategy, replicas)
        if replicas > 1
        else TrainStep(model, batch, layout)
    )


class ReplicatedStep:
    """Records like a `TrainStep`, in the place of all replicas.

    Args:
        model: A compiled `keras.Model` with a strategy.
        batch: The fixed minibatch, a `batch.Batch`.
        layout: The `Layout` of the trainable variables.
        strategy: The strategy.
        count: How many replicas there are.
    """

    def __init__(self, model, batch, layout, strategy, count):
        self._made = lambda b, *replicas: TrainStep(model, b, layout, *replicas)
        self._batch, self._strategy = batch, strategy
        #: How many replicas there are.
        self.replicas = count
        self._chosen = None
        #: Why what the replicas add up to is not known; empty if it is.
        self.remark = ""

    @property
    def draws(self):
        """See `TrainStep`; what has been chosen last has drawn."""
        return self._chosen.draws

    @property
    def handed(self):
        """See `TrainStep`."""
        return self._chosen.handed if self._chosen is not None else frozenset()

    def record(self, point=None, is_unscaled=False):
        """Runs the step once, see `TrainStep.record`."""
        if self._chosen is None:
            self._chosen = self._choose()
        return self._chosen.record(point, is_unscaled)

    def replace_batch(self, batch):
        """Runs on another `batch.Batch` from now on; what a replica's step is, is found anew."""
        self._batch, self._chosen, self.remark = batch, None, ""

    def _choose(self):
        """The step of a replica, times their number; where that means nothing, the step of a single device."""
        as_replica = self._strategy, self.replicas
        try:
            once, repeated = (self._made(b, *as_replica).record().norm for b in self._shares())
        except RecordingError as error:
            return self._unknown(str(error))
        # Divided by the size of the global batch, it is right for a share of the batch alone.
        if not repeated <= _SAME * once:
            return self._unknown("what a replica hands on grows with the number of its examples")
        return self._made(self._batch, *as_replica)

    def _unknown(self, why):
        kind = type(self._strategy).__name__
        self.remark = (
            f"under {kind} what the {self.replicas} replicas add up to was not checked: {why}"
        )
        return self._made(self._batch)

    def _shares(self):
        """One replica's share of the batch, and the same examples as many times as there are replicas."""
        import keras

        backend, rows = backends.current(), max(1, self._batch.size // self.replicas)
        for count in (1, self.replicas):
            parts = (self._batch.x, self._batch.y, self._batch.sample_weight)
            yield Batch(
                *keras.tree.map_structure(
                    lambda a, n=count: None if a is None else backend.repeat_rows(a, rows, n), parts
                )
            )
