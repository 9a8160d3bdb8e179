"""Losses of one flat float64 array, in NumPy, each with its gradient written by hand.

They keep the dtype of what they are given, so that a test can differentiate
them in more digits than float64 has.
"""

import numpy as np

RNG = np.random.default_rng(0)

EXAMPLES = 20
INPUTS = RNG.normal(size=(EXAMPLES, 4))
LABELS = RNG.integers(0, 2, size=EXAMPLES)
TARGETS = RNG.normal(size=EXAMPLES)

LOGISTIC_POINT = RNG.normal(size=4)


def logistic(p):
    scores = INPUTS @ p
    return np.mean(np.logaddexp(0, scores) - LABELS * scores)


def logistic_gradient(p):
    residual = 1 / (1 + np.exp(-(INPUTS @ p))) - LABELS
    return INPUTS.T @ residual / EXAMPLES


CLASSES = RNG.integers(0, 3, size=EXAMPLES)
IS_CLASS = np.eye(3)[CLASSES]
SOFTMAX_POINT = RNG.normal(size=12)


def softmax(p):
    exponentials = np.exp(INPUTS @ p.reshape(4, 3))
    chosen = np.sum(exponentials * IS_CLASS, axis=1)
    return np.mean(np.log(exponentials.sum(axis=1) / chosen))


def softmax_gradient(p):
    exponentials = np.exp(INPUTS @ p.reshape(4, 3))
    total = exponentials.sum(axis=1, keepdims=True)
    residual = exponentials / total - IS_CLASS
    return (INPUTS.T @ residual).ravel() / EXAMPLES


ROSENBROCK_POINT = np.array([-1.2, 1.0, 0.7, 1.5])


def rosenbrock(p):
    rise = p[1:] - p[:-1] ** 2
    return np.sum(100 * rise**2 + (1 - p[:-1]) ** 2)


def rosenbrock_gradient(p):
    rise = p[1:] - p[:-1] ** 2
    gradient = np.zeros_like(p)
    gradient[1:] += 200 * rise
    gradient[:-1] -= 400 * rise * p[:-1]
    gradient[:-1] -= 2 * (1 - p[:-1])
    return gradient


READOUT = RNG.normal(size=6)
NORMALIZED_POINT = RNG.normal(size=6)


def normalized(p):
    centred = p - np.mean(p)
    return READOUT @ np.tanh(centred / np.sqrt(np.mean(centred**2)))


def normalized_gradient(p, is_mean_followed=True):
    centred = p - np.mean(p)
    size = np.sqrt(np.mean(centred**2))
    output = centred / size
    gradient = READOUT * (1 - np.tanh(output) ** 2)
    gradient = gradient - output * np.mean(gradient * output)
    if is_mean_followed:
        gradient = gradient - np.mean(gradient)
    return gradient / size


# A network of four inputs, three hidden units and one output: 12 + 3 parameters.
NETWORK_POINT = RNG.normal(size=15)


def rectify(inner):
    return np.maximum(inner, 0)


def network(p, activation=np.tanh, inputs=INPUTS):
    hidden = activation(inputs @ p[:12].reshape(4, 3))
    return np.mean((hidden @ p[12:] - TARGETS) ** 2)


def network_gradient(p, activation=np.tanh, slope=None, inputs=INPUTS):
    """Returns the gradient; `slope` is the derivative of the activation, by default of tanh."""
    inner = inputs @ p[:12].reshape(4, 3)
    hidden = activation(inner)
    slopes = slope(inner) if slope else 1 - hidden**2
    error = 2 * (hidden @ p[12:] - TARGETS) / EXAMPLES
    into_hidden = np.outer(error, p[12:]) * slopes
    return np.concatenate([(inputs.T @ into_hidden).ravel(), hidden.T @ error])


# The first example gives the first unit 0.5 * 1 - 0.25 * 2, which is zero without rounding.
KINK_INPUTS = INPUTS.copy()
KINK_INPUTS[0] = [1.0, 2.0, 0.0, 0.0]
KINK_POINT = NETWORK_POINT.copy()
KINK_POINT[[0, 3]] = [0.5, -0.25]


def relu_network(p):
    return network(p, rectify, KINK_INPUTS)


def relu_network_gradient(p):
    return network_gradient(p, rectify, lambda inner: inner > 0, KINK_INPUTS)


def unmasked_gradient(p):
    """Returns the gradient with the last hidden unit taken to be linear."""

    def slope(inner):
        slopes = 1.0 * (inner > 0)
        slopes[:, 2] = 1
        return slopes

    return network_gradient(p, rectify, slope, KINK_INPUTS)


TIE_POINT = np.array([0.5, 1.25, -0.75, 1.25, 0.25])


def maximum(p):
    return np.max(p) + np.sum(np.sin(p))


def maximum_gradient(p):
    gradient = np.cos(p)
    gradient[np.argmax(p)] += 1
    return gradient


SPARSE_POINT = np.array([0.8, 0.0, -1.1, 0.0, 0.3])
GOAL = np.array([1.0, 0.2, -2.0, -0.4, 0.0])


def lasso(p):
    return np.sum((p - GOAL) ** 2) / 2 + np.sum(np.abs(p))


def lasso_gradient(p, at_zero=0.0):
    return p - GOAL + np.where(p == 0, at_zero, np.sign(p))


# With these weights the first and the last example have a margin of exactly one.
SIGNS = np.array([[1, 1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, -1], [-1, -1, -1]], float)
SIDES = np.array([1, 1, -1, 1, -1])
HINGE_POINT = np.array([0.5, 0.25, 0.25])


def hinge(p):
    return np.mean(rectify(1 - SIDES * (SIGNS @ p)))


def hinge_gradient(p):
    is_active = SIDES * (SIGNS @ p) <= 1
    return -SIGNS.T @ (SIDES * is_active) / len(SIDES)


# Derivatives from 1 to e to the 20, which is 5e8.
STEEP_POINT = np.linspace(0, 20, 5)


def exponential(p):
    return np.sum(np.exp(p))


# As a length in metres that is a few micrometres.
SMALL = 1e-6
SMALL_POINT = SMALL * RNG.normal(size=6)


def microscopic(p):
    return READOUT @ np.tanh(p / SMALL)


def microscopic_gradient(p):
    return READOUT * (1 - np.tanh(p / SMALL) ** 2) / SMALL


GATED_POINT = RNG.normal(size=6)


def gated(p):
    return np.sum(p[:3] * np.sin(p[3:]))


def gated_gradient(p):
    return np.concatenate([np.sin(p[3:]), p[:3] * np.cos(p[3:])])


# Small beside the rest of the loss, and far above its rounding error.
FAINT = 1e-6
FAINT_POINT = np.append(LOGISTIC_POINT, 0.5)


def faint(p):
    return logistic(p[:4]) + FAINT * np.sin(p[4])


def faint_gradient(p):
    return np.append(logistic_gradient(p[:4]), FAINT * np.cos(p[4]))


def pooled(p):
    return np.sum(np.max(p.reshape(4, 3), axis=1) ** 2)


def pooled_gradient(p):
    windows = p.reshape(4, 3)
    largest = np.max(windows, axis=1, keepdims=True)
    return (2 * largest * (windows == largest)).ravel()


def parabola(p):
    return np.mean((p - READOUT) ** 2)


def parabola_gradient(p):
    return 2 * (p - READOUT) / len(p)
