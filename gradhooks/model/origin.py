"""Which model a report is about, and which Keras and backend it ran on."""

import dataclasses
import sys

import keras

from gradhooks.reports.circumstances import Origin


def add_model(origin: Origin, model, fit: str) -> Origin:
    """Returns the origin of a check of a model.

    Args:
        origin: What is known without the model.
        model: A `keras.Model`, of any state.
        fit: Id of the call of `fit()`; empty outside of one.
    """
    backend = keras.backend.backend()
    # The framework is loaded by now. Its package may be installed under several names.
    framework = getattr(sys.modules.get(backend), "__version__", "")
    versions = {**origin.versions, "keras": keras.__version__, backend: str(framework)}
    return dataclasses.replace(
        origin,
        fit=fit,
        model=str(getattr(model, "name", "")),
        device=name_device(model),
        backend=backend,
        versions=versions,
    )


def name_device(model) -> str:
    """Returns the device of a model's first weight, such as `"GPU:0"`; empty without weights.

    Weights that are mirrored on several devices count as on the first.
    """
    try:
        for variable in model.weights:
            # TensorFlow writes "/job:localhost/replica:0/task:0/device:GPU:0".
            return str(getattr(variable.value, "device", "")).rpartition("device:")[2]
    except Exception:
        pass  # from code of the model: a report is worth more than the name of a device
    return ""
