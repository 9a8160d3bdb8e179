"""Gradients that are NaN or infinite while the loss is finite.

The healthy twin guards the bad spot.
"""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, seeded
from tests.corpora.mutants import planted
from tests.corpora.mutants.factors import dense, through

NON_FINITE = ("non_finite_gradient",)


def rectified(x):
    """A ReLU that lets NaN and infinite gradients through: each backend has another one."""
    return ops.maximum(x, 0.0) if keras.backend.backend() == "jax" else ops.relu(x)


def norm_of_zero(seed):
    """The norm of a row that is exactly zero: an empty example and a bias that starts at zero."""

    def norm(x):
        return ops.sqrt(ops.sum(x**2, axis=-1, keepdims=True)) * ops.ones_like(x)

    def guarded(x):
        return ops.sqrt(ops.sum(x**2, axis=-1, keepdims=True) + 1e-2) * ops.ones_like(x)

    model, x, y = through(seed, planted.choose(norm, guarded))
    x[3] = 0
    return model, x, y


def power_behind_where(seed):
    """`where(x > 0, x ** 1.5, 0)`: the branch not taken is NaN, and 0 * NaN is NaN."""

    def power(x):
        return ops.where(x > 0, x**1.5, ops.zeros_like(x))

    def guarded(x):
        return ops.where(x > 0, ops.relu(x) ** 1.5, ops.zeros_like(x))

    return through(seed, planted.choose(power, guarded))


def logarithm_behind_where(seed):
    """`x log x` with the limit at zero patched in by `where`, after a ReLU."""

    def entropy(x):
        x = rectified(x)
        return ops.where(x > 0, x * ops.log(x), ops.zeros_like(x))

    def guarded(x):
        x = ops.softplus(x)
        return x * ops.log(x)

    return through(seed, planted.choose(entropy, guarded))


def deviation_of_a_constant(seed):
    """The deviation over the batch as a further feature, as in progressive GANs.

    One never changes.
    """

    def deviation(floor):
        def apply(x):
            _, variance = ops.moments(x, axes=[0], keepdims=True)
            return x + ops.sqrt(variance + floor)

        return apply

    rng = seeded(seed)
    kernel = keras.initializers.Constant([[1.0, 0.0, 0.5], [0.5, 0.0, -1.0], [-1.0, 0.0, 0.3]])
    x = keras.Input((3,), name="x")
    below = layers.Dense(3, kernel_initializer=kernel, name="below")(x)
    widened = planted.Through(planted.choose(deviation(0.0), deviation(1e-2)), name="planted")(
        below
    )
    head = layers.Dense(2, name="head")(layers.Dense(5, activation="tanh", name="above")(widened))
    return compiled(keras.Model(x, head)), features(rng, 12, 3), features(rng, 12, 2)


def distances(seed):
    """Pairwise distances within the batch.

    Each example's distance to itself is the root of zero.
    """

    def pairwise(floor):
        def apply(x):
            squares = ops.sum((x[:, None] - x[None]) ** 2, axis=-1)
            return x + ops.mean(ops.sqrt(squares + floor), axis=1, keepdims=True)

        return apply

    return through(seed, planted.choose(pairwise(0.0), pairwise(1e-2)))


def infinite_factor(seed):
    """A hand-written gradient that divides by a count that is zero."""

    def rule(g):
        nothing = ops.sum(ops.zeros_like(g))
        return g / nothing

    return dense(seed, on_kernel=planted.identity(rule))


def power_of_zero(seed):
    """A learned-looking power, `x ** 0.5`, of a ReLU's exact zeros."""
    return through(
        seed, planted.choose(lambda x: rectified(x) ** 0.5, lambda x: ops.softplus(x) ** 0.5)
    )


CASES = [
    Case("norm_of_zero", norm_of_zero, "below", NON_FINITE, note="sqrt at zero"),
    Case(
        "power_behind_where",
        power_behind_where,
        "below",
        NON_FINITE,
        note="a branch not taken is NaN",
    ),
    Case(
        "logarithm_behind_where",
        logarithm_behind_where,
        "below",
        NON_FINITE,
        note="a branch not taken is infinite",
    ),
    Case(
        "deviation_of_a_constant",
        deviation_of_a_constant,
        "below",
        NON_FINITE,
        note="sqrt of a zero variance",
    ),
    Case(
        "distance_to_itself",
        distances,
        "below",
        NON_FINITE,
        note="pairwise distances, the diagonal",
    ),
    Case(
        "divided_by_zero",
        infinite_factor,
        "planted",
        NON_FINITE,
        note="one variable alone is infinite",
    ),
    Case("power_of_zero", power_of_zero, "below", NON_FINITE, note="a root of exact zeros"),
]
