"""Keras' own adapters for whatever `fit()` accepts."""

import keras
import numpy as np

from gradhooks.model.keras_internals import private_module, require

_data_adapters = private_module("trainers.data_adapters")
_utils = private_module("trainers.data_adapters.data_adapter_utils")


def make_adapter(x, y, sample_weight, batch_size, class_weight):
    """Returns Keras' adapter for data as `fit()` takes them, without shuffling."""
    get_data_adapter = require(_data_adapters, "get_data_adapter", "read the data")
    return get_data_adapter(
        x,
        y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        shuffle=False,
        class_weight=class_weight,
    )


def take_whole_arrays(x, y, sample_weight, class_weight):
    """Returns (x, y, sample_weight) with arrays as they are; None for what is not there.

    Floats are in `floatx`, as Keras' adapters give them.

    Raises:
        ValueError: For sample weights and class weights at once, as in `fit()`.
    """
    x = keras.tree.map_structure(_to_floatx, x)
    y = keras.tree.map_structure(_to_floatx, y)
    sample_weight = keras.tree.map_structure(_to_floatx, sample_weight)
    if class_weight is not None:
        if sample_weight is not None:
            raise ValueError("`class_weight` and `sample_weight` cannot be given at once.")
        weigh = require(_utils, "class_weight_to_sample_weights", "apply class weights")
        sample_weight = weigh(y, class_weight)
    return x, y, sample_weight


def _to_floatx(array):
    if array is None or not hasattr(array, "__array__"):
        return array
    array = np.asarray(array)
    if array.dtype.name.startswith(("float", "bfloat")):
        return array.astype(keras.config.floatx())
    return array
