"""Where code stands: the file and the line of a layer's `call`, or of a loss."""

import dataclasses
import functools
import importlib.metadata
import inspect
import pathlib
import sysconfig

import keras

from gradhooks.model import compiled_loss, keras_internals


@dataclasses.dataclass(frozen=True)
class Source:
    """Code that people may want to open.

    Args:
        name: What it is, for people: the class of a layer, the name of a function.
        place: `"file:line"`; empty for code of an installed package, or unknown.
        package: `"keras 3.12.0"` for code of an installed package; else empty.
    """

    name: str = ""
    place: str = ""
    package: str = ""


def find_source(layer):
    """Returns the `Source` of what a layer computes; empty for None.

    Of a layer that wraps a function (`Activation`, `Lambda`), that of the function.
    """
    if layer is None:
        return Source()
    name = type(layer).__name__
    for attribute in ("activation", "function"):
        function = getattr(layer, attribute, None)
        if callable(function) and _place(function):
            return Source(name, _place(function))
    call = inspect.getattr_static(type(layer), "call", None)
    return Source(name, _place(call), _package(type(layer)))


def find_loss(objective, output):
    """Returns (name, `Source`) of the loss of an output.

    Args:
        objective: The `Objective`.
        output: Number of the output, in the order of the flat outputs.
    """
    if objective.loss_fn is not None:
        name = getattr(objective.loss_fn, "__name__", type(objective.loss_fn).__name__)
        return name, Source(name, _place(objective.loss_fn))
    model = objective.model
    if keras_internals.has_own_compute_loss(model):
        call = inspect.getattr_static(type(model), "compute_loss", None)
        return "compute_loss", Source("compute_loss", _place(call))
    container = compiled_loss.compile_loss(model)
    losses = list(keras.tree.flatten(container._user_loss)) if container else []
    if not losses:
        return "", Source()
    loss = losses[min(output, len(losses) - 1)]
    name = compiled_loss.name_of_loss(loss)
    function = loss
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, keras.losses.Loss):
        inner = getattr(function, "fn", None)
        function = inner or inspect.getattr_static(type(function), "call", None)
    return name, Source(name, _place(function))


def _place(function):
    """Returns `"file:line"` of a function of the user; empty for others."""
    function = inspect.unwrap(function) if callable(function) else None
    # What tf.function and the like keep the user's function in.
    function = getattr(function, "python_function", function)
    code = getattr(function, "__code__", None) or getattr(
        getattr(function, "__func__", None), "__code__", None
    )
    if code is None or _is_installed(code.co_filename):
        return ""
    return f"{code.co_filename}:{code.co_firstlineno}"


def _is_installed(filename):
    path = pathlib.Path(filename)
    packages = pathlib.Path(sysconfig.get_paths()["purelib"])
    return path.is_relative_to(packages)


def _package(kind):
    """Returns name and version of the installed package in which a class is defined."""
    try:
        filename = inspect.getfile(kind)
    except (TypeError, OSError):
        return ""
    if not _is_installed(filename):
        return ""
    name = kind.__module__.partition(".")[0]
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name
