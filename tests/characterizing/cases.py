"""Layers that are wrong in one way each, and what must be said of them.

Beside each kind stand some that are wrong in a similar way, of which it must not be said.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
from keras import layers

from tests.corpora.mutants import planted
from tests.localization import activations, pooling
from tests.localization.building import HOSTS, chain


@dataclasses.dataclass(frozen=True)
class Case:
    """One model with a fault, and the words that say what is wrong.

    Args:
        name: Unique name; it is also the test's id.
        kind: What sort of fault it is.
        host: Name of the network that the fault is put into.
        make: `make()` returns what stands in its middle.
        words: Each must be in what is said; without any, nothing may be said.
        others: None of these may be in it.
    """

    name: str
    kind: str
    host: str
    make: Callable
    words: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def build(self, seed):
        """Returns `(model, x, y)`."""
        return HOSTS[self.host](seed, self.make())

    def __str__(self):
        return self.name


USUAL = ("mlp", "conv", "recurrent")
EVERY = (*USUAL, "attention")


def spread(kind, make, *words, hosts=USUAL, name="", others=()):
    """Returns a case for each network; `make(rank)` if it takes the rank of the tensor."""
    cases = []
    for host in hosts:
        cases.append(Case(f"{name or kind}_{host}", kind, host, make, words, others))
    return cases


def through(function):
    """Returns a function that makes a layer of what `function()` returns."""
    return lambda: planted.Through(function(), name="planted")


def weighted(make_factors):
    """The identity, whose gradient is multiplied by factors that depend on its value."""

    def rule(g, x):
        return g * tf.cast(make_factors(x), g.dtype)

    return planted.function(tf.identity, rule)


def at_index(axis, index, factor):
    """Factors that are wrong at one index of an axis."""

    def make(x):
        size = x.shape[axis]
        shape = [1] * len(x.shape)
        shape[axis] = size
        one = tf.one_hot(index, size, dtype=x.dtype)
        return tf.reshape(1 + (factor - 1) * one, shape)

    return lambda: weighted(make)


def at_indices(axis, indices, factor):
    def make(x):
        shape = [1] * len(x.shape)
        shape[axis] = x.shape[axis]
        factors = [factor if k in indices else 1.0 for k in range(x.shape[axis])]
        return tf.reshape(tf.constant(factors, x.dtype), shape)

    return lambda: weighted(make)


def below(limit, factor):
    return lambda: weighted(lambda x: tf.where(x < limit, factor, 1.0))


def above(limit, factor):
    return lambda: weighted(lambda x: tf.where(x > limit, factor, 1.0))


def half_of_relu():
    return planted.function(tf.nn.relu, lambda g, x: 0.5 * g * tf.cast(x > 0, g.dtype))


def smoothly(x):
    """Factors that are another one everywhere."""
    return 1 + 0.5 * tf.sin(3 * x)


def center(x):
    return x - tf.reduce_mean(x, axis=-1, keepdims=True)


def centered(share):
    """Subtracts the mean over the last axis; a share of its term is in the gradient."""

    def rule(g, x):
        return g - share * tf.reduce_mean(g, axis=-1, keepdims=True)

    return lambda: planted.function(center, rule)


def variance_held_fixed():
    def rule(g, x):
        _, variance = tf.nn.moments(x, [-1], keepdims=True)
        g = g * tf.math.rsqrt(variance + 1e-3)
        return g - tf.reduce_mean(g, axis=-1, keepdims=True)

    return planted.function(pooling.standardize, rule)


def over_examples(x):
    mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)), keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def batch_held_fixed():
    def rule(g, x):
        _, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)), keepdims=True)
        return g * tf.math.rsqrt(variance + 1e-3)

    return planted.function(over_examples, rule)


def unit_length(x):
    return x * tf.math.rsqrt(tf.reduce_sum(x**2, axis=-1, keepdims=True) + 1e-6)


def norm_held_fixed():
    def rule(g, x):
        return g * tf.math.rsqrt(tf.reduce_sum(x**2, axis=-1, keepdims=True) + 1e-6)

    return planted.function(unit_length, rule)


def softmax_without_sum():
    return planted.function(tf.nn.softmax, lambda g, x: g * tf.nn.softmax(x))


def shortcut_lost():
    return planted.function(lambda x: x + tf.sin(2 * x), lambda g, x: 2 * g * tf.cos(2 * x))


def straight_through():
    return planted.function(tf.tanh, lambda g, x: g)


def reversed_units():
    return planted.identity(lambda g: tf.reverse(g, [-1]))


def shifted_units():
    return planted.identity(lambda g: tf.roll(g, 1, -1))


def shifted_and_scaled():
    return planted.identity(lambda g: 1.25 * tf.roll(g, 1, -1))


class Square(layers.Layer):
    """Multiplies by a square kernel.

    Args:
        rule: `rule(upstream, x, kernel)` returns the gradients of both; None for the right ones.
    """

    def __init__(self, rule, **options):
        super().__init__(**options)
        self.product = planted.function(tf.linalg.matmul, rule)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        shape = tf.shape(x)
        rows = tf.reshape(x, (-1, x.shape[-1]))
        return tf.reshape(self.product(rows, tf.convert_to_tensor(self.kernel)), shape)


def square(to_input, to_kernel):
    def rule(g, x, kernel):
        return to_input(g, x, kernel), to_kernel(g, x, kernel)

    return lambda: Square(rule, name="planted")


def right_input(g, _, kernel):
    return tf.matmul(g, kernel, transpose_b=True)


def right_kernel(g, x, _):
    return tf.matmul(x, g, transpose_a=True)


def kernel_of(factor):
    return lambda g, x, kernel: factor * right_kernel(g, x, kernel)


def kernel_at(unit):
    def rule(g, x, kernel):
        one = tf.one_hot(unit, kernel.shape[-1], dtype=g.dtype)
        return right_kernel(g, x, kernel) * (1 + one)

    return rule


class OnlyInTraining(layers.Layer):
    """Applies one of two functions with the same values.

    Args:
        training: The function in training.
        otherwise: The one outside of it.
    """

    def __init__(self, training, otherwise, **options):
        super().__init__(**options)
        self.functions = otherwise, training

    def call(self, x, training=None):
        return self.functions[bool(training)](x)


def by_mode(training, otherwise):
    return lambda: OnlyInTraining(training(), otherwise(), name="planted")


class ByCall(layers.Layer):
    """Applies the function of a number."""

    def __init__(self, functions, **options):
        super().__init__(**options)
        self.functions = functions

    def call(self, x, number=0):
        return self.functions[number](x)


def by_call(*makers):
    """A layer that is called once after the other, with a function for each call."""

    def make():
        layer = ByCall([maker() for maker in makers], name="planted")
        calls = [lambda x, k=k: layer(x, number=k) for k in range(len(makers))]
        return chain(*calls)

    return make


class Two(layers.Layer):
    """Applies a function to two inputs."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, one, other):
        return self.function(one, other)


def of_two(rule):
    """The product of a tensor and of what a layer makes of it, with the gradients of a rule."""

    def make():
        inner, layer = layers.Activation("tanh", name="inner"), None
        layer = Two(planted.function(lambda x, y: x * (1 + y), rule), name="planted")
        return lambda x: layer(x, inner(x))

    return make


def honest():
    return planted.honest


half = lambda: planted.scale(0.5)  # noqa: E731

CASES = [
    *spread("factor", through(half), "0.5 times the right one, along every", hosts=EVERY),
    *spread("factor", through(activations.factor), "1.5 times", name="factor_tanh"),
    *spread("factor", through(half_of_relu), "0.5 times the right", name="factor_relu"),
    *spread("factor", through(lambda: weighted(smoothly)), name="no_factor"),
    *spread("sign", through(activations.sign), "opposite sign, along every"),
    *spread("sign", through(below(0.2, -1.0)), name="some_signs", others=("opposite", "negative")),
    *spread("unit", through(at_index(-1, 2, 3.0)), "unit 2", "3 times", "right elsewhere"),
    *spread("unit", through(at_index(-1, 0, 0.0)), "unit 0", "nothing", name="unit_blocked"),
    *spread("unit", through(at_indices(-1, (1, 3), 2.0)), name="two_units"),
    *spread("axis", through(at_index(1, 1, -1.0)), "index 1 of axis 1", "opposite", hosts=EVERY),
    *spread("axis", through(at_index(0, 4, 2.0)), "example 4", "2 times", name="example"),
    *spread("axis", through(at_indices(1, (0, 1), 2.0)), name="two_positions"),
    *spread("negative", through(activations.negative_only), "only where the input is negative"),
    *spread("negative", through(below(0.0, 2.0)), "is negative", "2 times", name="below_zero"),
    *spread("negative", through(above(0.0, 2.0)), "is positive, and right", name="positive"),
    *spread("negative", through(below(-0.5, 2.0)), name="far_below", others=("only where",)),
    *spread("negative", through(below(0.3, 2.0)), name="below_some", others=("only where",)),
    *spread("training", by_mode(half, honest), "only in training", "0.5 times"),
    *spread("training", by_mode(half, half), "0.5 times", name="both_modes", others=("training",)),
    *spread(
        "training", by_mode(half, activations.swish_off), name="other_mode", others=("training",)
    ),
    *spread("call", by_call(honest, half), "first call is right", "second call on"),
    *spread("call", by_call(honest, half, half), "second call on", name="later_calls"),
    *spread("call", by_call(half, half), "at each of its 2 calls", name="each_call"),
    *spread("call", by_call(half, honest), "only at call 1 of 2", name="first_call"),
    *spread(
        "transposed",
        square(lambda g, _, kernel: tf.matmul(g, kernel), right_kernel),
        "`kernel` and its transpose are confused",
    ),
    *spread(
        "transposed",
        square(right_input, lambda *a: tf.transpose(right_kernel(*a))),
        "axes 0 and 1 exchanged (transposed)",
        name="transposed_kernel",
    ),
    *spread(
        "transposed",
        square(lambda g, _, kernel: 1.1 * tf.matmul(g, kernel), right_kernel),
        name="scaled_transposed",
    ),
    *spread("weight", square(right_input, kernel_of(0.25)), "0.25 times", name="weight_factor"),
    *spread("weight", square(right_input, kernel_at(3)), "index 3 of axis 1", name="weight_unit"),
    *spread("missing", through(pooling.mean_held_fixed), "mean and variance over the last axis"),
    *spread("missing", through(centered(0.0)), "mean over the last axis", name="no_mean"),
    *spread("missing", through(centered(0.5)), "mean over the last axis", name="half_the_mean"),
    *spread(
        "missing", through(variance_held_fixed), "the variance over the last", name="no_variance"
    ),
    *spread("missing", through(batch_held_fixed), "mean and variance over a", name="batch"),
    *spread("missing", through(norm_held_fixed), "norm over the last axis", name="no_norm"),
    *spread("missing", through(softmax_without_sum), "as a softmax has", name="no_sum"),
    *spread("missing", through(shortcut_lost), "as a shortcut hands it on", name="shortcut"),
    *spread("input", of_two(lambda g, x, y: g * (1 + y)), "let through to float input 2 of 2"),
    *spread(
        "input",
        of_two(lambda g, x, y: (0.5 * g * (1 + y), g * x)),
        "only towards float input 1 of 2",
        "0.5 times",
        name="input_factor",
    ),
    *spread(
        "input",
        of_two(lambda g, x, y: (0.5 * g * (1 + y), 0.5 * g * x)),
        "0.5 times the right one, along every",
        name="both_inputs",
        others=("input 1", "input 2"),
    ),
    *spread(
        "input",
        of_two(lambda g, x, y: (0.5 * g * (1 + y), 0.7 * g * x)),
        name="unlike_inputs",
    ),
    *spread("other", through(straight_through), "unchanged (straight through)", name="straight"),
    *spread("other", through(reversed_units), "in reverse order along", name="reversed"),
    *spread("other", through(shifted_units), "shifted by 1 along", name="shifted"),
    *spread("other", through(shifted_and_scaled), name="shifted_and_scaled"),
    *spread("nothing", through(activations.swish_off), name="one_term"),
    *spread("nothing", through(pooling.shared_maximum), name="maximum", hosts=("mlp", "attention")),
]
