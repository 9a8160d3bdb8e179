"""Devices that share the evaluations of one check."""

import contextlib

import tensorflow as tf

from gradhooks.backends.tensorflow.graphs import run, specs


def count_devices(strategy):
    """Returns how many devices of this process hold a replica of the model; 1 without a strategy that mirrors it."""
    return (
        len(strategy.extended.worker_devices)
        if isinstance(strategy, tf.distribute.MirroredStrategy)
        else 1
    )


class _Replica(tf.distribute.ReplicaContext):
    """One replica, of which the others do exactly the same."""

    def all_reduce(self, reduce_op, value, options=None):
        is_sum = getattr(reduce_op, "name", str(reduce_op)).upper() == "SUM"
        return tf.nest.map_structure(self._added if is_sum else tf.identity, value)

    def _added(self, value):
        if isinstance(value, tf.IndexedSlices):
            return tf.IndexedSlices(
                value.values * self._count(value), value.indices, value.dense_shape
            )
        value = tf.convert_to_tensor(value)
        return value * self._count(value)

    def _count(self, value):
        return tf.cast(self.num_replicas_in_sync, value.dtype)

    def all_gather(self, value, axis, options=None):
        return tf.nest.map_structure(
            lambda v: tf.concat([v] * self.num_replicas_in_sync, axis), value
        )


def replica_context(strategy):
    """Returns a context in which code runs as one replica of a strategy, of which all are alike; as ever if None."""
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
        tensor for each of `local_devices(strategy)`.
    """
    count = count_devices(strategy)
    if count == 1:
        return lambda common, shares: [run(function, *common, *shares[0])]

    def on_replica(common, shares):
        number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        return run(function, *common, *shares[number])

    # Called outside of a graph, a strategy lets one replica wait for the other.
    @tf.function(autograph=False)
    def everywhere(common, shares):
        return strategy.experimental_local_results(strategy.run(on_replica, args=(common, shares)))

    compiled = everywhere.get_concrete_function(specs(common), [specs(share)] * count)
    return lambda common, shares: list(run(compiled, common, shares))
