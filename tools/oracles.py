"""Forty checks of plain NumPy functions, right and wrong, for `tools.snapshot`."""

import numpy as np

from tests import fakes
from tests.fakes import FunctionOracle

SIZE = 24
SHAPES = ((3, 4), (4,), (4, 2))
POINT = np.random.default_rng(11).normal(size=SIZE)
MIXING = np.random.default_rng(12).normal(size=(40, SIZE)) / 5
LABELS = np.random.default_rng(13).integers(0, 2, size=40)


def squares(point):
    """A sum of squares."""
    return float(point @ point)


def squares_gradient(point):
    """Its gradient."""
    return 2 * point


def logistic(point):
    """Logistic regression."""
    return float(np.mean(np.logaddexp(0, MIXING @ point) - LABELS * (MIXING @ point)))


def logistic_gradient(point):
    """Its gradient."""
    return MIXING.T @ (1 / (1 + np.exp(-(MIXING @ point))) - LABELS) / len(LABELS)


def hidden(point):
    """A hidden layer of hyperbolic tangents."""
    return float(np.mean(np.tanh(MIXING @ point) ** 2))


def hidden_gradient(point):
    """Its gradient."""
    t = np.tanh(MIXING @ point)
    return MIXING.T @ (2 * t * (1 - t**2)) / len(t)


def rectified(point):
    """A hidden layer of rectified linear units."""
    return float(
        np.mean(np.maximum(MIXING @ point, 0) ** 2) + np.mean(np.maximum(MIXING @ point, 0))
    )


def rectified_gradient(point):
    """Its gradient."""
    r = MIXING @ point
    return MIXING.T @ ((2 * np.maximum(r, 0) + 1) * (r > 0)) / len(r)


def float32_logistic(point):
    """Logistic regression whose loss is rounded to float32."""
    return float(np.float32(logistic(point)))


def absolute(point):
    """A sum of absolute values, most of them at zero."""
    return float(np.sum(np.abs(point[: SIZE // 2])) + point @ point)


def absolute_gradient(point):
    """A subgradient of it."""
    return np.where(np.arange(SIZE) < SIZE // 2, np.sign(point), 0.0) + 2 * point


def blocked(point):
    """A loss that depends on all parameters; `blocked_gradient` is zero for half of them."""
    return float(np.sum(np.exp(0.3 * point)))


def blocked_gradient(point):
    """A gradient that is zero for half of the parameters."""
    return np.where(np.arange(SIZE) < SIZE // 2, 0.0, 0.3 * np.exp(0.3 * point))


def make_wrong(gradient, factor, part=slice(None)):
    """Returns a gradient that is wrong by a factor in some parameters."""

    def wrong(point):
        values = np.array(gradient(point), dtype=np.float64)
        values[part] *= factor
        return values

    return wrong


def ridge(factor=1.0):
    """Returns (function, gradient) of a penalty, the gradient wrong by a factor."""
    return lambda p: 0.01 * float(p @ p), lambda p: factor * 0.02 * p


SMOOTH = {
    "squares": (squares, squares_gradient),
    "logistic": (logistic, logistic_gradient),
    "hidden": (hidden, hidden_gradient),
    "rectified": (rectified, rectified_gradient),
}
FACTORS = {"1.001": 1.001, "1 + 1e-6": 1 + 1e-6, "-1": -1.0}


def _make_oracle(function, gradient, point=POINT, **options):
    return FunctionOracle(function, gradient, point, SHAPES, **options)


def build():
    """Returns the forty oracles by name, each a new one."""
    oracles = {}
    for name, (function, gradient) in SMOOTH.items():
        oracles[name] = _make_oracle(function, gradient)
        oracles[f"{name}, penalty"] = _make_oracle(function, gradient, penalty=ridge())
        oracles[f"{name}, wrong penalty"] = _make_oracle(function, gradient, penalty=ridge(1.5))
        oracles[f"{name}, native"] = _make_oracle(function, gradient, level="model")
        oracles[f"{name}, one variable doubled"] = _make_oracle(
            function, make_wrong(gradient, 2.0, slice(12, 16))
        )
        for label, factor in FACTORS.items():
            oracles[f"{name} * {label}"] = _make_oracle(function, make_wrong(gradient, factor))
    zeros = np.zeros(SIZE)
    oracles["absolute values at zero"] = _make_oracle(absolute, absolute_gradient, zeros)
    oracles["blocked"] = _make_oracle(blocked, blocked_gradient)
    oracles["float32"] = _make_oracle(
        float32_logistic, logistic_gradient, narrow_operations=("Cast",)
    )
    oracles["float32 * 1.1"] = _make_oracle(
        float32_logistic, make_wrong(logistic_gradient, 1.1), narrow_operations=("Cast",)
    )
    oracles["kinky"] = fakes.dense_kinks()
    oracles["steep"] = fakes.steep()
    oracles["no loss"] = _make_oracle(lambda p: float("nan"), squares_gradient)
    oracles["no gradient"] = _make_oracle(squares, lambda p: np.full(SIZE, np.nan))
    return oracles
