"""One package per framework, with the members of `base.Backend`; `common` needs no framework."""

import importlib

from gradhooks.reports.errors import BadInputError

SUPPORTED = ("tensorflow", "jax")


def current():
    """Returns the package for the backend that Keras runs on.

    Raises:
        BadInputError: If gradhooks has no package for it yet.
    """
    import keras

    name = keras.backend.backend()
    if name not in SUPPORTED:
        raise BadInputError(
            f"gradhooks does not support this Keras backend yet. Received: backend={name!r}. "
            f"Expected one of {SUPPORTED}. "
            "Try setting the environment variable KERAS_BACKEND=tensorflow before Keras is "
            "imported."
        )
    return importlib.import_module(f"gradhooks.backends.{name}")
