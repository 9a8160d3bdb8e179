"""Right gradients that never reach the optimizer.

Defects of `train_step`, and of what it is trained with.

The loss and its backpropagation are right in all of these, so nothing but the
gradient that the optimizer receives can tell. Inside `planted.healthy()` the
same builders return steps that do it right.
"""

import importlib

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, dtype_policy, features, seeded
from tests.corpora.mutants import planted

steps = importlib.import_module(f"tests.corpora.mutants.steps_on_{keras.backend.backend()}")
# What only TensorFlow can get wrong.
recomputed = getattr(steps, "recomputed", None)


class Custom(steps.Step):
    """A hand-written train step, right as it stands; subclasses change one thing."""

    def losses_of(self, y, y_pred):
        """The loss, with the penalties added by hand."""
        return ops.mean(ops.square(y - y_pred)) + sum(self.losses)

    def predictions(self, x):
        return self(x, training=True)

    def changed(self, gradients):
        return gradients


class NoPenalty(Custom):
    def losses_of(self, y, y_pred):
        return ops.mean(ops.square(y - y_pred))


class Halved(Custom):
    def changed(self, gradients):
        return [g / 2 for g in gradients]


class TooLarge(Custom):
    def changed(self, gradients):
        return [1.05 * g for g in gradients]


class OneDropped(Custom):
    hand_on = steps.hand_on_all_but_the_third


class Swapped(Custom):
    """The biases of the two hidden layers change places."""

    def changed(self, gradients):
        return [gradients[0], gradients[3], gradients[2], gradients[1], *gradients[4:]]


class ClippedByValue(Custom):
    def changed(self, gradients):
        return [ops.clip(g, -0.01, 0.01) for g in gradients]


class ClippedByNorm(Custom):
    def changed(self, gradients):
        return steps.clip_by_global_norm(gradients, 0.1)


class ClippedOneByOne(Custom):
    def changed(self, gradients):
        return [steps.clip_by_norm(g, 0.01) for g in gradients]


class StillScaled(Custom):
    """The loss is scaled as for half precision, and the gradient never scaled back."""

    def losses_of(self, y, y_pred):
        return 1024.0 * super().losses_of(y, y_pred)


class Stopped(Custom):
    """Trains the lower layer through a `stop_gradient` that the model itself does not have."""

    def predictions(self, x):
        lower, *upper = self.layers
        x = ops.stop_gradient(lower(x, training=True))
        for layer in upper:
            x = layer(x, training=True)
        return x


class Zeroed(Custom):
    def changed(self, gradients):
        return [gradients[0] * 0, *gradients[1:]]


class Accumulating(Custom):
    """Sums the gradients of two halves of the batch, then applies them once."""

    def gradients_of(self, x, y, *state):
        (x1, x2), (y1, y2) = (ops.split(part, 2) for part in (x, y))
        (loss, first, *_), (_, second, *state) = (
            super(Accumulating, self).gradients_of(*half, *state) for half in ((x1, y1), (x2, y2))
        )
        return loss, [(a + b) / 2 for a, b in zip(first, second, strict=True)], *state


class AccumulatedTwice(Accumulating):
    def hand_on(self, gradients, *state):
        state = super().hand_on(gradients, *state)
        return super().hand_on(gradients, *state)


def regression(kind, seed, **options):
    """A penalized network of two hidden layers with the train step of `kind`, and targets of
    some size.
    """
    rng = seeded(seed)
    model = kind(
        [
            layers.Input((10,)),
            layers.Dense(8, "tanh", kernel_regularizer=keras.regularizers.L2(0.1), name="first"),
            layers.Dense(8, "tanh", name="second"),
            layers.Dense(1, name="head"),
        ],
        name="network",
    )
    return compiled(model, **options), features(rng, 64, 10), 5 * features(rng, 64, 1)


def with_step(wrong, right=Custom):
    """Returns a builder of a network with the wrong train step; in its twin, with the right one."""
    return lambda seed: regression(planted.choose(wrong, right), seed)


def rounded(seed):
    """Layers under batch normalization over few examples, which multiply the rounding a
    thousandfold.
    """
    rng = seeded(seed)
    blocks = [
        (layers.Dense(16, use_bias=False), layers.BatchNormalization(), layers.ReLU())
        for _ in range(25)
    ]
    stack = [
        layers.Input((8,)),
        *(layer for block in blocks for layer in block),
        layers.Dense(1, name="head"),
    ]
    model = planted.choose(TooLarge, Custom)(stack, name="network")
    return compiled(model), features(rng, 6, 8), features(rng, 6, 1)


def small_units(seed, policy, per_layer):
    """A stack of sigmoids in half precision.

    Targets of the size 0.003, as metres are for millimetres.

    Each layer shrinks the gradient some twenty times, so that what should
    reach the lower ones is smaller than the smallest float16.
    """
    rng = seeded(seed)
    with dtype_policy(policy):
        stack = [
            layers.Dense(16, "sigmoid", name=name, dtype=per_layer)
            for name in ("first", "second", "third")
        ]
        head = layers.Dense(
            1, kernel_initializer=keras.initializers.RandomNormal(0.0, 0.003), name="head"
        )
        model = keras.Sequential([layers.Input((10,)), *stack, head], name="network")
    return model, features(rng, 64, 10), 0.003 * features(rng, 64, 1)


def unscaled(seed):
    """Loss scaling is switched off; in the twin it is not."""
    model, x, y = small_units(seed, "mixed_float16", None)
    return compiled(model, auto_scale_loss=planted.choose(False, True)), x, y


def unscaled_layers(seed):
    """Keras adds loss scaling where the model is mixed, not where its layers are.

    In the twin it is passed by hand.
    """
    model, x, y = small_units(seed, "float32", "mixed_float16")
    optimizer = keras.optimizers.SGD(0.01)
    return (
        compiled(
            model,
            optimizer=planted.choose(optimizer, keras.optimizers.LossScaleOptimizer(optimizer)),
        ),
        x,
        y,
    )


UNTRAINED, UNDERFLOW = ("untrained",), ("underflow",)


def step_case(name, build, culprit, note, **options):
    place = ("train_step", "train_step")
    return Case(name, build, culprit, UNTRAINED, place=place, note=note, **options)


CASES = [
    step_case(
        "step_without_penalty", with_step(NoPenalty), "first/kernel", "self.losses is forgotten"
    ),
    step_case("step_halves", with_step(Halved), "head", "a mean over two"),
    step_case(
        "step_drops_a_variable", with_step(OneDropped), "second/kernel", "it is never applied"
    ),
    step_case("step_swaps_two", with_step(Swapped), "first/bias", "with second/bias"),
    step_case("step_clips_by_value", with_step(ClippedByValue), "head", "not declared anywhere"),
    step_case("step_clips_by_norm", with_step(ClippedByNorm), "head", "the global norm"),
    step_case(
        "step_clips_each_norm", with_step(ClippedOneByOne), "head", "the norm of each variable"
    ),
    step_case(
        "step_keeps_the_loss_scale", with_step(StillScaled), "head", "1024 is not divided out"
    ),
    step_case(
        "step_stops_the_gradient", with_step(Stopped), "first/bias", "the loss itself does not"
    ),
    step_case("step_zeroes_a_variable", with_step(Zeroed), "first/kernel", "multiplied by zero"),
    step_case(
        "step_applies_the_accumulated_twice",
        with_step(AccumulatedTwice, Accumulating),
        "head",
        "two halves of the batch are accumulated once and applied twice",
    ),
    step_case(
        "step_too_large_among_rounding",
        rounded,
        "head",
        "by five percent, rounding is a tenth of one",
        chaotic=True,
    ),
    *(
        [step_case("recomputed_dropout", recomputed, "recomputed/kernel", "with another mask")]
        if recomputed
        else []
    ),
    Case(
        "underflow_unscaled",
        unscaled,
        "first",
        UNDERFLOW,
        place=None,  # nothing is wrong but the precision
        note="loss scaling is switched off",
    ),
    Case(
        "underflow_in_layers",
        unscaled_layers,
        "first",
        UNDERFLOW,
        place=None,  # nothing is wrong but the precision
        note="only the layers are float16",
    ),
]
