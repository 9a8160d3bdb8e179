"""What the two corpora are made of: a case, and the small tools that build its model and its batch.

`tests/corpora/mutants` holds models whose gradient is wrong and must be caught,
`tests/corpora/controls` models whose gradient is right (or declared) and must not
fail. Neither knows how gradients are checked.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Mapping

import keras
import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """One model with its batch, and what a check of it must say.

    Args:
        name: Unique name; it is also the test's id.
        build: `build(seed)` returns `(model, x, y)` or
            `(model, x, y, sample_weight)`: a compiled model and one fixed
            batch of NumPy arrays. The seed decides everything random.
        culprit: Mutants only. A substring of the path of the variable that
            must be named.
        place: Mutants only. Where the defect is, pair (kind, name) as a report names it; a
            name alone is that of a layer. None if nothing that can be measured tells.
        reasons: Names of the acceptable reasons, in lower case; empty if any
            reason will do.
        options: Further keyword arguments of the check, such as `expect`.
        large: Whether this is a big network, which runs at one seed by default.
        chaotic: Whether it multiplies rounding so much that training in float32
            is farther from the gradient than elsewhere.
        needs: Module that must be importable; the case is skipped without it.
        note: What is wrong, or why it could look wrong although it is right.
    """

    name: str
    build: Callable
    culprit: str | None = None
    reasons: tuple[str, ...] = ()
    place: tuple[str, str] | str | None = "planted"
    options: Mapping = dataclasses.field(default_factory=dict)
    large: bool = False
    chaotic: bool = False
    needs: str | None = None
    note: str = ""

    def __str__(self):
        return self.name


def seeded(seed):
    """Seeds Keras and its backend, and returns the generator from which a case draws its batch."""
    keras.utils.set_random_seed(seed)
    return np.random.default_rng(seed)


def only_on(backend, module, *names):
    """Returns the cases of these names of a module that one backend alone can import.

    With any other backend there are none.
    """
    if keras.backend.backend() != backend:
        return []
    cases = {case.name: case for case in importlib.import_module(module).CASES}
    return [cases[name] for name in names]


def compiled(model, loss="mse", *, optimizer=None, **options):
    """Compiles `model` with plain gradient descent, and returns it.

    Without XLA on TensorFlow; as `fit` does by default on JAX, where nothing else is compiled.
    """
    is_xla = keras.backend.backend() == "jax" and not options.get("run_eagerly")
    optimizer = optimizer or keras.optimizers.SGD(0.01)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=is_xla, **options)
    return model


def sequential(*layers, loss="mse", **options):
    """Returns a compiled `Sequential` model; the first entry is the shape of the input."""
    shape, *rest = layers
    return compiled(keras.Sequential([keras.Input(shape), *rest], name="network"), loss, **options)


def features(rng, *shape):
    """Standard normal inputs, float32."""
    return rng.normal(size=shape).astype("float32")


def integers(rng, count, *shape):
    """Integers from 0 to `count - 1`, int32: tokens or class labels."""
    return rng.integers(count, size=shape).astype("int32")


@contextlib.contextmanager
def dtype_policy(name):
    """While this is open, new layers get the dtype policy `name`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
