"""Custom gradients that lack a factor, a sign or a term, or that work along the wrong axis.

In every mutant, here and in the other modules, `culprit` is the layer whose
operation has the wrong gradient if variables of its own come out wrong, and
else the nearest layer below it in forward order. Chains are named `below`,
`planted`, `above`, `head`.
"""

import math

import keras
from keras import layers, ops

from tests.corpora.corpus import (
    Case,
    compiled,
    dtype_policy,
    features,
    integers,
    seeded,
    sequential,
)
from tests.corpora.mutants import planted


def mlp(seed, *middle):
    """A regression network: `below`, whatever is planted, `above` and `head`.

    `middle` holds functions that make layers: layers draw their initial seeds
    when they are made, and that must come after the seeding.
    """
    rng = seeded(seed)
    model = sequential(
        (6,),
        layers.Dense(8, activation="tanh", name="below"),
        *(make() for make in middle),
        layers.Dense(8, activation="tanh", name="above"),
        layers.Dense(3, name="head"),
    )
    return model, features(rng, 16, 6), features(rng, 16, 3)


def dense(seed, units=8, **places):
    """A dense layer in the middle, with something planted on it."""
    return mlp(seed, lambda: planted.Dense(units, activation="tanh", name="planted", **places))


def kernel(seed, factor):
    return dense(seed, on_kernel=planted.scale(factor))


def through(seed, function):
    """The planted function stands alone between two layers: everything below it is wrong."""
    return mlp(seed, lambda: planted.Through(function, name="planted"))


def _one_over_batch(upstream, x, weights):
    count = ops.cast(ops.shape(x)[0], x.dtype)
    for_weights = ops.matmul(ops.transpose(x), upstream) / count
    return ops.matmul(upstream, ops.transpose(weights)), for_weights


def one_over_batch(seed):
    return dense(seed, product=planted.function(ops.matmul, _one_over_batch))


def swish_without_its_second_term(seed):
    return through(
        seed, planted.function(lambda x: x * ops.sigmoid(x), lambda g, x: g * ops.sigmoid(x))
    )


def gelu_of_another_formula(seed):
    def exact(x):
        return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))

    def slope_of_the_tanh_formula(g, x):
        c = math.sqrt(2 / math.pi)
        t = ops.tanh(c * (x + 0.044715 * x**3))
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2))

    return through(seed, planted.function(exact, slope_of_the_tanh_formula))


def log_softmax_over_the_wrong_axis(seed):
    def backward(g, x):
        return g - ops.softmax(x) * ops.sum(g, axis=0, keepdims=True)

    return through(seed, planted.function(ops.log_softmax, backward))


def table_summed_over_the_wrong_axis(seed):
    """A learned table over time and channels, both 6 wide.

    Its gradient comes back with the two swapped.
    """

    class Table(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.on_table = planted.identity(ops.transpose)

        def build(self, shape):
            self.table = self.add_weight(shape=shape[1:], initializer="random_normal", name="table")

        def call(self, x):
            return x * (1 + self.on_table(self.table))

    rng = seeded(seed)
    model = sequential(
        (6, 4),
        layers.Dense(6, activation="tanh", name="below"),
        Table(name="planted"),
        layers.Flatten(),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 12, 6, 4), features(rng, 12, 2)


def clipped_inside(seed):
    def clip(g):
        norms = ops.norm(g, axis=-1, keepdims=True)
        return g * ops.minimum(ops.ones_like(norms), 0.02 / (norms + 1e-12))

    return through(seed, planted.identity(clip))


def only_signs(seed):
    return through(seed, planted.identity(lambda g: ops.sign(g) * ops.mean(ops.abs(g))))


def one_of_two_outputs(seed):
    """Multi-task learning with a gradient weight on one task that was meant to be 1."""
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    weighted = planted.Through(planted.scale(0.3), name="weight")(trunk)
    outputs = {"a": layers.Dense(2, name="a")(trunk), "b": layers.Dense(1, name="b")(weighted)}
    model = compiled(
        keras.Model(x, outputs), {"a": "mse", "b": "mse"}, loss_weights={"a": 1.0, "b": 0.5}
    )
    return model, features(rng, 16, 6), {"a": features(rng, 16, 2), "b": features(rng, 16, 1)}


def reversal_nobody_declared(seed):
    """Domain-adversarial training.

    The trunk gets the domain head's gradient with its sign turned.
    """
    rng = seeded(seed)
    x = keras.Input((6,), name="x")
    trunk = layers.Dense(8, activation="tanh", name="trunk")(x)
    reversed_ = planted.Through(planted.scale(-1.0), name="reversal")(trunk)
    outputs = [layers.Dense(3, name="task")(trunk), layers.Dense(1, name="domain")(reversed_)]
    losses = [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras.losses.BinaryCrossentropy(from_logits=True),
    ]
    return (
        compiled(keras.Model(x, outputs), losses),
        features(rng, 16, 6),
        [integers(rng, 3, 16), integers(rng, 2, 16, 1)],
    )


class _Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.below = layers.Dense(8, activation="tanh", name="below")
        self.planted = planted.Dense(
            8, activation="tanh", on_output=planted.scale(1.25), name="planted"
        )
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        hidden = self.below(x)
        return self.head(hidden + self.planted(hidden))


def subclassed(seed):
    rng = seeded(seed)
    x = features(rng, 16, 5)
    model = compiled(_Subclassed())
    model(x)
    return model, x, features(rng, 16, 2)


def at_precision(seed, policy, factor):
    with dtype_policy(policy):
        return kernel(seed, factor)


def blocked_at_precision(seed, policy):
    with dtype_policy(policy):
        return through(seed, planted.stop())


CASES = [
    Case(
        "kernel_twice_too_large",
        lambda s: kernel(s, 2.0),
        "planted",
        note="the factor of a square, counted twice",
    ),
    Case(
        "kernel_half",
        lambda s: kernel(s, 0.5),
        "planted",
        note="1/2 x^2 differentiated with the half left in",
    ),
    Case(
        "kernel_off_by_a_thousandth",
        lambda s: kernel(s, 1.001),
        "planted",
        note="a constant with too few digits",
    ),
    Case(
        "kernel_off_by_1e_4",
        lambda s: kernel(s, 1.0001),
        "planted",
        note="below any float32 tolerance",
    ),
    Case(
        "kernel_wrong_sign",
        lambda s: kernel(s, -1.0),
        "planted",
        note="descent and ascent confused",
    ),
    Case(
        "kernel_zero",
        lambda s: kernel(s, 0.0),
        "planted",
        ("blocked",),
        note="a gradient nobody returned",
    ),
    Case(
        "kernel_over_batch", one_over_batch, "planted", note="averaged over the batch a second time"
    ),
    Case(
        "bias_only",
        lambda s: dense(s, on_bias=planted.scale(1.1)),
        "planted",
        note="the kernel's gradient is right, the bias's is not",
    ),
    Case(
        "input_gradient_halved",
        lambda s: dense(s, on_input=planted.scale(0.5)),
        "below",
        note="a fused kernel's gradient for its input; its own weights come out right",
    ),
    Case(
        "output_gradient_off",
        lambda s: dense(s, on_output=planted.scale(0.9)),
        "planted",
        note="wrong for the layer's own weights and for everything below",
    ),
    Case(
        "swish_missing_term",
        swish_without_its_second_term,
        "below",
        note="half of the product rule",
    ),
    Case(
        "gelu_of_another_formula",
        gelu_of_another_formula,
        "below",
        note="erf forward, tanh backward: off by 1e-3",
    ),
    Case(
        "log_softmax_wrong_axis",
        log_softmax_over_the_wrong_axis,
        "below",
        note="sum over the batch, not the classes",
    ),
    Case(
        "table_wrong_axis",
        table_summed_over_the_wrong_axis,
        "planted",
        note="time and channels swapped on the way back",
    ),
    Case(
        "clipped_inside",
        clipped_inside,
        "below",
        note="gradient clipping written into the network itself",
    ),
    Case("only_signs", only_signs, "below", note="gradient compression to one bit"),
    Case(
        "one_of_two_outputs",
        one_of_two_outputs,
        "trunk",
        place="weight",
        note="a forgotten gradient weight between two tasks",
    ),
    Case(
        "reversal_nobody_declared",
        reversal_nobody_declared,
        "trunk",
        place="reversal",
        note="right if meant, wrong if not said",
    ),
    Case(
        "subclassed_output",
        subclassed,
        "planted",
        note="inside a subclassed model with a residual connection",
    ),
    Case(
        "mixed_float16_factor",
        lambda s: at_precision(s, "mixed_float16", 1.05),
        "planted",
        note="under a loss scale",
    ),
    Case("mixed_bfloat16_sign", lambda s: at_precision(s, "mixed_bfloat16", -1.0), "planted"),
    Case(
        "mixed_bfloat16_one_percent", lambda s: at_precision(s, "mixed_bfloat16", 1.01), "planted"
    ),
    Case("float64_off_by_1e_4", lambda s: at_precision(s, "float64", 1.0001), "planted"),
    Case(
        "mixed_float16_blocked",
        lambda s: blocked_at_precision(s, "mixed_float16"),
        "below",
        ("blocked",),
        note="a float16 gradient that is zero for another reason than underflow",
    ),
]
