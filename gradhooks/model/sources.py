"""Where code stands: the file and the line of a layer's `call`, or of a loss."""

import dataclasses
import functools
import importlib.metadata
import inspect
import pathlib
import sysconfig

import keras

from gradhooks.model import compiled_loss, keras_internals

# Methods that have no part in what a layer computes from its inputs.
_BESIDE_CALL = {
    "__init__",
    "__new__",
    "build",
    "build_from_config",
    "compute_dtype",
    "compute_mask",
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_build_config",
    "get_config",
}


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
    place = _place(call) or _place_of_part(type(layer))
    return Source(name, place, "" if place else _package(type(layer)))


def _place_of_part(cls):
    """Returns where a layer overrides a part of what an inherited `call` computes; empty if not.

    What an inherited `call` of a model computes is layers.
    """
    if issubclass(cls, keras.Model):
        return ""
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if inspect.isfunction(member) and name not in _BESIDE_CALL and _place(member):
                return _place(member)
    return ""


def find_step(model):
    """Returns the `Source` of the training step of a model."""
    step = inspect.getattr_static(type(model), "train_step", None)
    return _source_of("train_step", step)


def find_regularizer(regularizer):
    """Returns the `Source` of a regularizer, an object or a function; empty for None."""
    if regularizer is None:
        return Source()
    name = getattr(regularizer, "__name__", type(regularizer).__name__)
    return _source_of(name, _function_of(regularizer))


def find_loss(objective, output):
    """Returns (name, `Source`) of the loss of an output.

    Args:
        objective: The `Objective`.
        output: Number of the output, in the order of the flat outputs.
    """
    if objective.loss_fn is not None:
        name = getattr(objective.loss_fn, "__name__", type(objective.loss_fn).__name__)
        return name, _source_of(name, _function_of(objective.loss_fn))
    model = objective.model
    if keras_internals.has_own_compute_loss(model):
        call = inspect.getattr_static(type(model), "compute_loss", None)
        return "compute_loss", _source_of("compute_loss", call)
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
    return name, _source_of(name, _function_of(function))


def _function_of(called):
    """Returns the function that runs when an object is called; a function itself."""
    if inspect.isroutine(called) or hasattr(called, "python_function"):
        return called
    return inspect.getattr_static(type(called), "__call__", called)


def _source_of(name, function):
    place = _place(function)
    return Source(name, place, "" if place else _package(function))


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


def _package(defined):
    """Returns name and version of the installed package that defines a class or a function."""
    try:
        filename = inspect.getfile(defined)
    except (TypeError, OSError):
        return ""
    if not _is_installed(filename):
        return ""
    name = defined.__module__.partition(".")[0]
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name
