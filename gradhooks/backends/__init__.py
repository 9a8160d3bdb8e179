"""One folder per framework: compile, differentiate, copy to the host."""

import importlib

SUPPORTED = ("tensorflow",)


def current():
    """Returns the module for the backend that Keras runs on.

    Raises:
        ValueError: If gradhooks has no module for it yet.
    """
    import keras

    name = keras.backend.backend()
    if name not in SUPPORTED:
        raise ValueError(
            f"gradhooks does not support this Keras backend yet. Received: backend={name!r}. "
            f"Expected one of {SUPPORTED}. "
            "Try setting the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
        )
    return importlib.import_module(f"gradhooks.backends.{name}")
