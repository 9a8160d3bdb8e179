"""Smooth functions whose gradient formula has a special case at exactly one value.

At that value the gradient is wrong; anywhere else it is right. Beside the special
parameters each function has others, whose gradient is right everywhere.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

# Parameters whose gradient is right everywhere. A free choice: many more than the special ones.
OTHERS = 24
# What parameters are multiplied by. A free choice: unequal, so that they cannot cancel.
WEIGHTS = np.array([1.0, 2.0, 3.5])


@dataclasses.dataclass(frozen=True)
class Special:
    """A smooth loss of a few special parameters.

    Args:
        name: Unique name; it is also the test's id.
        loss: Maps float64, shape (K,), to a number.
        right: Its gradient, float64, shape (K,).
        wrong: The gradient of a formula that is wrong at exactly `point`.
        point: float64, shape (K,).
        places: Indices of the parameters whose gradient is wrong there.
    """

    name: str
    loss: Callable
    right: Callable
    wrong: Callable
    point: tuple[float, ...]
    places: tuple[int, ...]

    def __str__(self):
        return self.name


def without_warnings(function):
    """Returns a function that divides by zero in silence."""

    def quiet(p):
        with np.errstate(all="ignore"):
            return function(p)

    return quiet


# --- A product


def product_of_others(p):
    return np.array([np.prod(np.delete(p, k)) for k in range(len(p))])


@without_warnings
def product_divided(p):
    """The product divided by each factor; 0 / 0 is taken for 0."""
    return np.nan_to_num(np.prod(p) / p)


def product_of_others_but_zeros(p):
    """The product of the other factors that are not zero."""
    factors = np.where(p == 0, 1.0, p)
    return product_of_others(factors)


# --- A maximum with a tie, in which both entries have the same slope


def tied(p):
    return max(p[0], p[0] - p[1] ** 2)


def tied_gradient(p):
    return np.array([1.0, 0.0])


def tied_gradient_of_each(p):
    """Every entry that is the largest counts, and a tie twice."""
    return np.array([1.0 + (p[0] == p[0] - p[1] ** 2), 0.0])


# --- The two halves of a rectifier, which add up to the identity


def both_halves(p):
    return WEIGHTS[: len(p)] @ (np.maximum(p, 0) - np.maximum(-p, 0))


def both_halves_gradient(p):
    return WEIGHTS[: len(p)] * ((p > 0).astype(float) + (p < 0))


def weights_of(p):
    return WEIGHTS[: len(p)]


# --- A quotient with a gap at zero


@without_warnings
def growth(p):
    return np.sum(np.where(p == 0, 1.0, np.expm1(p) / p))


@without_warnings
def growth_gradient(p):
    return np.where(p == 0, 0.5, (p * np.exp(p) - np.expm1(p)) / p**2)


def growth_gradient_of_branch(p):
    """That of the constant where the constant is chosen."""
    return np.where(p == 0, 0.0, growth_gradient(p))


# --- A square that goes on as a straight line


def huber(p):
    return np.sum(np.where(np.abs(p) <= 1, p**2 / 2, np.abs(p) - 0.5))


def huber_gradient(p):
    return np.clip(p, -1, 1)


def huber_gradient_without_joint(p):
    """Both pieces leave out the point at which they meet."""
    return p * (np.abs(p) < 1) + np.sign(p) * (np.abs(p) > 1)


# --- A number as its sign times its magnitude


def signed(p):
    return WEIGHTS @ (np.sign(p) * np.abs(p))


def signed_gradient(p):
    return WEIGHTS * np.sign(p) ** 2


# --- The exponential of a symmetric matrix by its eigenvalues

MIXING = np.array([[0.7, 0.4], [0.4, -0.2]])


def symmetric(p):
    return np.array([[p[0], p[1]], [p[1], p[2]]])


def exponential(p):
    values, vectors = np.linalg.eigh(symmetric(p))
    return np.sum(MIXING * (vectors * np.exp(values) @ vectors.T))


def exponential_gradient(equal):
    """Its gradient (Daleckii and Krein, 1951); `equal` is the quotient for equal eigenvalues."""

    def gradient(p):
        values, vectors = np.linalg.eigh(symmetric(p))
        (low, high), slopes = values, np.exp(values)
        between = (slopes[1] - slopes[0]) / (high - low) if high > low else equal(low)
        quotients = np.array([[slopes[0], between], [between, slopes[1]]])
        inner = vectors.T @ MIXING @ vectors
        found = vectors @ (quotients * inner) @ vectors.T
        return np.array([found[0, 0], 2 * found[0, 1], found[1, 1]])

    return gradient


CASES = (
    Special(
        "a_zero_in_a_product",
        np.prod,
        product_of_others,
        product_divided,
        (0.7, 0.0, -1.3, 0.9),
        (1,),
    ),
    Special(
        "two_zeros_in_a_product",
        np.prod,
        product_of_others,
        product_of_others_but_zeros,
        (0.7, 0.0, 0.0, -1.3),
        (0, 1, 2, 3),
    ),
    Special("a_tie", tied, tied_gradient, tied_gradient_of_each, (0.8, 0.0), (0,)),
    Special(
        "two_rectifiers", both_halves, weights_of, both_halves_gradient, (0.0, 0.4, 0.0), (0, 2)
    ),
    Special(
        "only_rectifiers_at_zero",
        both_halves,
        weights_of,
        both_halves_gradient,
        (0.0, 0.0),
        (0, 1),
    ),
    Special("a_gap", growth, growth_gradient, growth_gradient_of_branch, (0.0, -0.6, 0.3), (0,)),
    Special("a_joint", huber, huber_gradient, huber_gradient_without_joint, (0.5, 1.0, -0.4), (1,)),
    Special(
        "signs_of_zeros",
        signed,
        weights_of,
        signed_gradient,
        (0.0, 0.3, 0.0),
        (0, 2),
    ),
    Special(
        "equal_eigenvalues",
        exponential,
        exponential_gradient(np.exp),
        exponential_gradient(lambda value: 0.0),
        (0.4, 0.0, 0.4),
        (1,),
    ),
)
