"""What a check does on an accelerator: run `python -m tools.gpu_check`, below five minutes.

Prints the device, the jitter of losses in training and in a check, the verdicts on
small models with right and wrong gradients, whether training with the callback is
bit for bit that without, and what a check costs in training steps for a
convolutional network and a transformer of ten million parameters, with its memory.
"""

import argparse
import time

import keras
import numpy as np

import gradhooks
from gradhooks.model import batch as batches
from gradhooks.model import objective, oracle
from gradhooks.numerics.probe import Probe


def make_classifier(layers, shape, classes=10, count=32, vocabulary=None):
    """Returns a compiled model and a batch for it."""
    rng = np.random.default_rng(0)
    if vocabulary:
        x = rng.integers(0, vocabulary, (count, *shape)).astype("int32")
    else:
        x = rng.normal(size=(count, *shape)).astype("float32")
    y = rng.integers(0, classes, count)
    keras.utils.set_random_seed(0)
    dtype = "int32" if vocabulary else "float32"
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *layers])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, x, y


def convolutional(width=64):
    """A convolutional network; of ten million parameters with a width of 400."""
    layers = keras.layers
    blocks = []
    for k in range(3):
        blocks += [
            layers.Conv2D(width * (k + 1), 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
        ]
    return make_classifier(
        [*blocks, layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(10)],
        (32, 32, 3),
    )


class Block(keras.layers.Layer):
    """A transformer block."""

    def __init__(self, width, heads=8, rate=0.1):
        super().__init__()
        layers = keras.layers
        self.attention = layers.MultiHeadAttention(heads, width // heads, dropout=rate)
        self.first, self.second = layers.LayerNormalization(), layers.LayerNormalization()
        self.inner = layers.Dense(4 * width, activation="gelu")
        self.outer = layers.Dense(width)

    def call(self, x):
        """Returns the sequence after attention and two dense layers."""
        x = self.first(x + self.attention(x, x))
        return self.second(x + self.outer(self.inner(x)))


def transformer(width=64, blocks=2):
    """A transformer; of ten million parameters with a width of 512 and three blocks."""
    layers = keras.layers
    return make_classifier(
        [
            layers.Embedding(1000, width),
            *[Block(width) for _ in range(blocks)],
            layers.GlobalAveragePooling1D(),
            layers.Dense(10),
        ],
        (64,),
        vocabulary=1000,
    )


def with_wrong_layer(function):
    """A small network with a layer that computes a function."""
    layers = keras.layers
    return make_classifier(
        [
            layers.Dense(32, activation="tanh"),
            layers.Lambda(function, name="suspect"),
            layers.Dense(10),
        ],
        (16,),
    )


@keras.ops.custom_gradient
def scaled(x):
    """The identity, whose gradient is 1.001 times too large."""

    def backward(*args, upstream=None):
        (slope,) = args or (upstream,)
        return 1.001 * slope

    return keras.ops.copy(x), backward


def print_jitter():
    """Prints how far the loss differs between equal evaluations."""
    for name, make in {"convolutional": convolutional, "transformer": transformer}.items():
        model, x, y = make()
        own = oracle.ModelOracle(objective.Objective(model), batches.take_batch(x, y))
        point = own.point()
        losses = own.losses(point, [Probe(0, np.ones(1))], [(0, 0.0)] * 16)[:, 0]
        gradients = [own._evaluate_gradients(point).terms["total"] for _ in range(4)]
        spread = max(np.linalg.norm(g - gradients[0]) for g in gradients[1:])
        trained = [float(model.test_on_batch(x, y)) for _ in range(8)]
        print(
            f"jitter, {name}: loss {np.ptp(losses) / abs(losses[0]):.1e}, gradient "
            f"{spread / np.linalg.norm(gradients[0]):.1e} in float64; loss "
            f"{np.ptp(trained) / abs(trained[0]):.1e} in float32"
        )


def print_verdicts():
    """Prints the verdicts on right and wrong models."""
    cases = {
        "tanh": lambda: with_wrong_layer(keras.ops.tanh),
        "convolutional": convolutional,
        "transformer": transformer,
        "1.001 times the gradient": lambda: with_wrong_layer(scaled),
        "a gradient that is stopped": lambda: with_wrong_layer(keras.ops.stop_gradient),
    }
    for name, make in cases.items():
        model, x, y = make()
        started = time.perf_counter()
        report = gradhooks.check_gradients(model, x, y)
        seconds = time.perf_counter() - started
        culprit = report.culprit.path if report.culprit else "-"
        print(
            f"verdict, {name}: {report.verdict.name} ({report.reason}), culprit {culprit}, "
            f"total {report.relative_difference['total']:.1e}, trained "
            f"{report.relative_difference['trained']:.1e}, noise {report.precision.noise:.1e}, "
            f"{report.precision.level}, {seconds:.1f} s"
        )


def print_identity():
    """Prints whether training is the same with the callback, and twice without it."""
    for name, make in {"convolutional": convolutional, "transformer": transformer}.items():
        weights = []
        for with_check in (False, False, True):
            model, x, y = make()
            checks = (
                [gradhooks.GradientCheck(x[:8], y[:8], samples=4, freq=2)] if with_check else []
            )
            model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=checks)
            weights.append(model.get_weights())
        plain, again, checked = weights
        print(
            f"training, {name}: twice without a check {_compare(plain, again)}, with checks "
            f"{_compare(plain, checked)}"
        )


def _compare(one, other):
    pairs = list(zip(one, other, strict=True))
    if all(np.array_equal(a, b) for a, b in pairs):
        return "the same bit for bit"
    largest = max(float(np.max(np.abs(a - b))) for a, b in pairs)
    return f"different by {largest:.1e}"


def print_costs():
    """Prints what a check costs in training steps."""
    cases = {
        "convolutional": lambda: convolutional(400),
        "transformer": lambda: transformer(512, 3),
    }
    for name, make in cases.items():
        model, x, y = make()
        started = time.perf_counter()
        model.train_on_batch(x, y)
        first_step = time.perf_counter() - started
        check = gradhooks.GradientCheck(x, y, freq=20, verbose=0)
        started = time.perf_counter()
        model.fit(x, y, batch_size=32, epochs=40, verbose=0)
        step = (time.perf_counter() - started) / 40
        model.fit(x, y, batch_size=32, epochs=60, verbose=0, callbacks=[check])
        seconds = [report.seconds for report in check.reports]
        print(
            f"cost, {name} of {model.count_params() / 1e6:.1f}M: first step {first_step:.1f} s, "
            f"step {1e3 * step:.1f} ms; later checks {np.median(seconds[1:]) / step:.0f} steps, "
            f"{[r.verdict.name for r in check.reports]}{_memory()}"
        )


def _memory():
    if keras.backend.backend() != "jax":
        return ""
    import jax

    statistics = jax.devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use")
    return f", peak memory {peak / 1e6:.0f} MB" if peak else ""


PARTS = {
    "jitter": print_jitter,
    "verdicts": print_verdicts,
    "identity": print_identity,
    "costs": print_costs,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parts = parser.parse_args().parts or list(PARTS)
    backend = keras.backend.backend()
    print(f"backend {backend}, keras {keras.__version__}, {_device(backend)}", flush=True)
    for name in parts:
        started = time.perf_counter()
        PARTS[name]()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


def _device(backend):
    if backend == "jax":
        import jax

        return f"jax {jax.__version__}, {jax.devices()[0].device_kind}"
    return backend


if __name__ == "__main__":
    main()
