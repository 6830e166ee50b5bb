"""Text and JSON to values of Spanner's types, strictly; errors never repeat the value.

For bulk work ask :func:`text_parser` or :func:`json_parser` once a column.
"""

import base64
import binascii
import datetime as dt
import decimal
import json
import math
import re
import uuid
from collections.abc import Callable
from typing import Any

from google.cloud.spanner_v1 import JsonObject
from google.cloud.spanner_v1.data_types import Interval
from google.cloud.spanner_v1.types import Type, TypeCode

from spanctl.spanner import jsontext, timetext
from spanctl.spanner.types import type_name

_INT = re.compile(r"[+-]?[0-9]{1,40}")
_INT_SHORT = 18  # digits that always fit
_FLOAT = re.compile(
    r"[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|inf|infinity)|nan", re.IGNORECASE
)
_NUMERIC = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_WIDE = decimal.Context(prec=10_000)
_SCALE, _DIGITS = 9, 29  # of a NUMERIC, after and before the decimal point

Parser = Callable[[Any], Any]


def _int64(text: str) -> int:
    if not _INT.fullmatch(text):
        msg = "is no whole number"
        raise ValueError(msg)
    return _in_range(int(text))


def _in_range(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        msg = "is out of the range of INT64"
        raise ValueError(msg)
    return value


def _float64(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        msg = "is no number"
        raise ValueError(msg)
    value = float(text)
    if math.isinf(value) and "i" not in text.lower():
        msg = "is out of the range of FLOAT64"
        raise ValueError(msg)
    return value


def _float32(text: str) -> float:
    return jsontext.narrow(_float64(text))


def _numeric(text: str) -> decimal.Decimal:
    if not _NUMERIC.fullmatch(text):
        msg = "is no decimal number"
        raise ValueError(msg)
    return _fitting(decimal.Decimal(text))


def _fitting(value: decimal.Decimal) -> decimal.Decimal:
    exponent = value.normalize(_WIDE).as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_SCALE:
        msg = "has more than 9 digits after the decimal point"
        raise ValueError(msg)
    if value and value.adjusted() >= _DIGITS:
        msg = "has more than 29 digits before the decimal point"
        raise ValueError(msg)
    return value


def _bool(text: str) -> bool:
    match text.lower():
        case "true":
            return True
        case "false":
            return False
    msg = "is neither true nor false"
    raise ValueError(msg)


def _string(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            msg = "holds a lone surrogate, which is no Unicode character"
            raise ValueError(msg) from None
    return text


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        msg = "is no base64"
        raise ValueError(msg) from None


def _date(text: str) -> dt.date:
    try:
        if _DATE.fullmatch(text):
            return dt.date.fromisoformat(text)
    except ValueError:
        pass
    msg = "is no date such as 2026-01-31"
    raise ValueError(msg)


def _uuid(text: str) -> uuid.UUID:
    if not _UUID.fullmatch(text):
        msg = "is no UUID"
        raise ValueError(msg)
    return uuid.UUID(text)


def _interval(text: str) -> Interval:
    try:
        return Interval.from_str(text)
    except ValueError:
        msg = "is no ISO 8601 duration such as P1DT2H"
        raise ValueError(msg) from None


def _load(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return jsontext.load(text)
    except json.JSONDecodeError:
        msg = "is no JSON"
        raise ValueError(msg) from None


def _json_text(text: str) -> JsonObject:
    return _json_value(_load(text))


_FROM_TEXT: dict[int, Callable[[str], Any]] = {
    TypeCode.BOOL: _bool,
    TypeCode.BYTES: _bytes,
    TypeCode.DATE: _date,
    TypeCode.FLOAT32: _float32,
    TypeCode.FLOAT64: _float64,
    TypeCode.INT64: _int64,
    TypeCode.INTERVAL: _interval,
    TypeCode.JSON: _json_text,
    TypeCode.NUMERIC: _numeric,
    TypeCode.STRING: _string,
    TypeCode.TIMESTAMP: timetext.timestamp,
    TypeCode.UUID: _uuid,
}


def text_parser(kind: Type) -> Callable[[str], Any]:
    """Return the function that reads text of one type; an ARRAY is written as a JSON array.

    The function raises ValueError with a reason that completes "the value ..." without it.

    Raises:
        ValueError: Values of this type can't be given as text.
    """
    if kind.code is TypeCode.ARRAY:
        from_json = json_parser(kind)
        return lambda text: from_json(_load(text))
    parser = _FROM_TEXT.get(kind.code)
    if parser is None:
        msg = f"is of type {type_name(kind)}, which can't be given as text"
        raise ValueError(msg)
    return parser


def parse_text(text: str, kind: Type) -> Any:  # noqa: ANN401 - what the type says
    """Read text as a value of a type.

    INT64 in decimal digits, BOOL true or false, BYTES base64, ARRAY and JSON as JSON. A TIMESTAMP
    has a zone, as RFC 3339, BigQuery, PostgreSQL or strftime write it (``Z``, ``UTC``, ``+01:00``,
    ``+0100``, ``+01``), and up to 9 digits of a second.

    Raises:
        ValueError: With the reason, never with the value.
    """
    return text_parser(kind)(text)


# -- JSON


def _json_value(value: Any) -> JsonObject:  # noqa: ANN401 - any JSON value
    return JsonObject(_floats(value))


def _floats(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace the Decimals of an exact JSON reader, and refuse what Spanner can't hold."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | decimal.Decimal):
        return jsontext.json_number(value)
    if isinstance(value, dict):
        return {_string(key): _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return _string(value) if isinstance(value, str) else value


def _json_bool(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if not isinstance(value, bool):
        msg = "is neither true nor false"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for every refusal
    return value


def _json_int(value: Any) -> int:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return _int64(value)
    if type(value) is not int:
        msg = "is no whole number"
        raise ValueError(msg)
    return _in_range(value)


def _json_float(value: Any) -> float:  # noqa: ANN401 - any JSON value
    return _float_by(jsontext.exact_double, value)


def _json_float32(value: Any) -> float:  # noqa: ANN401 - any JSON value
    return _float_by(jsontext.exact_single, value)


def _float_by(convert: Callable[[Any], float], value: Any) -> float:  # noqa: ANN401 - any JSON value
    if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        msg = "is no number"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for every refusal
    return convert(value)


def _json_numeric(value: Any) -> decimal.Decimal:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return _numeric(value)
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        msg = "is no decimal number"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for every refusal
    exact = value if isinstance(value, decimal.Decimal) else decimal.Decimal(repr(value))
    return _fitting(exact)


def _from_string(read: Callable[[str], Any]) -> Parser:
    def parse(value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if not isinstance(value, str):
            msg = "is no string"
            raise ValueError(msg)  # noqa: TRY004 - one kind of error for every refusal
        return read(value)

    return parse


_FROM_JSON: dict[int, Parser] = {
    **{code: _from_string(read) for code, read in _FROM_TEXT.items()},
    TypeCode.BOOL: _json_bool,
    TypeCode.FLOAT32: _json_float32,
    TypeCode.FLOAT64: _json_float,
    TypeCode.INT64: _json_int,
    TypeCode.JSON: _json_value,
    TypeCode.NUMERIC: _json_numeric,
}


def json_parser(kind: Type) -> Parser:
    """Return the function that reads JSON values of one type; ``null`` is the caller's to handle.

    Raises:
        ValueError: Values of this type can't be given as JSON.
    """
    if kind.code is TypeCode.ARRAY:
        element = json_parser(kind.array_element_type)

        def parse(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
            if not isinstance(value, list):
                msg = "is no array"
                raise ValueError(msg)  # noqa: TRY004 - one kind of error for every refusal
            return [None if item is None else element(item) for item in value]

        return parse
    parser = _FROM_JSON.get(kind.code)
    if parser is None:
        msg = f"is of type {type_name(kind)}, which can't be given as JSON"
        raise ValueError(msg)
    return parser


def parse_json(value: Any, kind: Type) -> Any:  # noqa: ANN401 - any JSON value, what the type says
    """Read a JSON value as a value of a type; ``null`` becomes None.

    INT64 and NUMERIC may be numbers or strings, FLOAT64 also "NaN", "Infinity" and "-Infinity".
    A number that the column would hold as another one is refused.

    Raises:
        ValueError: With the reason, never with the value.
    """
    return None if value is None else json_parser(kind)(value)


def check_length(value: Any, limit: int | None) -> None:  # noqa: ANN401 - a STRING, BYTES or array
    """Refuse a value, or an element of it, that is longer than its column allows.

    Args:
        value: A parsed value; None is always short enough.
        limit: Characters of a STRING, bytes of a BYTES; None for no limit.

    Raises:
        ValueError: It is longer.
    """
    if limit is None or value is None:
        return
    for item in value if isinstance(value, list) else (value,):
        if item is not None and len(item) > limit:
            unit = "bytes" if isinstance(item, bytes) else "characters"
            msg = f"has {len(item):,} {unit}, {limit:,} are allowed"
            raise ValueError(msg)
