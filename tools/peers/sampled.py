"""The loss as a function of a few parameters, on any backend of Keras, as checkers of single
functions want it.
"""

import keras
import numpy as np
from keras import ops

# A tool is asked for so few parameters that a slow one ends.
FEW = 4


def loss_of_sampled(model, x, y):
    """Returns (loss as a function of a vector of sampled parameters, the vector as it is)."""
    variables = model.trainable_variables
    ends = np.cumsum([int(np.prod(v.shape)) for v in variables])
    positions = np.linspace(0, ends[-1] - 1, FEW).astype(int)
    owners = np.searchsorted(ends, positions, "right")
    places = [
        (int(v), int(p - ends[v] + np.prod(variables[v].shape)))
        for v, p in zip(owners, positions, strict=True)
    ]
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)

    def loss(vector):
        values = [ops.convert_to_tensor(v) for v in variables]
        for k, (v, place) in enumerate(places):
            flat = ops.scatter_update(ops.reshape(values[v], [-1]), [[place]], vector[k : k + 1])
            values[v] = ops.reshape(flat, variables[v].shape)
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return model.compute_loss(x, y, model(x, training=True), None, True)

    start = np.array([ops.convert_to_numpy(variables[v]).ravel()[place] for v, place in places])
    return loss, start
