"""Time as one seam: what is the time now, and how a time is written."""

import math
import time
from datetime import UTC, datetime, timedelta

from spanctl.errors import UsageError

_LONGEST = 60
_LENGTHS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds of a clock that never goes back."""
    return time.monotonic()


def rfc3339(value: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC, with microseconds and ``Z``."""
    utc = value.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


def parse_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 time; digits beyond microseconds are dropped.

    Raises:
        UsageError: The text is no RFC 3339 time with an offset.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is not a time"
        raise UsageError(msg, hint="write a time as 2026-01-31T08:00:00Z") from error
    if value.tzinfo is None:
        msg = f"{text!r} has no time zone"
        raise UsageError(msg, hint="end a time with Z or an offset such as +02:00")
    return value.astimezone(UTC)


def parse_duration(text: str) -> float:
    """Read a length of time in seconds: ``30``, ``1.5s``, ``500ms``, ``5m``, ``2h``, ``1d``.

    Raises:
        UsageError: The text is none, or not above zero.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        value = float(number) * _LENGTHS[text[len(number) :] or "s"]
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value < math.inf:
        msg = f"{text[:_LONGEST]!r} is no length of time"
        raise UsageError(msg, hint="write 30s, 5m or 2h")
    return value


def parse_interval(text: str) -> float | None:
    """Read how often something is done, in seconds; None for ``0`` or ``0s``: not at all.

    Raises:
        UsageError: As :func:`parse_duration` raises.
    """
    return None if text in {"0", "0s"} else parse_duration(text)


def parse_since(text: str) -> datetime:
    """Read a point in the past: an age (``90s``, ``15m``, ``24h``, ``7d``, ``2w``) or RFC 3339.

    Raises:
        UsageError: The text is neither.
    """
    ages = "give an age such as 1h or 7d"
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isdecimal():
        try:
            return now() - timedelta(seconds=int(number) * _UNITS[unit])
        except (OverflowError, ValueError) as error:
            msg = f"{text[:20]!r} is too long ago"
            raise UsageError(msg, hint=ages) from error
    try:
        return parse_rfc3339(text)
    except UsageError as error:
        msg = error.message if len(text) <= _LONGEST else f"{text[:_LONGEST]!r}... is not a time"
        raise UsageError(msg, hint=f"{ages}, or {error.hint}") from None
