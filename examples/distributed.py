"""Train on two worker processes, with the gradients checked in both and written down by one.

python examples/distributed.py

Keras 3 on TensorFlow cannot `fit()` across processes, so the loop is written by
hand and drives the callback through `keras.callbacks.CallbackList`.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

STEPS, BATCH = 20, 32


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(log_dir):
    """Starts two workers that know each other, and returns their exit codes."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    workers = []
    for index in range(2):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        command = [sys.executable, __file__, "--log-dir", str(log_dir)]
        workers.append(
            subprocess.Popen(command, env={**os.environ, "TF_CONFIG": json.dumps(config)})
        )
    # One that has failed would keep the other waiting for ever.
    while all(worker.poll() in (None, 0) for worker in workers) and any(
        worker.poll() is None for worker in workers
    ):
        time.sleep(0.1)
    for worker in workers:
        if any(other.poll() not in (None, 0) for other in workers):
            worker.terminate()
    return [worker.wait() for worker in workers]


def work(log_dir):
    """What every worker does."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    import keras
    import numpy as np

    import gradhooks

    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [keras.layers.Input((10,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.05), "mse")
        model.optimizer.build(model.trainable_variables)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * BATCH, 10)).astype("float32")
    y = np.sin(x.sum(axis=1, keepdims=True))
    # The batch that is checked is the same everywhere; the batches that are trained on are not.
    check = gradhooks.GradientCheck(x, y, freq=10, samples=8, log_dir=log_dir)
    me = strategy.cluster_resolver.task_id

    @tf.function
    def train(x, y):
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = (
                    tf.reduce_mean(tf.square(y - model(x, training=True)))
                    / strategy.num_replicas_in_sync
                )
            gradients = tape.gradient(loss, model.trainable_variables)
            gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                variable.value.assign_sub(0.05 * gradient)

        strategy.run(step, (x, y))

    hooks = keras.callbacks.CallbackList([check], model=model, epochs=1, steps=STEPS)
    hooks.on_train_begin()
    hooks.on_epoch_begin(0)
    for number in range(STEPS):
        hooks.on_train_batch_begin(number)
        rows = slice(number * BATCH + me * BATCH // 2, number * BATCH + (me + 1) * BATCH // 2)
        train(x[rows], y[rows])
        hooks.on_train_batch_end(number)
        if model.stop_training:
            break
    hooks.on_epoch_end(0, {})
    hooks.on_train_end()
    for report in check.reports:
        drawn = [c.label for c in report.comparisons if c.index is not None][:2]
        difference = report.relative_difference["total"]
        text = f"worker {me}, step {report.step}: {report.verdict}, {difference:.1e}, "
        text += f"loss {report.loss['total']:.6f}, "
        print(text + f"drew {' '.join(drawn)} ...", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log-dir", help="where to write; a new directory by default")
    log_dir = parser.parse_args().log_dir or tempfile.mkdtemp(prefix="gradhooks-distributed-")
    if "TF_CONFIG" in os.environ:
        work(log_dir)
        return
    codes = start(log_dir)
    written = sorted(path.name for path in pathlib.Path(log_dir, "gradcheck").iterdir())
    print(f"\nWritten, by the first worker alone: {len(written)} files in {log_dir}/gradcheck")
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
