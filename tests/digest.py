"""Hashes of everything that training can change, to compare before and after a check."""

import hashlib
import random

import keras
import numpy as np


def seed_generators():
    """Gives every generator outside models a state that is always the same."""
    random.seed(5)
    np.random.seed(6)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(7)
        tf.random.get_global_generator().reset_from_seed(8)


def digest(model):
    """Returns a dict of hashes: weights, optimizer, metrics, seeds, generators, attributes."""
    from keras.src.backend.common import global_state
    from keras.src.random import seed_generator

    seeds = (
        seed_generator.global_seed_generator().state.numpy()
    )  # made now where there was none, which draws
    parts = {
        "weights and seeds": [v.numpy() for v in model.variables],
        "optimizer": [v.numpy() for v in model.optimizer.variables] if model.optimizer else [],
        "metrics": [v.numpy() for v in model.metrics_variables],
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        **_FRAMEWORKS[keras.backend.backend()](),
        "global seeds": seeds,
        "names": sorted(global_state.get_global_attribute("object_name_uids", {}).items()),
        "floatx": keras.config.floatx(),
        "layers": [_attributes(layer) for layer in model._flatten_layers()],
        "losses": [type(model._compile_loss), getattr(model._compile_loss, "built", None)],
    }
    return {
        name: hashlib.sha256(repr(_plain(part)).encode()).hexdigest()[:16]
        for name, part in parts.items()
    }


def _state_of_tensorflow():
    import tensorflow as tf
    from tensorflow.python.eager import context

    operations = getattr(context.context(), "_rng", None)
    return {
        "tensorflow": tf.random.get_global_generator().state.numpy(),
        "tensorflow operations": getattr(operations, "getstate", lambda: 0)(),
    }


def _state_of_jax():
    import jax

    return {"jax": [jax.config.jax_enable_x64, sorted(jax.config.values.items())]}


_FRAMEWORKS = {"tensorflow": _state_of_tensorflow, "jax": _state_of_jax}


def _attributes(layer):
    dtypes = [
        (v.path, str(v.dtype), str(v._dtype), type(v._regularizer).__name__)
        for v in layer.variables
    ]
    own = sorted(name for name in vars(layer) if name != "_parent_path")
    return (
        layer.name,
        own,
        str(layer.dtype_policy),
        type(layer.activity_regularizer).__name__,
        len(layer.losses),
        dtypes,
    )


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
