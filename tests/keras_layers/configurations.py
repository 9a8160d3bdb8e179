"""Keras' own layers that have weights or take real inputs, each in three configurations."""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import layers

from tests.keras_layers import compound, plain, preprocessing

# No layers of numbers: they take whole numbers, strings or code of another framework, give no real
# numbers, or have no gradient to check.
LEFT_OUT = {
    "CategoryEncoding": "takes whole numbers",
    "Discretization": "gives whole numbers",
    "FlaxLayer": "another framework",
    "HashedCrossing": "takes whole numbers",
    "Hashing": "takes whole numbers",
    "InputLayer": "takes nothing",
    "IntegerLookup": "takes whole numbers",
    "JaxLayer": "another framework",
    "Lambda": "code of the user",
    "Layer": "a base class",
    "MaxNumBoundingBoxes": "takes boxes",
    "StringLookup": "takes strings",
    "TFSMLayer": "a model from a file",
    "TextVectorization": "takes strings",
    "TorchModuleWrapper": "another framework",
    "Wrapper": "a base class",
}
EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One layer to check.

    Args:
        name: Name of the class.
        number: Which of the three it is.
        make: Makes the layer.
        shapes: Shapes of its inputs, without examples.
        call: How it is called; None for `layer(x)`.
        largest: 0 for normal numbers; above it, whole numbers below it.
    """

    name: str
    number: int
    make: Callable
    shapes: tuple
    call: Callable | None = None
    largest: int = 0

    def __str__(self):
        return f"{self.name}-{self.number}"

    def draw(self):
        """The inputs: one array, or a list of them; those of images lie between 0 and 1."""
        rng = np.random.default_rng(7)
        arrays = []
        for shape in self.shapes:
            size = (EXAMPLES, *shape)
            if self.largest:
                arrays.append(rng.integers(0, self.largest, size))
            elif self.name in preprocessing.IMAGES:
                arrays.append(rng.uniform(0.1, 0.9, size).astype("float32"))
            else:
                arrays.append(rng.normal(size=size).astype("float32"))
        return arrays[0] if len(arrays) == 1 else arrays


def list_configurations():
    """Every `Configuration`, by the name of the layer."""
    found = []
    for name, (shapes, options) in (plain.LAYERS | preprocessing.LAYERS).items():
        shapes = (shapes,) if not isinstance(shapes[0], tuple) else shapes
        for number, keywords in enumerate(options):

            def make(name=name, keywords=keywords):
                return getattr(layers, name)(**keywords)

            largest = plain.WHOLE.get(name, 0)
            found.append(Configuration(name, number, make, shapes, None, largest))
    for name, entries in compound.LAYERS.items():
        for number, (make, shapes, *call) in enumerate(entries):
            found.append(Configuration(name, number, make, shapes, *call))
    return found
