"""Nested structures of arrays as JSON, with the arrays beside it."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gradhooks import backends

# Deeper structures belong to no batch. A free choice: no real one comes near.
_DEEPEST = 50


def take_apart(nested: Any, arrays: list[NDArray[Any]]) -> Any:
    """Returns the structure of a batch in values that JSON knows.

    Args:
        nested: Arrays, ragged tensors and None in lists, tuples and dicts with text as keys.
        arrays: List to which the arrays are appended.

    Raises:
        ValueError: For anything else.
    """
    if nested is None:
        return None
    if type(nested) in (list, tuple):
        return {type(nested).__name__: [take_apart(part, arrays) for part in nested]}
    if isinstance(nested, dict):
        entries = cast("dict[Any, Any]", nested)
        if all(isinstance(key, str) for key in entries):
            return {"dict": {key: take_apart(part, arrays) for key, part in entries.items()}}
    if isinstance(nested, np.ndarray):
        arrays.append(cast("NDArray[Any]", nested))
        return {"array": len(arrays) - 1}
    if backends.current().is_ragged(nested):
        parts = backends.current().disassemble(nested)
        first = len(arrays)
        arrays.extend(np.asarray(part) for part in parts)
        return {"ragged": list(range(first, len(arrays)))}
    raise ValueError(f"a batch with a {type(nested).__name__} cannot be stored without pickle")


def put_together(structure: Any, arrays: Sequence[NDArray[Any]], depth: int = 0) -> Any:
    """Returns the nested structure of which `take_apart` returned the structure.

    Raises:
        ValueError: If it is none, or asks for arrays that are not there.
    """
    if structure is None:
        return None
    if not isinstance(structure, dict) or len(cast("dict[str, Any]", structure)) != 1:
        raise ValueError(f"{structure!r:.80} describes no part of a batch")
    ((kind, content),) = cast("dict[str, Any]", structure).items()
    if depth > _DEEPEST:
        raise ValueError("the batch is nested too deeply")
    if kind == "dict" and isinstance(content, dict):
        entries = cast("dict[str, Any]", content)
        return {key: put_together(part, arrays, depth + 1) for key, part in entries.items()}
    if kind in ("list", "tuple") and isinstance(content, list):
        parts = [put_together(part, arrays, depth + 1) for part in cast("list[Any]", content)]
        return parts if kind == "list" else tuple(parts)
    if kind == "array":
        return _find(content, arrays)
    if kind == "ragged" and isinstance(content, list):
        parts = [_find(number, arrays) for number in cast("list[Any]", content)]
        return backends.current().make_ragged(parts)
    raise ValueError(f"{structure!r:.80} describes no part of a batch")


def _find(number: Any, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if type(number) is not int or not 0 <= number < len(arrays):
        raise ValueError(f"the batch has no array {number!r:.20}")
    return arrays[number]
