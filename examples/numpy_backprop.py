"""Check a backward pass written by hand in NumPy: right, and with an error that is easy to make.

python examples/numpy_backprop.py
"""

import numpy as np

import gradhooks

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 4)), RNG.integers(0, 2, size=(50, 1))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def forward(parameters):
    """Returns the cross-entropy of a network with two hidden layers, and what it has computed."""
    a1 = np.maximum(X @ parameters["W1"] + parameters["b1"], 0)
    a2 = np.tanh(a1 @ parameters["W2"] + parameters["b2"])
    a3 = sigmoid(a2 @ parameters["W3"] + parameters["b3"])
    loss = -np.mean(Y * np.log(a3) + (1 - Y) * np.log(1 - a3))
    return loss, (a1, a2, a3)


def loss(parameters):
    return forward(parameters)[0]


def backward(parameters):
    """Returns the gradient of the loss, a dictionary like the parameters."""
    _, (a1, a2, a3) = forward(parameters)
    dz3 = (a3 - Y) / len(X)
    dz2 = (dz3 @ parameters["W3"].T) * (1 - a2**2)
    dz1 = (dz2 @ parameters["W2"].T) * (a1 > 0)
    return {
        "W1": X.T @ dz1,
        "b1": dz1.sum(axis=0),
        "W2": a1.T @ dz2,
        "b2": dz2.sum(axis=0),
        "W3": a2.T @ dz3,
        "b3": dz3.sum(axis=0),
    }


def backward_with_an_error(parameters):
    """Doubles the gradient of one matrix: the two of a square that is not there."""
    gradient = backward(parameters)
    return gradient | {"W2": 2 * gradient["W2"]}


def main():
    parameters = {
        "W1": RNG.normal(size=(4, 5)),
        "b1": RNG.normal(size=5),
        "W2": RNG.normal(size=(5, 3)),
        "b2": np.zeros(3),
        "W3": RNG.normal(size=(3, 1)),
        "b3": np.zeros(1),
    }
    report = gradhooks.check_function(loss, backward, parameters)
    print(report)
    print("\nWith an error in W2:")
    print(gradhooks.check_function(loss, backward_with_an_error, parameters))


if __name__ == "__main__":
    main()
