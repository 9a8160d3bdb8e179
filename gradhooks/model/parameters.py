"""The trainable variables of a model as parameters: where each is in the flat vector."""

from gradhooks.model import keras_internals
from gradhooks.numerics import layout as layouts


def layout_of(variables):
    """Returns the `Layout` of Keras variables.

    Real and imaginary part of a complex number are parameters of their own.
    """
    shapes = []
    for variable in variables:
        shape = tuple(variable.shape)
        shapes.append((*shape, 2) if keras_internals.is_complex(variable) else shape)
    paths = layouts.unique_paths([variable.path for variable in variables])
    return layouts.Layout(paths, tuple(shapes))


def remarks(variables, layout):
    """Returns what people must know to read the indices of parameters, a tuple of sentences."""
    complex_paths = []
    for path, variable in zip(layout.paths, variables, strict=True):
        if keras_internals.is_complex(variable):
            complex_paths.append(path)
    if not complex_paths:
        return ()
    return (
        f"{', '.join(complex_paths)}: complex; the last index of a parameter is 0 for the real "
        "part, 1 for the imaginary",
    )
