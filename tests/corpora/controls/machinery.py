"""Ways to run a model: eager, compiled, checkpointed.

With loops, strings, counters, a step of its own.
"""

import keras
from keras import layers, ops

from tests.corpora.controls.building import around, between, dense
from tests.corpora.controls.train_steps import own_steps
from tests.corpora.corpus import Case, compiled, features, integers, only_on, seeded, sequential

TENSORFLOW_ONLY = "tests.corpora.controls.tensorflow_only"


def with_options(**options):
    """A small network compiled with other options."""
    return lambda seed: around(
        seed, (6,), dense(), lambda: layers.Dropout(0.2), dense(), batch=16, **options
    )


def with_xla(seed):
    model, x, y = around(seed, (6,), dense(), dense(), batch=16)
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=True)
    return model, x, y


class Checkpointed(layers.Layer):
    """Recomputes its activations on the way back; nothing in it is random."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 8), name="kernel")

    def call(self, x):
        return keras.remat(lambda a, kernel: ops.tanh(ops.matmul(a, kernel)))(
            x, ops.convert_to_tensor(self.kernel)
        )


class Repeated(layers.Layer):
    """Applies one kernel in a loop of the backend."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)
        return ops.fori_loop(0, 4, lambda _, h: ops.tanh(ops.matmul(h, kernel)), x)


class Accumulated(layers.Layer):
    """Mixes time steps with a scan."""

    def build(self, shape):
        self.kernel = self.add_weight(
            shape=(shape[-1], shape[-1]), initializer="orthogonal", name="kernel"
        )

    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)

        def step(carry, row):
            carry = ops.tanh(ops.matmul(carry, kernel) + row)
            return carry, carry

        last, _ = ops.scan(step, ops.zeros_like(x[:, 0]), ops.transpose(x, (1, 0, 2)))
        return last


class Conditional(layers.Layer):
    """Takes one of two branches, depending on the data."""

    def build(self, shape):
        self.one, self.other = (
            self.add_weight(shape=(shape[-1], 5), name=name) for name in ("one", "other")
        )

    def call(self, x):
        one, other = ops.convert_to_tensor(self.one), ops.convert_to_tensor(self.other)
        return ops.cond(
            ops.sum(x) > 0, lambda: ops.tanh(ops.matmul(x, one)), lambda: ops.matmul(x, other)
        )


class Counting(layers.Layer):
    """Counts its calls, keeps a running mean, and centres with the old one."""

    def build(self, shape):
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls"
        )
        self.mean = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, name="mean"
        )

    def call(self, x, training=False):
        centred = x - self.mean
        if training:
            self.calls.assign(self.calls + 1)
            self.mean.assign(0.9 * self.mean + 0.1 * ops.cast(ops.mean(x, axis=0), self.mean.dtype))
        return centred


class _RunningCentre(layers.Layer):
    """Centres with a running mean that it has just updated: the update is part of the loss."""

    def build(self, shape):
        self.mean = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, name="mean"
        )

    def call(self, x):
        mean = 0.5 * self.mean + 0.5 * ops.mean(x, axis=0)
        self.mean.assign(mean)
        return x - mean


def own_step(seed):
    rng = seeded(seed)
    x = features(rng, 16, 6)
    model = compiled(own_steps.OwnStep())
    model(x)
    return model, x, features(rng, 16, 2)


def whole_numbers(seed):
    """Integer pixels, rescaled inside the model, and int64 labels."""
    rng = seeded(seed)
    model = sequential(
        (6, 6, 1),
        layers.Rescaling(1 / 127.5, -1),
        layers.Conv2D(4, 3, activation="relu", name="convolution"),
        layers.Flatten(),
        layers.Dense(3, activation="softmax", name="head"),
        loss="sparse_categorical_crossentropy",
    )
    return (
        model,
        integers(rng, 256, 8, 6, 6, 1).astype("uint8"),
        integers(rng, 3, 8).astype("int64"),
    )


CASES = [
    Case("run_eagerly", with_options(run_eagerly=True)),
    Case("steps_per_execution", with_options(steps_per_execution=4)),
    Case("compiled_with_xla", with_xla, note="the trained gradient comes from another compiler"),
    Case(
        "checkpointed",
        between(lambda: Checkpointed(name="checkpointed")),
        note="recomputed, without dropout",
    ),
    Case("loop_of_the_backend", between(lambda: Repeated(name="repeated"))),
    Case("scan_over_time", between(lambda: Accumulated(name="accumulated"), (5, 6))),
    Case(
        "conditional_branch",
        between(lambda: Conditional(name="conditional")),
        note="one branch gets no gradient",
    ),
    Case(
        "counting_layer",
        between(lambda: Counting(name="counting")),
        note="state that the forward pass changes",
    ),
    Case(
        "running_centre",
        between(lambda: _RunningCentre(name="centre")),
        note="an update inside the loss",
    ),
    *only_on("tensorflow", TENSORFLOW_ONLY, "through_python_with_gradient"),
    *only_on("jax", "tests.corpora.controls.jax_only", "through_python_with_gradient"),
    Case("own_train_step", own_step),
    *only_on("tensorflow", TENSORFLOW_ONLY, "string_inputs"),
    Case("integer_inputs", whole_numbers),
]
