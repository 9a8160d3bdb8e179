"""What a check in the background would gain and risk: run `python -m tools.background`.

The most favourable form of it: the check asks a second model of the same weights, in a thread
of its own, and only compiled functions run there. For each network the table has how long
training and checks take one after the other and beside each other, and whether the trained
weights and the numbers of the check are the same to the last bit. The last lines train a
layer that draws from NumPy's generator: a check restores what it has drawn, and with it
what training has drawn meanwhile.
"""

import argparse
import statistics
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from gradhooks import validation
from gradhooks.checker import Checker
from tools.peers import networks

# How many checks run beside training, and how often all is repeated.
CHECKS = 5
REPEATS = 5


def make_checker(model, x, y):
    """Returns a `Checker` whose functions have been compiled."""
    options = validation.Options(batch_size=len(x), train_step=False)
    checker = Checker(options, (x, y, None, None), "background")
    checker.take_batch()
    for step in range(3):
        checker.check(model, step)
    return checker


def describe_numbers(report):
    """Returns what a check has measured, comparable bit for bit."""
    return [(c.label, c.term, c.analytic, c.numeric, c.error) for c in report.comparisons]


def run_checks(checker, model):
    """Returns the numbers of some checks, which know nothing of earlier ones."""
    checker.oracle.known_noise = None
    return [describe_numbers(checker.check(model, step)) for step in range(3, 3 + CHECKS)]


def train(model, x, y, steps):
    """Trains by single batches; returns the weights."""
    for _ in range(steps):
        model.train_on_batch(x, y)
    return model.get_weights()


def are_same(one, other):
    """Whether all arrays are the same, bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def measure(build):
    """Returns (seconds one after the other, beside each other, same weights, same numbers)."""
    keras.utils.set_random_seed(0)
    model, x, y = build()
    other, _, _ = build()
    model.train_on_batch(x, y)
    other.set_weights(model.get_weights())
    start = model.get_weights()
    checker = make_checker(other, x, y)

    started = time.perf_counter()
    train(model, x, y, 10)
    step = (time.perf_counter() - started) / 10
    started = time.perf_counter()
    run_checks(checker, other)
    # As many training steps as take about the time of the checks.
    steps = max(10, int((time.perf_counter() - started) / step))

    apart, beside, same_weights, same_numbers = [], [], True, True
    for _ in range(REPEATS):
        model.set_weights(start)
        started = time.perf_counter()
        weights = train(model, x, y, steps)
        numbers = run_checks(checker, other)
        apart.append(time.perf_counter() - started)

        model.set_weights(start)
        found = []
        thread = threading.Thread(target=lambda f=found: f.append(run_checks(checker, other)))
        started = time.perf_counter()
        thread.start()
        weights_beside = train(model, x, y, steps)
        thread.join()
        beside.append(time.perf_counter() - started)
        same_weights = same_weights and are_same(weights, weights_beside)
        same_numbers = same_numbers and found == [numbers]
    return statistics.median(apart), statistics.median(beside), same_weights, same_numbers


@keras.saving.register_keras_serializable("gradhooks_tools")
class DrawsFromNumPy(keras.layers.Layer):
    """Adds noise that NumPy's global generator draws in every call."""

    def call(self, x):
        def draw(like):
            return np.random.normal(0.0, 0.1, like.shape).astype("float32")

        noise = tf.numpy_function(draw, [x], tf.float32)
        noise.set_shape(x.shape)
        return x + noise


def drawing():
    """A network with a layer that draws by Python code, and a batch."""
    stack = [keras.Input((64,)), keras.layers.Dense(64, "tanh"), DrawsFromNumPy()]
    model = keras.Sequential([*stack, keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(32, 64)).astype("float32"), rng.integers(10, size=32)


def main():
    """Prints the table."""
    argparse.ArgumentParser(prog="python -m tools.background", description=__doc__).parse_args()
    print("| network | one after the other, s | beside, s | ratio | same weights | same numbers |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("digits", "cnn", "lstm", "transformer"):
        apart, beside, weights, numbers = measure(networks.EVERY[name])
        cells = (f"{apart:.2f}", f"{beside:.2f}", f"{beside / apart:.2f}", weights, numbers)
        print(f"| {name} | " + " | ".join(map(str, cells)) + " |", flush=True)

    trained = []
    for is_checked in (False, True):
        keras.utils.set_random_seed(0)
        model, x, y = drawing()
        checked, _, _ = drawing()
        checker = make_checker(checked, x, y)
        keras.utils.set_random_seed(1)
        thread = threading.Thread(target=lambda c=checker, m=checked: run_checks(c, m))
        if is_checked:
            thread.start()
        trained.append(train(model, x, y, 200))
        if is_checked:
            thread.join()
    outcome = "the same" if are_same(*trained) else "others"
    print(f"\nWith a layer that draws by Python code, the weights trained beside checks: {outcome}")


if __name__ == "__main__":
    main()
