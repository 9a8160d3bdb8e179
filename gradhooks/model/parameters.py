"""The trainable variables of a model as parameters: where each lies in the flat vector."""

from gradhooks.model import keras_internals
from gradhooks.numerics import layout as layouts


def layout_of(variables):
    """Returns the `Layout` of Keras variables; of a complex one, each part is a parameter of its own."""
    shapes = tuple(
        (*v.shape, 2) if keras_internals.is_complex(v) else tuple(v.shape) for v in variables
    )
    return layouts.Layout(layouts.unique_paths([v.path for v in variables]), shapes)


def remarks(variables, layout):
    """Returns what people must know to read the indices of parameters, a tuple of sentences."""
    found = [
        path
        for path, v in zip(layout.paths, variables, strict=True)
        if keras_internals.is_complex(v)
    ]
    if not found:
        return ()
    return (
        f"{', '.join(found)}: complex; the last index of a parameter is 0 for the real part, 1 for the imaginary",
    )
