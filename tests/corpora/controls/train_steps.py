"""Train steps written by hand, and optimizers that keep or scale gradients: all of them right."""

import importlib

import keras
import numpy as np
from keras import layers

from tests.corpora.controls import twins
from tests.corpora.corpus import Case, compiled, dtype_policy, features, seeded, sequential
from tests.corpora.mutants import train_steps
from tests.corpora.mutants.train_steps import Accumulating, Custom, regression

own_steps = importlib.import_module(f"tests.corpora.controls.steps_on_{keras.backend.backend()}")
TwoOptimizers = own_steps.TwoOptimizers


def with_step(kind):
    return lambda seed: regression(kind, seed)


def with_optimizer(make):
    """The same network with Keras' own step and another optimizer."""
    return lambda seed: regression(keras.Sequential, seed, optimizer=make())


def half_precision(policy, kind, **options):
    """A network in half precision with a hand-written step, which scales the loss as the
    optimizer asks.
    """

    def build(seed):
        with dtype_policy(policy):
            return regression(kind, seed, **options)

    return build


def stateful(seed):
    """A recurrent layer that keeps its state from batch to batch, in variables that Keras lists
    nowhere.
    """
    rng = seeded(seed)
    x = keras.Input(batch_shape=(8, 5, 3), name="x")
    h = layers.GRU(6, stateful=True, name="recurrent")(x)
    model = compiled(keras.Model(x, layers.Dense(2, name="head")(h)))
    return model, features(rng, 8, 5, 3), features(rng, 8, 2)


def embedded(seed):
    """The gradient of an embedding comes as rows, which a loss scale divides too."""
    rng = seeded(seed)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=64.0)
    stack = layers.Embedding(12, 4, name="table"), layers.Flatten(), layers.Dense(1, name="head")
    return (
        sequential((5,), *stack, optimizer=optimizer),
        rng.integers(12, size=(8, 5)),
        np.ones((8, 1), "float32"),
    )


STEPS = (
    Custom,
    own_steps.WithApply,
    own_steps.WithComputeLoss,
    own_steps.WithScaledLoss,
    own_steps.WithMetric,
    own_steps.WithState,
    Accumulating,
)
OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.SGD(0.01, gradient_accumulation_steps=3),
    "loss_scale_factor": lambda: keras.optimizers.SGD(0.01, loss_scale_factor=512.0),
    "dynamic_loss_scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=1024.0
    ),
    "moving_average": lambda: keras.optimizers.Adam(use_ema=True),
    "weight_decay": lambda: keras.optimizers.AdamW(weight_decay=0.01),
    "clipping_in_the_optimizer": lambda: keras.optimizers.SGD(0.01, clipnorm=0.01),
}

OWN = [
    *(Case(f"step_{kind.__name__}", with_step(kind), note=kind.__doc__) for kind in STEPS),
    *(Case(f"optimizer_{name}", with_optimizer(make)) for name, make in OPTIMIZERS.items()),
    Case("two_optimizers", with_step(TwoOptimizers), note=TwoOptimizers.__doc__),
    Case("scaled_step_in_float16", half_precision("mixed_float16", own_steps.WithScaledLoss)),
    Case("plain_step_in_bfloat16", half_precision("mixed_bfloat16", own_steps.WithComputeLoss)),
    Case("stateful_gru", stateful, note=stateful.__doc__),
    Case("scaled_embedding", embedded, note=embedded.__doc__),
]
CASES = [*OWN, *map(twins.twin_of, train_steps.CASES)]
