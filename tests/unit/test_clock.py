"""Times are written one way, and read only when they are certain."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl import clock
from spanctl.errors import UsageError

AWARE = st.datetimes(timezones=st.timezones()).filter(lambda value: 1 < value.year < 9999)


@given(AWARE)
def test_a_time_that_is_written_is_read_back(value: datetime) -> None:
    """parse_rfc3339(rfc3339(t)) is t, to the microsecond, in any zone."""
    text = clock.rfc3339(value)
    assert len(text) == len("2026-01-31T06:00:00.000000Z")
    assert clock.parse_rfc3339(text) == value.astimezone(UTC)
    assert text.endswith("Z")


def test_the_form_is_fixed() -> None:
    """Always UTC, always six digits: equal times give equal text."""
    value = datetime(2026, 1, 31, 8, 0, tzinfo=timezone(timedelta(hours=2)))
    assert clock.rfc3339(value) == "2026-01-31T06:00:00.000000Z"


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-01-31T08:00:00", "12", "2026-13-01T00:00Z"]
)
def test_what_is_no_certain_time_is_refused(text: str) -> None:
    """A time without a zone is refused, never guessed."""
    with pytest.raises(UsageError) as caught:
        clock.parse_rfc3339(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_an_age_is_read(monkeypatch: pytest.MonkeyPatch, text: str, age: timedelta) -> None:
    """Ages count back from now."""
    fixed = datetime(2026, 6, 1, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: fixed)
    assert clock.parse_since(text) == fixed - age


@pytest.mark.parametrize("text", ["", "h", "-5m", "1.5h", "5 m", "5y", "m5"])
def test_what_is_no_age_is_refused(text: str) -> None:
    """An age that can't be read is never taken for another."""
    with pytest.raises(UsageError):
        clock.parse_since(text)


@pytest.mark.parametrize("text", ["99999999999999999999d", "\u00b2d"])
def test_an_absurd_age_is_a_usage_error(text: str) -> None:
    """Numbers beyond the calendar, or that only look like digits, end in a clear error."""
    with pytest.raises(UsageError):
        clock.parse_since(text)


@pytest.mark.parametrize(("text", "expected"), [("0s", None), ("0", None), ("2m", 120.0)])
def test_an_interval_may_be_none_at_all(text: str, expected: float | None) -> None:
    """Nothing else is no length of time."""
    assert clock.parse_interval(text) == expected
    with pytest.raises(UsageError, match="no length of time"):
        clock.parse_interval("-1s")
