"""One codec between Python's values, Spanner's messages and JSON.

Unlike Google's client, BYTES are raw ``bytes`` on both sides (base64 only on the wire), and a JSON
``null`` is told apart from a NULL. Text becomes values in :mod:`spanctl.spanner.texts`.
"""

import base64
import datetime as dt
import decimal
import json
import math
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.cloud.spanner_v1 import JsonObject
from google.cloud.spanner_v1.data_types import Interval
from google.cloud.spanner_v1.param_types import (
    BOOL,
    BYTES,
    DATE,
    FLOAT32,
    FLOAT64,
    INT64,
    INTERVAL,
    JSON,
    NUMERIC,
    STRING,
    TIMESTAMP,
    UUID,
    Array,
    Struct,
    StructField,
)
from google.cloud.spanner_v1.types import Type, TypeCode
from google.protobuf.struct_pb2 import ListValue, Value

from spanctl.errors import UsageError
from spanctl.spanner.texts import check_length, json_parser, parse_json, parse_text, text_parser
from spanctl.spanner.types import length_limit, type_from_name, type_name

__all__ = [
    "BOOL",
    "BYTES",
    "DATE",
    "FLOAT32",
    "FLOAT64",
    "INT64",
    "INTERVAL",
    "JSON",
    "NUMERIC",
    "STRING",
    "TIMESTAMP",
    "UUID",
    "Array",
    "DatetimeWithNanoseconds",
    "Interval",
    "JsonObject",
    "Struct",
    "StructField",
    "Type",
    "TypeCode",
    "check_length",
    "decoder",
    "display",
    "encode",
    "encode_row",
    "infer_type",
    "json_parser",
    "length_limit",
    "parse_json",
    "parse_text",
    "text_parser",
    "to_json",
    "type_from_name",
    "type_name",
]

_NUMERIC_SCALE = 9
_NUMERIC_DIGITS = 29  # before the decimal point
_MICROSECONDS = len("2026-01-31T08:00:00.123456Z")


# -- Python to the wire


def _timestamp(value: dt.datetime) -> str:
    aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    nanoseconds = (getattr(value, "nanosecond", 0) or aware.microsecond * 1000) % 1_000_000_000
    whole = aware.astimezone(dt.UTC).replace(tzinfo=None, microsecond=0)
    text = dt.datetime.isoformat(whole, timespec="seconds")
    if not nanoseconds:
        return f"{text}Z"
    return f"{text}.{nanoseconds:09d}".rstrip("0") + "Z"


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numeric(value: decimal.Decimal) -> str:
    exponent = value.normalize(_EXACT).as_tuple().exponent if value.is_finite() else None
    if not isinstance(exponent, int) or exponent < -_NUMERIC_SCALE:
        msg = "a NUMERIC has at most 9 digits after the decimal point"
        raise UsageError(msg, hint="round the value first")
    if value and value.adjusted() >= _NUMERIC_DIGITS:
        msg = "a NUMERIC has at most 29 digits before the decimal point"
        raise UsageError(msg)
    return format(value, "f")


_EXACT = decimal.Context(prec=decimal.MAX_PREC, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)


def _json(value: Any) -> str:  # noqa: ANN401 - a JsonObject
    return value.serialize() or "null"


def _base64(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode("ascii")


def _set_list(message: Value, value: Iterable[Any]) -> None:
    items = message.list_value.values
    message.list_value.SetInParent()
    for item in value:
        _set(items.add(), item)


def _set_float(message: Value, value: float) -> None:
    if math.isfinite(value):
        message.number_value = value
    else:
        message.string_value = str(_float(value))


def _set_bool(message: Value, value: bool) -> None:  # noqa: FBT001, RUF100 - the value itself
    message.bool_value = value


def _set_null(message: Value, _value: None) -> None:
    message.null_value = 0


_TEXTS: dict[type, Callable[[Any], str]] = {
    str: str,
    int: int.__repr__,
    decimal.Decimal: _numeric,
    DatetimeWithNanoseconds: _timestamp,
    dt.datetime: _timestamp,
    dt.date: dt.date.isoformat,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
    JsonObject: _json,
    uuid.UUID: str,
    Interval: str,
}
_SETTERS: dict[type, Callable[[Value, Any], None]] = {
    type(None): _set_null,
    bool: _set_bool,
    float: _set_float,
    list: _set_list,
    tuple: _set_list,
}


def _set(message: Value, value: Any) -> None:  # noqa: ANN401 - a value of any Spanner type
    kind = type(value)
    if kind is str:
        message.string_value = value
    elif (setter := _SETTERS.get(kind)) is not None:
        setter(message, value)
    elif (text := _TEXTS.get(kind)) is not None:
        message.string_value = text(value)
    else:
        _set_other(message, value)


def _set_other(message: Value, value: Any) -> None:  # noqa: ANN401 - a value of an unknown type
    if isinstance(value, Value):
        message.CopyFrom(value)
        return
    for base in type(value).__mro__:
        if (setter := _SETTERS.get(base)) is not None:
            setter(message, value)
            return
        if (text := _TEXTS.get(base)) is not None:
            message.string_value = text(value)
            return
    msg = f"a value of type {type(value).__qualname__} can't be sent to Spanner"
    hint = (
        "pass None, bool, int, float, Decimal, str, bytes, date, datetime, UUID, JsonObject, list"
    )
    raise UsageError(msg, hint=hint)


def _guarded(fill: Callable[..., None], *args: Any) -> None:  # noqa: ANN401 - messages and values
    try:
        fill(*args)
    except UnicodeEncodeError:
        msg = "a STRING holds a lone surrogate, which is no Unicode character"
        raise UsageError(msg) from None


def encode(value: Any) -> Value:  # noqa: ANN401 - a value of any Spanner type
    """Return a Python value as Spanner's message.

    A time without a zone is taken as UTC. A ``Value`` that was encoded before is copied.

    Raises:
        UsageError: Its type has no Spanner type, or it is out of the range of a NUMERIC.
    """
    message = Value()
    _guarded(_set, message, value)
    return message


def encode_row(row: Iterable[Any]) -> ListValue:
    """Return one row's values as Spanner's message: three times as fast as value by value.

    Raises:
        UsageError: As :func:`encode`.
    """
    message = ListValue()
    _guarded(_set_all, message.values.add, row)
    return message


def _set_all(add: Callable[[], Value], row: Iterable[Any]) -> None:
    for value in row:
        if type(value) is str:
            add().string_value = value
        else:
            _set(add(), value)


_INFERRED: tuple[tuple[type | tuple[type, ...], Type], ...] = (
    (bool, BOOL),
    (int, INT64),
    (float, FLOAT64),
    (str, STRING),
    ((bytes, bytearray, memoryview), BYTES),
    (decimal.Decimal, NUMERIC),
    (dt.datetime, TIMESTAMP),
    (dt.date, DATE),
    (JsonObject, JSON),
    (uuid.UUID, UUID),
    (Interval, INTERVAL),
)


def infer_type(value: Any) -> Type | None:  # noqa: ANN401 - a value of any Spanner type
    """Return the Spanner type of a Python value; None where it says nothing (None, an empty list).

    Raises:
        UsageError: Its type has no Spanner type, or a list mixes types.
    """
    if value is None:
        return None
    for kinds, inferred in _INFERRED:
        if isinstance(value, kinds):
            return inferred
    if isinstance(value, list | tuple):
        return _infer_array(value)
    msg = f"a value of type {type(value).__qualname__} has no Spanner type"
    raise UsageError(msg, hint="convert it, or name its type in param_types")


def _infer_array(value: Iterable[Any]) -> Type | None:
    found = [kind for item in value if (kind := infer_type(item)) is not None]
    if not found:
        return None
    if any(kind != found[0] for kind in found) or found[0].code is TypeCode.ARRAY:
        msg = "the type of a list can't be told from its elements"
        raise UsageError(msg, hint="name its type in param_types")
    array: Type = Array(found[0])
    return array


# -- the wire to Python


def _read_timestamp(message: Value) -> dt.datetime:
    text = message.string_value
    value = dt.datetime.fromisoformat(text)  # keeps 6 digits
    if len(text) <= _MICROSECONDS:
        return value
    exact: dt.datetime = DatetimeWithNanoseconds.from_rfc3339(text)
    return exact


def _read_float(message: Value) -> float:
    return float(message.string_value) if message.string_value else message.number_value


_READERS: dict[int, Callable[[Value], Any]] = {
    TypeCode.BOOL: lambda message: message.bool_value,
    TypeCode.INT64: lambda message: int(message.string_value),
    TypeCode.ENUM: lambda message: int(message.string_value),
    TypeCode.FLOAT64: _read_float,
    TypeCode.FLOAT32: _read_float,
    TypeCode.STRING: lambda message: message.string_value,
    TypeCode.BYTES: lambda message: base64.b64decode(message.string_value),
    TypeCode.PROTO: lambda message: base64.b64decode(message.string_value),
    TypeCode.DATE: lambda message: dt.date.fromisoformat(message.string_value),
    TypeCode.TIMESTAMP: _read_timestamp,
    TypeCode.NUMERIC: lambda message: decimal.Decimal(message.string_value),
    TypeCode.JSON: lambda message: JsonObject.from_str(message.string_value),
    TypeCode.UUID: lambda message: uuid.UUID(message.string_value),
    TypeCode.INTERVAL: lambda message: Interval.from_str(message.string_value),
}


def decoder(kind: Type) -> Callable[[Value], Any]:
    """Return the function that reads messages of one type: NULL as None, an ARRAY as a list.

    A TIMESTAMP is a ``datetime`` in UTC, and a ``DatetimeWithNanoseconds`` only where it needs
    to be; a STRUCT is a tuple. A type of the future comes as what its message holds.
    """
    read = _READERS.get(kind.code, lambda message: message.string_value)
    if kind.code is TypeCode.ARRAY:
        read = _array_reader(decoder(kind.array_element_type))
    elif kind.code is TypeCode.STRUCT:
        read = _struct_reader([decoder(field.type_) for field in kind.struct_type.fields])
    return lambda message: None if message.HasField("null_value") else read(message)


def _array_reader(element: Callable[[Value], Any]) -> Callable[[Value], Any]:
    return lambda message: [element(item) for item in message.list_value.values]


def _struct_reader(parts: list[Callable[[Value], Any]]) -> Callable[[Value], Any]:
    def read(message: Value) -> Any:  # noqa: ANN401 - a tuple of values of any type
        pairs = zip(parts, message.list_value.values, strict=True)
        return tuple(part(item) for part, item in pairs)

    return read


# -- Python to people and programs


def to_json(value: Any) -> Any:  # noqa: ANN401 - a value of any Spanner type
    """Return a value as JSON-able data.

    INT64 are JSON numbers, also beyond 2^53, where JavaScript would round them; NaN and the
    infinities are the strings ``NaN``, ``Infinity``, ``-Infinity``; NUMERIC and times are
    strings, BYTES base64, JSON itself.

    Raises:
        UsageError: It is no value of Spanner's.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, JsonObject):
        return json.loads(_json(value))
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    for base in type(value).__mro__:
        if (text := _TEXTS.get(base)) is not None:
            return text(value)
    msg = f"a value of type {type(value).__qualname__} has no JSON form"
    raise UsageError(msg)


def display(value: Any) -> str:  # noqa: ANN401 - a value of any Spanner type
    """Return a value as text for people: NULL, true, numbers, RFC 3339 times, JSON for the rest."""
    if value is None:
        return "NULL"
    plain = to_json(value)
    if isinstance(plain, str) and not isinstance(value, JsonObject):
        return plain
    return json.dumps(plain, ensure_ascii=False)
