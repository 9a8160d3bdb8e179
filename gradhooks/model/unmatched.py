"""Patterns of `expect` that match nothing: a misspelt one would declare nothing, in silence."""

import difflib
import fnmatch

from gradhooks.model import keras_internals, layer_patterns
from gradhooks.model.compiled_loss import path_of

# Names that are shown for a pattern, the nearest first. A free choice: one is mostly the right one.
_MOST = 3


def describe_unmatched(model, expect):
    """Returns a sentence for each pattern of `expect` that matches nothing, a tuple.

    Variables that are not trained count as well: a layer may be frozen for a
    while.

    Args:
        model: The Keras model.
        expect: Declared mismatches, pairs (path pattern, kind).
    """
    variables = [variable.path for variable in keras_internals.weights_of(model)]
    layers = [path_of(layer) for layer in keras_internals.layers_of(model)]
    sentences = []
    for pattern, kind in expect:
        is_of_step = kind == "untrained"  # what is done to variables, whatever the layers are
        candidates = layers if not is_of_step else []
        is_matched = any(fnmatch.fnmatchcase(path, pattern) for path in variables)
        if is_matched or any(layer_patterns.is_match(path, pattern) for path in candidates):
            continue
        what = "no variable" if is_of_step else "no variable and no layer"
        near = find_near_names(pattern, [*candidates, *variables])
        hint = f"; near it: {', '.join(near)}" if near else ""
        sentences.append(f"expect={{{pattern!r}: {kind!r}}} matches {what} of the model{hint}")
    return tuple(sentences)


def find_near_names(pattern, paths):
    """Returns parts of paths that a pattern may mean, the nearest first.

    Args:
        pattern: A pattern of `fnmatch`.
        paths: Paths of variables and layers.

    Example:

    >>> find_near_names("*/qantizer/*", ["net/quantizer/scale", "net/head/bias"])
    ['quantizer']
    """
    core = pattern.strip("*/")
    size = core.count("/") + 1
    names = {}
    for path in paths:
        parts = path.split("/")
        for start in range(len(parts) - size + 1):
            names["/".join(parts[start : start + size])] = None
    return difflib.get_close_matches(core, names, _MOST)
