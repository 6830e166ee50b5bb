"""Spanner's types by their GoogleSQL names, as ``INFORMATION_SCHEMA`` and people write them."""

import re
from functools import lru_cache

from google.cloud.spanner_v1.types import Type, TypeCode

_NAMES = {
    "BOOL": TypeCode.BOOL,
    "BOOLEAN": TypeCode.BOOL,
    "BYTES": TypeCode.BYTES,
    "DATE": TypeCode.DATE,
    "FLOAT32": TypeCode.FLOAT32,
    "FLOAT64": TypeCode.FLOAT64,
    "INT64": TypeCode.INT64,
    "INTERVAL": TypeCode.INTERVAL,
    "JSON": TypeCode.JSON,
    "NUMERIC": TypeCode.NUMERIC,
    "STRING": TypeCode.STRING,
    "TIMESTAMP": TypeCode.TIMESTAMP,
    "UUID": TypeCode.UUID,
}
_ARRAY = re.compile(r"ARRAY\s*<(?P<element>.+)>(\s*\(.*\))?", re.IGNORECASE | re.DOTALL)
_SCALAR = re.compile(
    r"(?P<name>[A-Za-z0-9]+)(\s*\(\s*(?P<length>[0-9]+|0x[0-9a-f]+|MAX)\s*\))?", re.IGNORECASE
)


@lru_cache(maxsize=512)
def _parse(name: str) -> tuple[Type, int | None]:
    text = name.strip()
    if array := _ARRAY.fullmatch(text):
        element, length = _parse(array["element"])
        if element.code is not TypeCode.ARRAY:
            return Type(code=TypeCode.ARRAY, array_element_type=element), length
    elif scalar := _SCALAR.fullmatch(text):
        code = _NAMES.get(scalar["name"].upper())
        sized = code in {TypeCode.STRING, TypeCode.BYTES}
        if code is not None and (sized or not scalar["length"]):
            limit = (scalar["length"] or "MAX").upper()
            return Type(code=code), None if limit == "MAX" else int(limit, 0)
    msg = f"{name!r} is no type; write one of {', '.join(sorted(_NAMES))}, or ARRAY<...> of one"
    raise ValueError(msg)


def type_from_name(name: str) -> Type:
    """Return the type of a GoogleSQL name: ``INT64``, ``STRING(MAX)``, ``ARRAY<STRING(36)>``.

    Raises:
        ValueError: It is no name of a type that values can be given for.
    """
    return Type(_parse(name)[0])


def length_limit(name: str) -> int | None:
    """Return the limit in a type's name: characters of a STRING, bytes of a BYTES, None for MAX.

    For an array it is the limit of each element.

    Raises:
        ValueError: It is no name of a type.
    """
    return _parse(name)[1]


def type_name(kind: Type) -> str:
    """Return the GoogleSQL name of a type, without lengths."""
    if kind.code is TypeCode.ARRAY:
        return f"ARRAY<{type_name(kind.array_element_type)}>"
    if kind.code is TypeCode.STRUCT:
        fields = (f"{field.name} {type_name(field.type_)}" for field in kind.struct_type.fields)
        return f"STRUCT<{', '.join(field.strip() for field in fields)}>"
    return str(getattr(kind.code, "name", kind.code))  # a code of the future is a bare number
