"""Records as JSON and back; what is read is checked against the types that the records declare.

A stored report may be cut off, edited or made up. Reading one therefore either
gives a record that is what its class says, or raises `ValueError`.
"""

import dataclasses
import enum
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Names of fields in reports that earlier versions stored, by record: old name -> the field.
OLD_NAMES = {
    "DerivativeComparison": {"step": "step_size"},
    "GradientComparison": {
        "analytic": "analytic_norm",
        "numeric": "received_norm",
        "error": "rounding",
        "scale": "ratio",
    },
    "Diagnosis": {"scale": "ratio", "is_culprit": "is_leading"},
    "Precision": {"rung": "level"},
}
_NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KINDS = {int: "an integer", str: "a string", bool: "true or false"}
# Characters of a text or a value that a message shows: a free choice, about one line.
_SHOWN = 80

_Record = typing.TypeVar("_Record")
# Reads one JSON value: a function of the name of its field and the value.
_Reader = Callable[[str, Any], Any]


def dumps(record: Any) -> str:
    """Returns a record as one line of JSON in ASCII.

    NaN and infinities, which JSON does not know, become strings.
    """
    return json.dumps(_plain(record), allow_nan=False, separators=(",", ":"))


def loads(cls: type[_Record], text: str | bytes) -> _Record:
    """Returns the record that `dumps` wrote.

    Args:
        cls: The record's dataclass. Its annotations are the schema: `bool`,
            `int`, `float`, `str`, enumerations, dataclasses, `X | None`,
            `dict[str, X]`, `tuple[X, ...]`, `tuple[X, X]`, a `Literal` of
            strings, `object` for any JSON value, and unions of dataclasses that a
            `Literal` field of one name tells apart.
        text: str or bytes.

    Raises:
        ValueError: If `text` is not such a record.
    """
    try:
        fields = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        return _record(cls, cls.__name__, fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as cause:
        given: Any = text  # anything may have been passed
        shown = repr(given[:_SHOWN] if isinstance(given, (str, bytes)) else given)
        raise ValueError(
            "A stored report must be one JSON object as written by "
            f"`{cls.__name__}.to_json()`. Received: {shown[: 8 * _SHOWN]}. Expected the fields of "
            f"{cls.__name__}, but {cause}. Try reading the file line by line, one report a line."
        ) from cause


def rename_old_fields(cls: type, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON fields of a record under their present names.

    Args:
        cls: The record's dataclass.
        fields: JSON values by field name. If a field is there under its old name
            and its present one, the present one counts.
    """
    renamed = dict(fields)
    for old, new in OLD_NAMES.get(cls.__name__, {}).items():
        if old in renamed:
            stored = renamed.pop(old)
            renamed.setdefault(new, stored)
    return renamed


def _plain(value: Any) -> Any:
    """Records, enumerations, tuples and NumPy numbers as types that JSON knows."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, dict):
        mapping = typing.cast("dict[Any, Any]", value)
        return {str(key): _plain(inner) for key, inner in mapping.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in typing.cast("Sequence[Any]", value)]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, np.bool_):
        return bool(typing.cast(Any, value))
    if isinstance(value, (int, np.integer)):
        return int(typing.cast(int, value))
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _refuse_constant(word: str) -> typing.NoReturn:
    raise ValueError(f"{word} is no JSON")


def _record(cls: Any, name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(name, "an object", value)
    stored = rename_old_fields(cls, typing.cast("dict[str, Any]", value))
    readers, fields = _readers(cls), {}
    for field, inner in stored.items():
        if field in readers:
            fields[field] = readers[field](field, inner)
    return cls(**fields)


@functools.cache
def _readers(cls: Any) -> dict[str, _Reader]:
    return {f.name: _reader(f.type) for f in dataclasses.fields(cls)}


def _reader(kind: Any) -> _Reader:
    """The inverse of `_plain` for the annotation of a field."""
    if kind is object:
        return _as_it_is
    origin, kinds = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in kinds:
        return functools.partial(_optional, _reader(kinds[0]))
    if origin is types.UnionType:
        return functools.partial(_one_of, *_by_tag(kinds))
    if origin is typing.Literal:
        return functools.partial(_literal, kinds)
    if origin is dict:
        return functools.partial(_dictionary, _reader(kinds[1]))
    if origin is tuple:
        length = None if kinds[-1] is Ellipsis else len(kinds)
        return functools.partial(_sequence, _reader(kinds[0]), length)
    if dataclasses.is_dataclass(kind):
        return functools.partial(_record, kind)
    if issubclass(kind, enum.Enum):
        return functools.partial(_member, kind)
    return _number if kind is float else functools.partial(_exactly, kind)


def _by_tag(records: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """The `Literal` field that tells the records of a union apart, and its values -> record.

    Raises:
        TypeError: If the first record has no `Literal` field.
    """
    literals = [f for f in dataclasses.fields(records[0]) if _is_literal(f.type)]
    if not literals:
        raise TypeError(f"no field tells a {records[0].__name__} from another record")
    tag = literals[0].name
    record_of: dict[str, Any] = {}
    for record in records:
        (field,) = (f for f in dataclasses.fields(record) if f.name == tag)
        record_of |= dict.fromkeys(typing.get_args(field.type), record)
    return tag, record_of


def _is_literal(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Literal


def _optional(reader: _Reader, name: str, value: Any) -> Any:
    return None if value is None else reader(name, value)


def _one_of(tag: str, record_of: dict[str, Any], name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(name, "an object", value)
    fields = typing.cast("dict[str, Any]", value)
    if tag not in fields:
        raise ValueError(f"`{name}` is without the field `{tag}`")
    record = record_of[_literal(tuple(record_of), tag, fields[tag])]
    return _record(record, name, fields)


def _literal(values: tuple[str, ...], name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in values:
        raise _mismatch(name, f"one of the strings {', '.join(values)}", value)
    return value


def _as_it_is(name: str, value: Any) -> Any:
    """A value of any form, which is checked by whoever knows that."""
    return value


def _number(name: str, value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, str) and value in _NUMBERS:
        return _NUMBERS[value]
    if type(value) is not int:
        raise _mismatch(name, f"a number, or one of the strings {', '.join(_NUMBERS)}", value)
    return float(value)


def _exactly(kind: type, name: str, value: Any) -> Any:
    # Not isinstance: to Python, true is an integer.
    if type(value) is not kind:
        raise _mismatch(name, _KINDS[kind], value)
    return value


def _member(kind: type[enum.Enum], name: str, value: Any) -> enum.Enum:
    if not isinstance(value, str) or value not in kind.__members__:
        raise _mismatch(name, f"the name of a {kind.__name__}", value)
    return kind[value]


def _dictionary(reader: _Reader, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _mismatch(name, "an object", value)
    entries = typing.cast("dict[str, Any]", value)
    return {key: reader(name, inner) for key, inner in entries.items()}


def _sequence(reader: _Reader, length: int | None, name: str, value: Any) -> tuple[Any, ...]:
    entries = typing.cast("list[Any]", value)
    if not isinstance(value, list) or length not in (None, len(entries)):
        raise _mismatch(name, "a list" if length is None else f"a list of {length}", value)
    return tuple(reader(name, inner) for inner in entries)


def _mismatch(name: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"`{name}` is {repr(value)[:_SHOWN]} where {expected} belongs")
