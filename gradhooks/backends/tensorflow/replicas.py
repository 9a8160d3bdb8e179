"""Devices that share the evaluations of one check."""

import contextlib

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.execution import run, specify


def count_devices(strategy):
    """Counts the devices of this process that hold a replica of the model.

    Args:
        strategy: A `tf.distribute.Strategy`, or None.

    Returns:
        1 without a strategy that mirrors the model.
    """
    if isinstance(strategy, tf.distribute.MirroredStrategy):
        return len(strategy.extended.worker_devices)
    return 1


class _Replica(tf.distribute.ReplicaContext):
    """One replica among others that do exactly the same."""

    def all_reduce(self, reduce_op, value, options=None):
        is_sum = getattr(reduce_op, "name", str(reduce_op)).upper() == "SUM"
        return tf.nest.map_structure(self._sum if is_sum else tf.identity, value)

    def _sum(self, value):
        if isinstance(value, tf.IndexedSlices):
            total = value.values * self._count(value)
            return tf.IndexedSlices(total, value.indices, value.dense_shape)
        value = tf.convert_to_tensor(value)
        return value * self._count(value)

    def _count(self, value):
        return tf.cast(self.num_replicas_in_sync, value.dtype)

    def all_gather(self, value, axis, options=None):
        def gather(tensor):
            return tf.concat([tensor] * self.num_replicas_in_sync, axis)

        return tf.nest.map_structure(gather, value)


def is_chief():
    """True: which process writes is what the strategy of a model says."""
    return True


def replica_context(strategy):
    """Returns a context in which code runs as one replica of a strategy, all of which are alike.

    Without a strategy the context changes nothing.
    """
    return contextlib.nullcontext() if strategy is None else _Replica(strategy, 0)


def distribute(function, strategy, common, share):
    """Spreads a function over the replicas of a strategy, each of which takes a share of the work.

    Args:
        function: A concrete function of `(*common, *share)`.
        strategy: A `tf.distribute.Strategy`, or None.
        common: Nested specifications of what all calls have in common.
        share: Specifications of what differs between them.

    Returns:
        A function `(common, shares) -> list of tensors`, one share and one
        tensor for each of the `count_devices(strategy)` devices.
    """
    count = count_devices(strategy)
    if count == 1:
        return lambda common, shares: [run(function, *common, *shares[0])]

    def run_on_replica(common, shares):
        number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        return run(function, *common, *shares[number])

    # Called outside of a graph, a strategy would run one replica after the other.
    @tf.function(autograph=False)
    def run_everywhere(common, shares):
        results = strategy.run(run_on_replica, args=(common, shares))
        return strategy.experimental_local_results(results)

    traced = run_everywhere.get_concrete_function(specify(common), [specify(share)] * count)
    return lambda common, shares: list(run(traced, common, shares))


def evaluate_rows(loop, common, columns, strategy):
    """Evaluates rows of a compiled loop on all devices.

    The devices take rows in turn, since the work of neighbours is alike.

    Args:
        loop: A `LineLoop` or a `ParameterLoop`.
        common: What all rows have in common, nested tensors.
        columns: Arrays whose first axis has length K, an entry for each row.
        strategy: A `tf.distribute.Strategy`, or None.

    Returns:
        float64, shape (K, 3).
    """
    count = len(columns[0])
    devices = count_devices(strategy)
    rows_of_devices, orders, shares = [], [], []
    for device in range(devices):
        rows = np.arange(device, count, devices)
        order, share = loop.order_rows(*(column[rows] for column in columns))
        rows_of_devices.append(rows)
        orders.append(order)
        shares.append(share)

    terms = np.empty((count, 3))
    results = loop.evaluate(common, shares)
    for rows, order, result in zip(
        rows_of_devices,
        orders,
        results,
        strict=True,
    ):
        terms[rows[order]] = result.numpy()
    return terms
