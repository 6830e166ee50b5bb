"""One value as JSON, as plain text for pipes, and as a person reads it."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from spanctl import clock
from spanctl.printable import printable, printable_json
from spanctl_cli.output.model import Document, Kind

_MARKS = str.maketrans(
    {"✓": "+", "✗": "x", "·": "-", "→": "->", "…": "...", "─": "-", "━": "-", "│": "|", "•": "*"}
)
_STEPS = ((60, "s"), (60, "min"), (24, "h"), (365, "d"))


def is_unicode(encoding: str | None) -> bool:
    """Whether text in this encoding holds any character."""
    return (encoding or "").lower().replace("-", "").startswith("utf")


def in_ascii(text: str) -> str:
    """Return text for people with the marks that spanctl itself draws spelled in ASCII."""
    return text.translate(_MARKS)


def jsonable(value: Any) -> Any:  # noqa: ANN401, C901, PLR0911 - one branch a type
    """Return a value as JSON can hold it.

    Times become RFC 3339 in UTC, decimals strings, bytes base64, durations seconds, and floats that
    JSON lacks the strings ``NaN``, ``Infinity`` and ``-Infinity``.

    Raises:
        TypeError: The value is of no known type.
    """
    match value:
        case Enum() | Document():
            return jsonable(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else _no_number(value)
        case datetime():
            return clock.rfc3339(value)
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal() | date() | PurePath() | UUID():
            return str(value)
        case Mapping():
            return {str(key): jsonable(item) for key, item in value.items()}
        case list() | tuple():
            return [jsonable(item) for item in value]
        case set() | frozenset():
            return sorted(jsonable(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: jsonable(getattr(value, item.name)) for item in fields(value)}
    msg = f"no JSON for a {type(value).__name__}"
    raise TypeError(msg)


def _no_number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def dumps(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as JSON text, which a terminal can show."""
    data = jsonable(value)
    return printable_json(json.dumps(data, indent=indent, ensure_ascii=ascii_only, allow_nan=False))


def plain(value: Any) -> str:  # noqa: ANN401, PLR0911 - one branch a type
    """Return a value as text for machines, unescaped: whole, times in UTC, nothing for None.

    A :class:`Document` is JSON text, so that no value of it looks like None.
    """
    data = jsonable(value)
    if isinstance(value, Document):
        return json.dumps(data, ensure_ascii=False)
    match data:
        case None:
            return ""
        case str():
            return data
        case bool():
            return "true" if data else "false"
        case list() if all(isinstance(item, str) and "," not in item for item in data):
            return ",".join(data)
        case list() | dict():
            return json.dumps(data, ensure_ascii=False)
    return str(data)


def human(value: Any, kind: Kind) -> str:  # noqa: ANN401, PLR0911 - one branch a type
    """Return a value as a person reads it on a terminal, on one line; empty for None."""
    match value:
        case None:
            return ""
        case Document():
            return human(value.value, kind)
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value.astimezone():%Y-%m-%d %H:%M:%S} ({age(value)})"
        case timedelta():
            return duration(value.total_seconds())
        case int() | float() if kind is Kind.LEFT and value <= 0:
            return "over"
        case int() | float() if kind in {Kind.DURATION, Kind.LEFT}:
            return duration(value)
        case int() if kind is Kind.NUMBER:
            return f"{value:,}"
        case list() | tuple() | set() | frozenset() if all(isinstance(item, str) for item in value):
            return printable(
                ", ".join(sorted(value) if isinstance(value, set | frozenset) else value)
            )
    return printable(plain(value))


def duration(seconds: float) -> str:
    """Return a length of time in two units at most: ``420 ms``, ``3.2 s``, ``2 min 5 s``."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:  # noqa: PLR2004 - tenths say nothing above that
        return f"{seconds:.1f} s"
    parts: list[str] = []
    rest = round(seconds)
    for size, unit in _STEPS:
        rest, part = divmod(rest, size)
        parts.append(f"{part} {unit}" if part else "")
        if not rest:
            break
    else:
        parts.append(f"{rest} y")
    return " ".join(part for part in parts[::-1][:2] if part)


def age(value: datetime) -> str:
    """Return how far a time is from now, in one unit: ``3 min ago``, ``in 2 h``, ``now``."""
    seconds = (clock.now() - value).total_seconds()
    if abs(seconds) < 1:
        return "now"
    amount: float = abs(seconds)
    for size, unit in _STEPS:
        if amount < size:
            text = f"{int(amount)} {unit}"
            break
        amount /= size
    else:
        text = f"{int(amount)} y"
    return f"{text} ago" if seconds > 0 else f"in {text}"
