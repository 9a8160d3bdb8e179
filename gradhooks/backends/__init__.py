"""One folder per framework: compile, differentiate, copy to the host."""

import importlib

from gradhooks.reports.errors import BadInputError

SUPPORTED = ("tensorflow",)


def current():
    """Returns the module for the backend that Keras runs on.

    Raises:
        BadInputError: If gradhooks has no module for it yet.
    """
    import keras

    name = keras.backend.backend()
    if name not in SUPPORTED:
        raise BadInputError(
            f"gradhooks does not support this Keras backend yet. Received: backend={name!r}. "
            f"Expected one of {SUPPORTED}. "
            "Try setting the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
        )
    return importlib.import_module(f"gradhooks.backends.{name}")
