"""Which test files run on which backend of Keras: those that import no other framework."""

import ast
import functools
import os
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
FRAMEWORKS = ("tensorflow", "jax", "torch")


def is_for(path, backend):
    """Whether a test file runs on a backend of Keras."""
    return needs_of(pathlib.Path(path)) <= {backend}


@functools.cache
def needs_of(path):
    """Returns the frameworks that a file imports when it is imported itself: a frozen set."""
    return frozenset(_collect(path, set()))


def _collect(path, seen):
    if path in seen or not path.exists():
        return set()
    seen.add(path)
    needs = set()
    for name in _imported(path):
        top, *rest = name.split(".")
        if top in FRAMEWORKS:
            needs.add(top)
        elif name.startswith("gradhooks.backends.") and rest[1] in FRAMEWORKS:
            needs.add(rest[1])
        elif top in ("tests", "tools"):
            needs |= _collect(ROOT.joinpath(top, *rest).with_suffix(".py"), seen)
            needs |= _collect(ROOT.joinpath(top, *rest, "__init__.py"), seen)
    return needs


def _imported(path):
    """Returns the names of the modules that a file imports at its top level."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names
