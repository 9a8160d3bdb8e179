"""Two hundred smooth functions with hand-written gradients, generated from seeds.

Each family returns (loss, gradient) of a point around the standard normal one.
"""

import numpy as np
from scipy import special

from tests.known.function import EXAMPLES, SIZE, Function

OF_A_FAMILY = 20


def squares(rng):
    weights, centre = rng.uniform(0.3, 3, SIZE), rng.normal(size=SIZE)
    return (
        lambda p: float(weights @ (p - centre) ** 2),
        lambda p: 2 * weights * (p - centre),
    )


def logistic(rng):
    x, labels = rng.normal(size=(EXAMPLES, SIZE)), rng.integers(0, 2, EXAMPLES)
    return (
        lambda p: float(np.mean(np.logaddexp(0, x @ p) - labels * (x @ p))),
        lambda p: x.T @ (special.expit(x @ p) - labels) / EXAMPLES,
    )


def cross_entropy(rng):
    x, labels = rng.normal(size=(EXAMPLES, 2)), np.eye(3)[rng.integers(0, 3, EXAMPLES)]

    def loss(p):
        return -float(np.sum(labels * special.log_softmax(x @ p.reshape(2, 3), axis=1))) / EXAMPLES

    def gradient(p):
        shares = special.softmax(x @ p.reshape(2, 3), axis=1)
        return (x.T @ (shares - labels)).ravel() / EXAMPLES

    return loss, gradient


def network(activation, slope):
    """A unit for each parameter pair: mean squares of a hidden layer's output."""

    def build(rng):
        x, y = rng.normal(size=(EXAMPLES, 2)), rng.normal(size=EXAMPLES)

        def parts(p):
            hidden = x @ p[:4].reshape(2, 2)
            return hidden, activation(hidden) @ p[4:] - y

        def gradient(p):
            hidden, residual = parts(p)
            outer = 2 * residual / EXAMPLES
            below = x.T @ (outer[:, None] * p[4:] * slope(hidden))
            return np.concatenate([below.ravel(), activation(hidden).T @ outer])

        return lambda p: float(np.mean(parts(p)[1] ** 2)), gradient

    return build


def gelu(t):
    return t * special.ndtr(t)


def gelu_slope(t):
    return special.ndtr(t) + t * np.exp(-t * t / 2) / np.sqrt(2 * np.pi)


def polynomial(rng):
    coefficients = rng.normal(size=(5, SIZE))
    powers = np.arange(1, 6)[:, None]
    return (
        lambda p: float(np.sum(coefficients * p**powers) + p[0] * p[1] * p[2]),
        lambda p: (
            np.sum(coefficients * powers * p ** (powers - 1), axis=0)
            + np.array([p[1] * p[2], p[0] * p[2], p[0] * p[1], *np.zeros(SIZE - 3)])
        ),
    )


def exponential(rng):
    x = 0.5 * rng.normal(size=(EXAMPLES, SIZE))
    return (
        lambda p: float(np.mean(np.exp(x @ p))),
        lambda p: x.T @ np.exp(x @ p) / EXAMPLES,
    )


def sines(rng):
    rates, phases = rng.uniform(0.5, 10, SIZE), rng.uniform(0, 6, SIZE)
    return (
        lambda p: float(np.sum(np.sin(rates * p + phases))),
        lambda p: rates * np.cos(rates * p + phases),
    )


def log_sum_exp(rng):
    x = rng.normal(size=(EXAMPLES, SIZE))
    return (
        lambda p: float(special.logsumexp(x @ p)),
        lambda p: x.T @ special.softmax(x @ p),
    )


def ill_conditioned(rng):
    axes, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    matrix = axes @ np.diag(np.logspace(-6, 0, SIZE)) @ axes.T
    slope = rng.normal(size=SIZE) / 10
    return (
        lambda p: float(p @ matrix @ p / 2 + slope @ p),
        lambda p: matrix @ p + slope,
    )


FAMILIES = {
    "squares": squares,
    "logistic": logistic,
    "cross_entropy": cross_entropy,
    "tanh_network": network(np.tanh, lambda t: 1 / np.cosh(t) ** 2),
    "gelu_network": network(gelu, gelu_slope),
    "polynomial": polynomial,
    "exponential": exponential,
    "sines": sines,
    "log_sum_exp": log_sum_exp,
    "ill_conditioned": ill_conditioned,
}
# (steepness, size, offset): how fast the loss varies, what it is multiplied by, and what is added.
MODIFIERS = (
    *[(1.0, 1.0, 0.0)] * 4,
    (1e3, 1.0, 0.0),
    (1e-3, 1.0, 0.0),
    (1.0, 1e3, 0.0),
    (1.0, 1e-3, 0.0),
    (1.0, 1.0, 1e3),
    (30.0, 1e-2, 1e3),
)


def build():
    """Returns the two hundred functions."""
    functions = []
    for family, (name, make) in enumerate(FAMILIES.items()):
        for number in range(OF_A_FAMILY):
            rng = np.random.default_rng([1, family, number])
            functions.append(_modify(f"{name}_{number}", make(rng), rng, number))
    return functions


def _modify(name, pair, rng, number):
    loss, gradient = pair
    steepness, size, offset = MODIFIERS[number % len(MODIFIERS)]
    point, inner = rng.normal(size=SIZE), rng.normal(size=SIZE)

    def inside(p):
        return inner + steepness * (p - point)

    return Function(
        name,
        lambda p: offset + size * loss(inside(p)),
        lambda p: size * steepness * gradient(inside(p)),
        point,
    )


def spoil(function, number):
    """Returns its gradient, too large or too small by a millionth to a thousandth.

    Everywhere if the number is even, else in one parameter.
    """
    rng = np.random.default_rng([2, number])
    factors = np.ones(SIZE)
    where = slice(None) if number % 2 == 0 else rng.integers(SIZE)
    factors[where] += rng.choice([-1, 1]) * 10 ** rng.uniform(-6, -3)
    return lambda p: factors * function.gradient(p)
