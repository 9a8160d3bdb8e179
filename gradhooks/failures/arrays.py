"""Named groups of arrays in one `.npz` file, without pickle.

Reading one trusts nothing: members are stored uncompressed, so that a file is about as large as
what it holds, and a header that promises more than there is is an error.
"""

import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

# A name, such as the path of a variable, and its array.
Labelled = tuple[str, NDArray[Any]]

# Between the parts of a member's name: group, number, kind of its entries, label.
_SEPARATOR = "|"
# Kinds of dtypes that NumPy stores itself: bool, integers, floats, complex, bytes and text.
_PLAIN_KINDS = "biufcSU"
_OBJECTS = {"bytes": bytes, "str": str}


def write_arrays(path: str, groups: Mapping[str, Sequence[Labelled]]) -> None:
    """Writes groups of labelled arrays.

    Args:
        path: The file.
        groups: Pairs (label, array) by name of the group.

    Raises:
        OSError: If the file cannot be written.
        ValueError: For an array that only pickle could store.
    """
    # Not by `np.savez`, which refuses to pickle only in newer versions of NumPy.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for group, labelled in groups.items():
            for number, (label, array) in enumerate(labelled):
                kind, plain = _to_plain(array)
                name = _SEPARATOR.join((group, str(number), kind, label))
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(plain), allow_pickle=False)


def read_arrays(path: str) -> dict[str, list[Labelled]]:
    """Returns the groups that `write_arrays` wrote.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file, is cut off, or would grow in memory.
    """
    groups: dict[str, list[Labelled]] = {}
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as stored:
            for name in stored.files:
                group, _, kind, label = name.split(_SEPARATOR, 3)
                groups.setdefault(group, []).append((label, _from_plain(kind, stored[name])))
    except (OSError, ValueError):
        raise
    except Exception as error:
        # A made-up file may break zipfile and NumPy's reader of headers in any way.
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{os.path.basename(path)} is damaged ({what:.200})") from error
    return groups


def _check_members(path: str) -> None:
    """Raises a `ValueError` for members that take more room in memory than in the file."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    is_packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if is_packed or sum(member.file_size for member in members) > os.path.getsize(path):
        raise ValueError(f"{os.path.basename(path)} is compressed, as no saved failure is")


def _to_plain(array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """The kind of an array's entries, empty for NumPy's own, and the array as NumPy stores it."""
    dtype = array.dtype
    # First, since NumPy counts some of these as its own floats, and cannot read them.
    extended = _extended_dtype(dtype.name)
    if extended is not None and extended == dtype:  # to NumPy, None is float64
        return dtype.name, array.view(f"u{dtype.itemsize}")
    if dtype.kind in _PLAIN_KINDS:
        return "", array
    for kind, entry in _OBJECTS.items():
        if dtype.kind == "O" and all(isinstance(value, entry) for value in array.flat):
            plain = array.astype(entry)
            # NumPy drops zeros at the end.
            if all(a == b for a, b in zip(plain.flat, array.flat, strict=True)):
                return kind, plain
    raise ValueError(f"an array of {dtype} cannot be stored without pickle")


def _from_plain(kind: str, array: NDArray[Any]) -> NDArray[Any]:
    # Entries of no size cost nothing in a file, however many there are.
    if array.dtype.kind not in _PLAIN_KINDS or (array.size and not array.dtype.itemsize):
        raise ValueError(f"an array of {array.dtype} belongs to no saved failure")
    if not kind:
        return array
    if kind in _OBJECTS:
        return array.astype(object)
    dtype = _extended_dtype(kind)
    if dtype is None or array.dtype != np.dtype(f"u{dtype.itemsize}"):
        raise ValueError(f"entries of kind {kind!r} belong to no saved failure")
    return array.view(dtype)


def _extended_dtype(name: str) -> np.dtype[Any] | None:
    """The dtype of a name that is not NumPy's own, such as bfloat16; None if there is none."""
    scalar = getattr(ml_dtypes, name, None)
    is_scalar = isinstance(scalar, type) and issubclass(scalar, np.generic)
    return np.dtype(scalar) if is_scalar else None
