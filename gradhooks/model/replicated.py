"""The gradient that the replicas of a strategy add up to, from the step of one of them.

An optimizer adds up what the replicas hand it. `train_step` therefore divides a
mean by their number, and where it does not, steps are too large by that factor.
Here the step runs as one replica would run it, on the whole batch, and the
gradient that it hands over is multiplied by the number of replicas.
"""

import keras

from gradhooks import backends
from gradhooks.model import distribution
from gradhooks.model.batch import Batch
from gradhooks.model.train_step import TrainStep
from gradhooks.reports.errors import RecordingError

# The largest ratio of two norms of a gradient that counts as the same: that for examples which are
# all there R times, and that for the same examples once. A mean has the ratio 1, or less where
# random layers draw for more examples, and a sum the ratio R, which is 2 at least. A free choice
# between 1 and 2, near to 1 since nothing but rounding makes it larger for a mean.
_LARGEST_RATIO = 1.1


def make_step(model, batch, layout):
    """Returns what records the train step of a model.

    Args:
        model: A compiled `keras.Model`.
        batch: The fixed minibatch, a `batch.Batch`.
        layout: The `Layout` of the trainable variables.

    Returns:
        A `TrainStep`; under a strategy with several replicas a `ReplicatedStep`.
    """
    strategy = distribution.strategy_of(model)
    replicas = backends.current().count_devices(strategy)
    if replicas > 1:
        return ReplicatedStep(model, batch, layout, strategy, replicas)
    return TrainStep(model, batch, layout)


class ReplicatedStep:
    """Records like a `TrainStep`, on behalf of all replicas.

    Args:
        model: A compiled `keras.Model` with a strategy.
        batch: The fixed minibatch, a `batch.Batch`.
        layout: The `Layout` of the trainable variables.
        strategy: The strategy.
        count: How many replicas there are.

    Attributes:
        replicas: How many replicas there are.
        remark: Why it is not known what the replicas add up to; empty if it is.
    """

    def __init__(self, model, batch, layout, strategy, count):
        self._model = model
        self._batch = batch
        self._layout = layout
        self._strategy = strategy
        self.replicas = count
        self.remark = ""
        self._step = None

    @property
    def draws(self):
        """See `TrainStep`; those of the step that was chosen."""
        return self._step.draws

    @property
    def handed(self):
        """See `TrainStep`."""
        return self._step.handed if self._step is not None else frozenset()

    def states(self):
        """See `TrainStep.states`."""
        return self._step.states() if self._step is not None else []

    def record(self, point=None, is_unscaled=False):
        """Runs the step once, see `TrainStep.record`."""
        if self._step is None:
            self._step = self._choose_step()
        return self._step.record(point, is_unscaled)

    def replace_batch(self, batch):
        """Runs on another `batch.Batch` from now on; the step of a replica is chosen anew."""
        self._batch = batch
        self._step = None
        self.remark = ""

    def _choose_step(self):
        """Returns the step of a replica; that of a single device where a replica's says nothing."""
        try:
            once = self._make_replica(self._share(1)).record().norm
            repeated = self._make_replica(self._share(self.replicas)).record().norm
        except RecordingError as error:
            return self._give_up(str(error))
        # Divided by the size of the global batch, it is right for a share of the batch alone. NaN
        # is no ratio at all.
        if not repeated <= _LARGEST_RATIO * once:
            return self._give_up("what a replica hands on grows with the number of its examples")
        return self._make_replica(self._batch)

    def _make_replica(self, batch):
        return TrainStep(self._model, batch, self._layout, self._strategy, self.replicas)

    def _give_up(self, why):
        kind = type(self._strategy).__name__
        self.remark = (
            f"under {kind} what the {self.replicas} replicas add up to was not checked: {why}"
        )
        return TrainStep(self._model, self._batch, self._layout)

    def _share(self, count):
        """Returns one replica's share of the batch, repeated a number of times."""
        repeat_rows = backends.current().repeat_rows
        rows = max(1, self._batch.size // self.replicas)
        parts = (self._batch.x, self._batch.y, self._batch.sample_weight)
        shares = keras.tree.map_structure(
            lambda a: None if a is None else repeat_rows(a, rows, count), parts
        )
        return Batch(*shares)
