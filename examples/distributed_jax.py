"""Two processes that train one model together on JAX, both with a gradient check.

Run `KERAS_BACKEND=jax python examples/distributed_jax.py`: it starts the second process itself.
Every process checks, on the same batch and with the same random numbers, so all come to
one verdict; the first one writes.
"""

import os
import socket
import subprocess
import sys
import tempfile
import warnings

PROCESSES = 2


def find_free_port():
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_processes():
    """Starts a process for each part of the training, and prints what each says."""
    address, log_dir = f"127.0.0.1:{find_free_port()}", tempfile.mkdtemp()
    running = []
    for number in range(PROCESSES):
        command = [sys.executable, __file__, address, str(number), log_dir]
        environment = {**os.environ, "KERAS_BACKEND": "jax"}
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate()[0] for process in running]
    print("".join(outputs), end="")
    print("written:", sorted(os.listdir(log_dir)))
    return max(process.returncode for process in running)


def train(address, number, log_dir):
    """Trains as one of the processes."""
    import keras
    import numpy as np

    warnings.filterwarnings("ignore", category=UserWarning)
    keras.distribution.initialize(address, PROCESSES, number)
    # Each process feeds all data: it is not divided among them by files.
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))

    import gradhooks

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)).astype("float32"), rng.integers(0, 3, 64)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="tanh", kernel_regularizer="l2"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    check = gradhooks.GradientCheck(x[:16], y[:16], log_dir=log_dir, verbose=0)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[check])
    for report in check.reports:
        difference = report.relative_difference["total"]
        print(f"process {number}, step {report.step}: {report.verdict.name}, {difference:.0e}")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(start_processes())
    train(sys.argv[1], int(sys.argv[2]), sys.argv[3])
