"""Records as one line of strict JSON, and back: what comes in is checked against the types that the records declare.

A stored report may be torn, edited or made up. Reading one therefore either
gives a record that is what its class says, or raises `ValueError`.
"""

import dataclasses
import enum
import functools
import json
import math
import types
import typing

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
    "Diagnosis": {"scale": "ratio"},
    "Precision": {"rung": "level"},
}
_NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_SHOWN = 80


def dumps(record):
    """Returns a record as one line of JSON in ASCII, which knows no NaN and no infinity: they become strings."""
    return json.dumps(_plain(record), allow_nan=False, separators=(",", ":"))


def loads(cls, text):
    """Returns the record that `dumps` wrote.

    Args:
        cls: The record's dataclass. Its annotations are the schema: `bool`,
            `int`, `float`, `str`, enumerations, dataclasses, `X | None`,
            `dict[str, X]`, `tuple[X, ...]`, `tuple[X, X]`, a `Literal` of
            strings, and unions of dataclasses that a `Literal` field of one
            name tells apart.
        text: str or bytes.

    Raises:
        ValueError: If `text` is not such a record.
    """
    try:
        fields = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        return _record(cls, cls.__name__, fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as cause:
        shown = repr(text[:_SHOWN] if isinstance(text, (str, bytes)) else text)
        raise ValueError(
            f"A stored report must be one JSON object as written by `{cls.__name__}.to_json()`. "
            f"Received: {shown[: 8 * _SHOWN]}. Expected the fields of {cls.__name__}, but {cause}. "
            "Try reading the file line by line, one report a line."
        ) from cause


def _plain(value):
    """Records, enumerations, tuples and NumPy numbers as what JSON knows."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    value = float(value)
    return value if math.isfinite(value) else str(value)


def _object(pairs):
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _no_constant(word):
    raise ValueError(f"{word} is no JSON")


def _record(cls, name, value):
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    readers, fields = _readers(cls), {}
    for field, stored in rename_old_fields(cls, value).items():
        if field in readers:
            fields[field] = readers[field](field, stored)
    return cls(**fields)


def rename_old_fields(cls, fields):
    """Returns the JSON fields of a record under their names of today.

    Args:
        cls: The record's dataclass.
        fields: dict of JSON values by field name. Where both an old name and the
            one of today are there, that of today counts.
    """
    renamed = dict(fields)
    for old, new in OLD_NAMES.get(cls.__name__, {}).items():
        if old in renamed:
            stored = renamed.pop(old)
            renamed.setdefault(new, stored)
    return renamed


@functools.cache
def _readers(cls):
    return {f.name: _reader(f.type) for f in dataclasses.fields(cls)}


def _reader(kind):
    """The inverse of `_plain` for what a field's annotation says: a function of the field's name and its JSON value."""
    origin, kinds = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in kinds:
        some = _reader(kinds[0])
        return lambda name, value: None if value is None else some(name, value)
    if origin is types.UnionType:
        return functools.partial(_one_of, *_by_tag(kinds))
    if origin is typing.Literal:
        return functools.partial(_literal, kinds)
    if origin is dict:
        return functools.partial(_dictionary, _reader(kinds[1]))
    if kinds:
        is_open = kinds[-1] is Ellipsis
        return functools.partial(_sequence, _reader(kinds[0]), None if is_open else len(kinds))
    if dataclasses.is_dataclass(kind):
        return functools.partial(_record, kind)
    if issubclass(kind, enum.Enum):
        return functools.partial(_member, kind)
    return _number if kind is float else functools.partial(_exactly, kind)


def _by_tag(records):
    """The field that tells the records of a union apart, and value of that field -> record.

    Raises:
        TypeError: If no field of the first record is a `Literal`.
    """
    for field in dataclasses.fields(records[0]):
        if typing.get_origin(field.type) is typing.Literal:
            break
    else:
        raise TypeError(f"no field tells a {records[0].__name__} from another record")
    record_of = {}
    for record in records:
        tag = next(f for f in dataclasses.fields(record) if f.name == field.name)
        for value in typing.get_args(tag.type):
            record_of[value] = record
    return field.name, record_of


def _one_of(tag, record_of, name, value):
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    if tag not in value:
        raise ValueError(f"`{name}` is without the field `{tag}`")
    return _record(record_of[_literal(tuple(record_of), tag, value[tag])], name, value)


def _literal(values, name, value):
    if not isinstance(value, str) or value not in values:
        raise _wrong(name, f"one of the strings {', '.join(values)}", value)
    return value


def _number(name, value):
    if type(value) is float:
        return value
    if isinstance(value, str) and value in _NUMBERS:
        return _NUMBERS[value]
    if type(value) is not int:
        raise _wrong(name, f"a number, or one of the strings {', '.join(_NUMBERS)}", value)
    return float(value)


def _exactly(kind, name, value):
    # Not isinstance: to Python, true is an integer.
    if type(value) is not kind:
        raise _wrong(name, {int: "an integer", str: "a string", bool: "true or false"}[kind], value)
    return value


def _member(kind, name, value):
    if not isinstance(value, str) or value not in kind.__members__:
        raise _wrong(name, f"the name of a {kind.__name__}", value)
    return kind[value]


def _dictionary(reader, name, value):
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return {key: reader(name, v) for key, v in value.items()}


def _sequence(reader, length, name, value):
    if not isinstance(value, list) or length not in (None, len(value)):
        raise _wrong(name, "a list" if length is None else f"a list of {length}", value)
    return tuple(reader(name, v) for v in value)


def _wrong(name, expected, value):
    return ValueError(f"`{name}` is {repr(value)[:_SHOWN]} where {expected} belongs")
