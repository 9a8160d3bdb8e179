"""The thirty functions: fifteen with a right gradient, fifteen with a wrong one."""

import dataclasses

import numpy as np

from tools.checkers import losses
from tools.checkers.case import Case, add_jitter, scale, spoil, with_float32_core

LOGISTIC = Case(
    "smooth",
    "logistic regression",
    losses.logistic,
    losses.logistic_gradient,
    losses.LOGISTIC_POINT,
)
SOFTMAX = Case(
    "smooth",
    "softmax regression",
    losses.softmax,
    losses.softmax_gradient,
    losses.SOFTMAX_POINT,
)
NETWORK = Case(
    "smooth",
    "tanh network",
    losses.network,
    losses.network_gradient,
    losses.NETWORK_POINT,
)
NORMALIZED = Case(
    "smooth",
    "layer normalization",
    losses.normalized,
    losses.normalized_gradient,
    losses.NORMALIZED_POINT,
)
SMOOTH = [
    LOGISTIC,
    NETWORK,
    Case(
        "smooth",
        "Rosenbrock's function",
        losses.rosenbrock,
        losses.rosenbrock_gradient,
        losses.ROSENBROCK_POINT,
    ),
    spoil(
        SOFTMAX,
        "softmax regression, a sum where the mean belongs",
        scale(losses.softmax_gradient, losses.EXAMPLES),
    ),
    spoil(
        NORMALIZED,
        "layer normalization, the mean taken to be constant",
        lambda point: losses.normalized_gradient(point, is_mean_followed=False),
    ),
]

RELU = Case(
    "kinked",
    "ReLU network, a unit at zero",
    losses.relu_network,
    losses.relu_network_gradient,
    losses.KINK_POINT,
    is_kinked=True,
)
LASSO = Case(
    "kinked",
    "absolute values at zero",
    losses.lasso,
    losses.lasso_gradient,
    losses.SPARSE_POINT,
    is_kinked=True,
)
KINKED = [
    RELU,
    Case(
        "kinked",
        "maximum at a tie",
        losses.maximum,
        losses.maximum_gradient,
        losses.TIE_POINT,
        is_kinked=True,
    ),
    LASSO,
    Case(
        "kinked",
        "hinge loss, margins of one",
        losses.hinge,
        losses.hinge_gradient,
        losses.HINGE_POINT,
        is_kinked=True,
    ),
    spoil(
        LASSO,
        "absolute values at zero, slope 1.5 there",
        lambda point: losses.lasso_gradient(point, at_zero=1.5),
    ),
    spoil(RELU, "ReLU network, another unit not masked", losses.unmasked_gradient),
]

EXPONENTIAL = Case(
    "steep",
    "exp, slopes from 1 to 5e8",
    losses.exponential,
    np.exp,
    losses.STEEP_POINT,
)
STEEP = [
    EXPONENTIAL,
    Case(
        "steep",
        "tanh of micrometres in metres",
        losses.microscopic,
        losses.microscopic_gradient,
        losses.SMALL_POINT,
    ),
    Case(
        "steep",
        "logistic regression plus a million",
        lambda point: 1e6 + losses.logistic(point),
        losses.logistic_gradient,
        losses.LOGISTIC_POINT,
        plain_loss=losses.logistic,
    ),
    spoil(EXPONENTIAL, "exp, the slope of 1 doubled", scale(np.exp, 2, 0)),
    Case(
        "steep",
        "logistic regression times 1e-9, gradient doubled",
        lambda point: 1e-9 * losses.logistic(point),
        scale(losses.logistic_gradient, 2e-9),
        losses.LOGISTIC_POINT,
        is_right=False,
    ),
]

FLOAT32_CORE = dataclasses.replace(
    LOGISTIC,
    kind="noisy",
    name="logistic regression, computed in float32",
    loss=with_float32_core,
    plain_loss=losses.logistic,
)


def _jittering(size: float) -> Case:
    return dataclasses.replace(
        NETWORK,
        kind="noisy",
        name=f"tanh network, jitter of {size:.0e}",
        loss=add_jitter(losses.network, size),
        plain_loss=losses.network,
    )


NOISY = [
    FLOAT32_CORE,
    _jittering(1e-14),
    _jittering(1e-12),
    _jittering(1e-10),
    spoil(
        FLOAT32_CORE,
        "logistic regression, computed in float32, gradient times 1.05",
        scale(losses.logistic_gradient, 1.05),
    ),
    spoil(
        _jittering(1e-12),
        "tanh network, jitter of 1e-12, gradient times 1.001",
        scale(losses.network_gradient, 1.001),
    ),
]

BLOCKED = [
    Case(
        "blocked",
        "maxima of windows, zero for what is not one",
        losses.pooled,
        losses.pooled_gradient,
        losses.SOFTMAX_POINT,
    ),
    Case(
        "blocked",
        "product of two factors, one detached",
        losses.gated,
        scale(losses.gated_gradient, 0, slice(3, 6)),
        losses.GATED_POINT,
        is_right=False,
    ),
    Case(
        "blocked",
        "logistic regression, a faint term detached",
        losses.faint,
        scale(losses.faint_gradient, 0, 4),
        losses.FAINT_POINT,
        is_right=False,
    ),
    Case(
        "blocked",
        "parabola of parameters rounded to hundredths",
        lambda point: losses.parabola(np.round(point, 2)),
        np.zeros_like,
        losses.NORMALIZED_POINT,
        is_right=False,
        plain_loss=losses.parabola,
    ),
]

SCALED = [
    spoil(
        NETWORK,
        "tanh network, gradient times 1.001",
        scale(losses.network_gradient, 1.001),
        "scaled",
    ),
    spoil(
        NETWORK,
        "tanh network, one of 15 entries times 1.001",
        scale(losses.network_gradient, 1.001, 7),
        "scaled",
    ),
    spoil(
        LOGISTIC,
        "logistic regression, gradient times 1.00001",
        scale(losses.logistic_gradient, 1.00001),
        "scaled",
    ),
    spoil(
        SOFTMAX,
        "softmax regression, one of 12 entries times 1.00001",
        scale(losses.softmax_gradient, 1.00001, 5),
        "scaled",
    ),
]

CASES = [*SMOOTH, *KINKED, *STEEP, *NOISY, *BLOCKED, *SCALED]
KINDS = ("smooth", "kinked", "steep", "noisy", "blocked", "scaled")
