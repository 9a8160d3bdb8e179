"""A hundred functions with kinks at known parameters, generated from seeds.

Each family adds a kinked part to a smooth background. The gradient is right
where there is a derivative, and at the kink any subgradient: `share` times the
slope from the right and the rest of the slope from the left.
"""

import dataclasses

import numpy as np

from tests.known.function import EXAMPLES, SIZE, Function

OF_A_FAMILY = 10
# The parameter on the kink, and the second one of a tie.
KINKED, OTHER = 2, 4
# The gradient is a subgradient at this distance from a kink, too: farther than a kink lies from
# the point, nearer than the point at which a failure is replicated.
NEAR = 1e-8


def build(share=None):
    """Returns the hundred functions.

    Args:
        share: Share of the slope from the right in the subgradient. Defaults to None: to none, all
            and anything between in turn.
    """
    functions = []
    for family, (name, make) in enumerate(FAMILIES.items()):
        for number in range(OF_A_FAMILY):
            rng = np.random.default_rng([3, family, number])
            shares = (0.0, 1.0, rng.uniform(), rng.uniform(), rng.uniform())
            function = make(rng, shares[number % len(shares)] if share is None else share)
            functions.append(dataclasses.replace(function, name=f"{name}_{number}"))
    return functions


def choose_slope(distance, left, right, share):
    """Returns the slope at a distance from a kink; a mixture of both right at it."""
    if abs(distance) < NEAR:
        return share * right + (1 - share) * left
    return right if distance > 0 else left


def add_background(rng, loss, gradient, point, kinked=(KINKED,), may_pass=False):
    """Returns a `Function`: the kinked part, with a smooth one that mixes all parameters."""
    x = rng.normal(size=(EXAMPLES, SIZE)) / 3

    def whole_loss(p):
        return float(np.mean(np.sin(x @ p) + (x @ p) ** 2) + loss(p))

    def whole_gradient(p):
        return x.T @ (np.cos(x @ p) + 2 * x @ p) / EXAMPLES + gradient(p)

    return Function("", whole_loss, whole_gradient, point, kinked, may_pass=may_pass)


def draw_point(rng, value):
    """Returns a standard normal point with a given value on the kink."""
    point = rng.normal(size=SIZE)
    point[KINKED] = value
    return point


def bend(rng, share, left, right, at=0.0, distance=0.0, may_pass=False):
    """A function whose slope along one parameter changes from `left` to `right`.

    Args:
        rng: Generator of the background.
        share: Share of the slope from the right in the subgradient.
        left: Slope below the kink.
        right: Slope above it.
        at: Place of the kink.
        distance: Distance of the point from it.
        may_pass: See `Function`.
    """

    def loss(p):
        beyond = p[KINKED] - at
        return right * max(beyond, 0.0) + left * min(beyond, 0.0)

    def gradient(p):
        found = np.zeros(SIZE)
        found[KINKED] = choose_slope(p[KINKED] - at, left, right, share)
        return found

    point = draw_point(rng, at + distance)
    return add_background(rng, loss, gradient, point, may_pass=may_pass)


def relu(rng, share):
    return bend(rng, share, 0.0, rng.uniform(0.3, 3))


def absolute(rng, share):
    slope = rng.uniform(0.3, 3)
    return bend(rng, share, -slope, slope)


def hinge(rng, share):
    return bend(rng, share, -rng.uniform(0.3, 3), 0.0, at=1.0)


def near(rng, share):
    """A kink that is too near for any step, 1e-12 to 1e-9 away."""
    distance = rng.choice([-1, 1]) * 10 ** rng.uniform(-12, -9)
    # There the slope on the point's own side is the derivative.
    is_derivative = share == float(distance > 0)
    return bend(
        rng, share, rng.uniform(-3, -0.3), rng.uniform(0.3, 3), 0.0, distance, is_derivative
    )


def small(rng, share):
    """A slope that changes by a thousandth of itself."""
    slope = rng.choice([-1, 1]) * rng.uniform(2, 5)
    return bend(rng, share, slope, 1.001 * slope, may_pass=True)


def tie(rng, share):
    """The larger one of two parameters that are equal."""
    slope = rng.uniform(0.3, 3)

    def gradient(p):
        found = np.zeros(SIZE)
        found[KINKED] = choose_slope(p[KINKED] - p[OTHER], 0.0, slope, share)
        found[OTHER] = slope - found[KINKED]
        return found

    point = rng.normal(size=SIZE)
    point[OTHER] = point[KINKED]
    return add_background(
        rng, lambda p: slope * max(p[KINKED], p[OTHER]), gradient, point, (KINKED, OTHER)
    )


def zero_layer(rng, share):
    """A layer of ReLUs whose weights are all zero."""
    x, head = rng.normal(size=(EXAMPLES, 3)), rng.choice([-1, 1], 2) * rng.uniform(0.5, 2, 2)

    def loss(p):
        return np.mean(np.maximum(x @ p.reshape(3, 2), 0) @ head)

    def gradient(p):
        units = x @ p.reshape(3, 2)
        # Any share of the slope of a ReLU at zero gives a subgradient here.
        passes = np.where(units == 0, share, units > 0)
        return (x.T @ (passes * head)).ravel() / EXAMPLES

    return add_background(rng, loss, gradient, np.zeros(SIZE), tuple(range(SIZE)))


def penalty(rng, share):
    """A penalty of absolute values, of which half are zero."""
    strength, half = rng.uniform(0.1, 1), SIZE // 2

    def gradient(p):
        signs = [choose_slope(value, -1.0, 1.0, share) for value in p]
        return strength * np.array(signs)

    point = rng.normal(size=SIZE)
    point[:half] = 0.0
    smooth = add_background(rng, lambda p: 0.0, np.zeros_like, point, tuple(range(half)))
    lasso = (lambda p: strength * float(np.sum(np.abs(p)))), gradient
    return dataclasses.replace(smooth, penalty=lasso)


def two_kinks(rng, share):
    """A kink at the point, and one beside it, 1e-7 to 1e-3 away."""
    here, there = rng.uniform(0.3, 3, 2)
    place = rng.choice([-1, 1]) * 10 ** rng.uniform(-7, -3)

    def gradient(p):
        found = np.zeros(SIZE)
        found[KINKED] = choose_slope(p[KINKED], -here, here, share)
        found[KINKED] += there * np.sign(p[KINKED] - place)
        return found

    return add_background(
        rng,
        lambda p: here * abs(p[KINKED]) + there * abs(p[KINKED] - place),
        gradient,
        draw_point(rng, 0.0),
    )


def curved(rng, share):
    """A kink where the loss is strongly curved."""
    slope, curvature = rng.uniform(0.3, 3), 10 ** rng.uniform(0, 3)

    def gradient(p):
        found = np.zeros(SIZE)
        found[KINKED] = choose_slope(p[KINKED], -slope, slope, share) + curvature * p[KINKED]
        found[KINKED] += np.exp(p[KINKED])
        return found

    def loss(p):
        value = p[KINKED]
        return slope * abs(value) + curvature * value**2 / 2 + np.exp(value)

    return add_background(rng, loss, gradient, draw_point(rng, 0.0))


FAMILIES = {
    "relu": relu,
    "absolute": absolute,
    "hinge": hinge,
    "near": near,
    "small": small,
    "tie": tie,
    "zero_layer": zero_layer,
    "penalty": penalty,
    "two_kinks": two_kinks,
    "curved": curved,
}
