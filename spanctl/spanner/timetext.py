"""Times as text: with a zone, as RFC 3339, BigQuery, PostgreSQL and strftime write them."""

import datetime as dt
import re

from google.api_core.datetime_helpers import DatetimeWithNanoseconds

_TIMESTAMP = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(\.(?P<fraction>[0-9]{1,9}))?(?P<zone>.*)"
)
_UTC = re.compile(r" ?(z|utc|gmt|etc/utc)", re.IGNORECASE)
_OFFSET = re.compile(
    r" ?(?P<sign>[+-])(?P<hours>[0-9]{2})(:?(?P<minutes>[0-5][0-9])(:?(?P<seconds>[0-5][0-9]))?)?"
)


def timestamp(text: str) -> dt.datetime:
    """Return the time that text names, in UTC, to the nanosecond.

    Raises:
        ValueError: It names none, or has no zone; the reason completes "the value ..." without it.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        msg = "is no time such as 2026-01-31T08:00:00Z"
        raise ValueError(msg)
    zone = _zone(match["zone"])
    nanoseconds = int((match["fraction"] or "").ljust(9, "0"))
    try:
        local = dt.datetime.fromisoformat(f"{match['day']}T{match['time']}")
        value = local.replace(tzinfo=zone).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        msg = "is no time that exists in the years 1 to 9999"
        raise ValueError(msg) from None
    if nanoseconds % 1000 == 0:
        return value.replace(microsecond=nanoseconds // 1000)
    return DatetimeWithNanoseconds(*value.timetuple()[:6], nanosecond=nanoseconds, tzinfo=dt.UTC)


def _zone(text: str) -> dt.tzinfo:
    """Read a zone as RFC 3339, BigQuery, PostgreSQL and strftime write it."""
    if _UTC.fullmatch(text):
        return dt.UTC
    if match := _OFFSET.fullmatch(text):
        hours, minutes, seconds = (int(match[n] or 0) for n in ("hours", "minutes", "seconds"))
        offset = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if hours < 24:  # noqa: PLR2004 - hours of a day
            return dt.timezone(-offset if match["sign"] == "-" else offset)
    if not text:
        msg = "is no time such as 2026-01-31T08:00:00Z (the zone is missing)"
    elif re.fullmatch(r" ?[A-Za-z][A-Za-z0-9_/+-]*", text):
        msg = "is a time in a zone that has a name (write UTC, or an offset such as +01:00)"
    else:
        msg = "is no time such as 2026-01-31T08:00:00Z (its zone can't be read)"
    raise ValueError(msg)
