"""Gradients that are wrong only somewhere.

In one unit, class, row, example, position, or for one sign.
"""

from keras import layers, ops

from tests.corpora.corpus import Case, features, integers, seeded, sequential
from tests.corpora.mutants import planted
from tests.corpora.mutants.factors import dense, through

LOGITS = "sparse_categorical_crossentropy"


def _at(index, count, factor, dtype):
    """A vector of ones with `factor` at `index`."""
    return 1 + (factor - 1) * ops.one_hot(index, count, dtype=dtype)


def along_last(index, factor):
    """The identity whose gradient is off at one index of the last axis."""
    return planted.identity(lambda g: g * _at(index, g.shape[-1], factor, g.dtype))


def along_first(index, factor):
    """The identity whose gradient is off at one index of the first axis: a row, or an example."""

    def rule(g):
        ones = [1] * (len(g.shape) - 1)
        return g * ops.reshape(_at(index, ops.shape(g)[0], factor, g.dtype), [-1, *ones])

    return planted.identity(rule)


def one_weight(index, factor):
    """The identity whose gradient is off in a single entry."""

    def rule(g):
        row, column = (
            _at(index[0], g.shape[0], 0.0, g.dtype),
            _at(index[1], g.shape[1], 0.0, g.dtype),
        )
        return g * (1 + (factor - 1) * (1 - row)[:, None] * (1 - column)[None, :])

    return planted.identity(rule)


def wide(seed, **places):
    """A layer of 64 units between two small ones."""
    return dense(seed, 64, **places)


def classifier(seed, function):
    """A classifier of 6 classes with the planted function on its logits."""
    rng = seeded(seed)
    model = sequential(
        (8,),
        layers.Dense(12, activation="tanh", name="below"),
        planted.Dense(6, on_output=function, name="head"),
        layers.Softmax(),
        loss=LOGITS,
    )
    return model, features(rng, 16, 8), integers(rng, 6, 16)


def leaky_relu(seed):
    return through(
        seed,
        planted.function(
            lambda x: ops.where(x > 0, x, 0.3 * x),
            lambda g, x: ops.where(x > 0, g, ops.zeros_like(g)),
        ),
    )


def elu(seed):
    def forward(x):
        return ops.where(x > 0, x, 0.7 * (ops.exp(ops.minimum(x, 0.0)) - 1))

    return through(
        seed,
        planted.function(
            forward, lambda g, x: ops.where(x > 0, g, g * ops.exp(ops.minimum(x, 0.0)))
        ),
    )


def last_position(seed):
    """A sequence model whose last position sends no gradient back: an off-by-one in a mask."""

    def forget_last(g):
        length = ops.shape(g)[1]
        return g * (1 - ops.one_hot(length - 1, length, dtype=g.dtype))[None, :, None]

    rng = seeded(seed)
    model = sequential(
        (5, 4),
        layers.LSTM(6, return_sequences=True, name="below"),
        planted.Through(planted.identity(forget_last), name="planted"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 8, 5, 4), features(rng, 8, 2)


def image_border(seed):
    """A convolution whose padding eats the gradient of the border pixels."""

    def inside(g):
        return g * ops.pad(ops.ones_like(g[:, 1:-1, 1:-1]), [[0, 0], [1, 1], [1, 1], [0, 0]])

    rng = seeded(seed)
    model = sequential(
        (7, 7, 2),
        layers.Conv2D(4, 3, padding="same", activation="tanh", name="below"),
        planted.Through(planted.identity(inside), name="planted"),
        layers.Conv2D(4, 3, padding="same", activation="tanh", name="above"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 8, 7, 7, 2), features(rng, 8, 2)


CASES = [
    Case(
        "one_unit_of_64",
        lambda s: wide(s, on_kernel=along_last(17, 1.5)),
        "planted",
        note="one column of a kernel's gradient: a race or a wrong index in a parallel reduction",
    ),
    Case(
        "one_unit_of_64_silent",
        lambda s: wide(s, on_output=along_last(63, 0.0)),
        "planted",
        note="the last unit gets no gradient: a loop that ends one too early",
    ),
    Case(
        "one_row_of_the_kernel",
        lambda s: wide(s, on_kernel=along_first(2, 0.5)),
        "planted",
        note="one input's weights",
    ),
    Case(
        "one_weight_of_512",
        lambda s: wide(s, on_kernel=one_weight((3, 40), 2.0)),
        "planted",
        note="a single entry",
    ),
    Case(
        "one_unit_of_the_bias",
        lambda s: wide(s, on_bias=along_last(5, -1.0)),
        "planted",
        note="a sign, in one bias",
    ),
    Case(
        "one_class",
        lambda s: classifier(s, along_last(3, 2.0)),
        "head",
        place="head",
        note="a class weight applied backward only",
    ),
    Case(
        "one_class_silent",
        lambda s: classifier(s, along_last(0, 0.0)),
        "head",
        place="head",
        note="class 0 taken for padding",
    ),
    Case(
        "one_example",
        lambda s: through(s, along_first(0, 0.0)),
        "below",
        note="the batch's first example is lost on the way back",
    ),
    Case(
        "negative_slope_forgotten", leaky_relu, "below", note="leaky forward, plain ReLU backward"
    ),
    Case("elu_without_alpha", elu, "below", note="alpha is missing for negative inputs"),
    Case("last_position", last_position, "below", note="an off-by-one in a sequence mask"),
    Case(
        "image_border",
        image_border,
        "below",
        note="padding treated as valid, in the backward pass only",
    ),
]
