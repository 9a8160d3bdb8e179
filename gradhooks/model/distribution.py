"""Which of several training processes writes: every one checks, one writes.

Keras 3 runs the callbacks in every process. The random numbers of a check follow
from seed and step alone, and its batch is the same everywhere, so all processes
come to the same verdict, and all warn, stop or raise together.
"""

from gradhooks import backends


def strategy_of(model):
    """Returns the `tf.distribute` strategy that a model trains under; None without one."""
    return getattr(model, "distribute_strategy", None)


def replicas_of(model):
    """Returns among how many replicas a model's batches are divided."""
    return getattr(strategy_of(model), "num_replicas_in_sync", 1)


def is_chief(model):
    """Returns whether this process writes files; True where there is only one.

    Args:
        model: The model in training; its `tf.distribute` strategy knows the
            other processes, if there are any.
    """
    strategy = strategy_of(model)
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None:
        return backends.current().is_chief()
    cluster = resolver.cluster_spec()
    return is_primary(resolver.task_type, resolver.task_id, cluster.as_dict() if cluster else {})


def is_primary(task_type, task_id, cluster):
    """Returns whether a task is the one that writes.

    Args:
        task_type: `"chief"`, `"worker"` ...; None or empty outside a cluster.
        task_id: Number of the task among those of its type.
        cluster: dict of types to addresses.

    Example:

    >>> is_primary("worker", 0, {"worker": ["a:1", "b:1"]})
    True
    >>> is_primary("worker", 0, {"chief": ["c:1"], "worker": ["a:1"]})
    False
    """
    if not task_type or not cluster:
        return True
    # Without a chief of its own, a cluster is led by its first worker.
    primary_type = "chief" if "chief" in cluster else "worker"
    return (task_type, task_id or 0) == (primary_type, 0)
