"""The gradient checkers of PyTorch and JAX on the same networks with the same weights.

Keras runs on all three, so the network is the same in a process with another
backend: `KERAS_BACKEND=torch python -m tools.peers.elsewhere digits.npz digits`.
It stays in float32, because Keras computes float64 networks in float32 there;
the unit is a forward pass of the same network on the same backend.
"""

import json
import sys
import warnings

import keras
import numpy as np
from keras import ops

from tools.peers import clock, networks, sampled


def torchs(model, x, y):
    """(check, loss, vector) per mode of `torch.autograd.gradcheck`.

    A check returns whether the gradient is right.
    """
    import torch

    loss, start = sampled.loss_of_sampled(model, x, y)
    vector = ops.convert_to_tensor(start).requires_grad_()

    def checker(is_fast):
        return lambda: torch.autograd.gradcheck(
            loss, (vector,), raise_exception=False, fast_mode=is_fast
        )

    return {
        "torch gradcheck": checker(False),
        "torch gradcheck, fast": checker(True),
    }, lambda: loss(vector).item()


def jaxs(model, x, y):
    """The same for `jax.test_util.check_grads`."""
    import jax
    import jax.test_util

    loss, start = sampled.loss_of_sampled(model, x, y)
    loss, vector = jax.jit(loss), ops.convert_to_tensor(start)

    def checker():
        try:
            jax.test_util.check_grads(loss, (vector,), order=1, modes=["rev"])
        except AssertionError:
            return False
        return True

    return {"JAX check_grads": checker}, lambda: float(loss(vector))


TOOLS = {"torch": torchs, "jax": jaxs}


def main():
    """Prints the cost of each tool per sampled parameter, and whether its verdicts are right,
    as JSON.
    """
    weights, name = sys.argv[1:]
    prepare = TOOLS[keras.backend.backend()]
    model, x, y = networks.NETWORKS[name]()
    with np.load(weights) as arrays:
        model.set_weights([arrays[f"arr_{k}"] for k in range(len(arrays))])
    # Both tools warn that float32 is not enough for them.
    warnings.simplefilter("ignore")
    checkers, forward = prepare(model, x, y)
    costs = {tool: clock.ratio(run, forward) / sampled.FEW for tool, run in checkers.items()}
    healthy, wrong = (prepare(*networks.relu_network(flag))[0] for flag in (False, True))
    right = {tool: (bool(healthy[tool]()), not wrong[tool]()) for tool in checkers}
    print(json.dumps({"costs": costs, "right": right}))


if __name__ == "__main__":
    main()
