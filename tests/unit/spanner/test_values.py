"""The codec between Python, Spanner's messages, JSON and text."""

import datetime as dt
import decimal
import math
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.errors import UsageError
from spanctl.spanner import jsontext, values
from spanctl.spanner.values import DatetimeWithNanoseconds, JsonObject

SECRET = "hunter2-the-secret"  # noqa: S105 - looked for in error messages


def through(value, kind):
    return values.decoder(values.type_from_name(kind))(values.encode(value))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "INT64"),
        (-(2**63), "INT64"),
        (2**63 - 1, "INT64"),
        (True, "BOOL"),
        (0.1, "FLOAT64"),
        (-0.0, "FLOAT64"),
        (math.inf, "FLOAT64"),
        (-math.inf, "FLOAT32"),
        ("", "STRING"),
        ("Zürich \x00\u2028", "STRING"),
        (b"", "BYTES"),
        (bytes(range(256)), "BYTES"),
        (decimal.Decimal("-1.500000001"), "NUMERIC"),
        (dt.date(1, 1, 1), "DATE"),
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), "TIMESTAMP"),
        (dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), "TIMESTAMP"),
        (uuid.UUID(int=7), "UUID"),
        ([], "ARRAY<STRING>"),
        (["a", None], "ARRAY<STRING>"),
        ([b"\xff"], "ARRAY<BYTES>"),
        (JsonObject({"a": [1, None, "x"]}), "JSON"),
        (JsonObject([1, 2]), "JSON"),
        (JsonObject("text"), "JSON"),
    ],
)
def test_values_come_back_as_they_went(value, kind):
    """Every value of every type survives the way to Spanner's message and back."""
    back = through(value, kind)
    assert back == value
    assert type(back) is type(value)


def test_nan_comes_back():
    """NaN, which equals nothing, survives too."""
    assert math.isnan(through(math.nan, "FLOAT64"))


@pytest.mark.parametrize("fraction", [1, 999_999_999, 123_456_789, 500])
def test_nanoseconds_survive(fraction):
    """All 9 digits of a TIMESTAMP are kept where Python's own datetime would drop 3."""
    value = DatetimeWithNanoseconds(2026, 1, 31, 8, nanosecond=fraction, tzinfo=dt.UTC)
    assert through(value, "TIMESTAMP").nanosecond == fraction


def test_a_json_null_is_not_null():
    """JSON's null and SQL's NULL stay two things."""
    assert through(None, "JSON") is None
    assert through(JsonObject(None), "JSON") == JsonObject(None)
    assert values.encode(JsonObject(None)).string_value == "null"


def test_times_are_sent_in_utc():
    """A time with an offset is sent in UTC, one without a zone is taken as UTC."""
    plus = dt.timezone(dt.timedelta(hours=2))
    assert values.encode(dt.datetime(2026, 1, 1, 1, tzinfo=plus)).string_value == (
        "2025-12-31T23:00:00Z"
    )
    naive = dt.datetime(2026, 1, 1, 1, 0, 0, 500000)  # noqa: DTZ001 - the promise
    assert values.encode(naive).string_value == "2026-01-01T01:00:00.5Z"


@given(
    st.lists(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats()
        | st.text()
        | st.binary()
        | st.decimals(-(10**20), 10**20, places=9)
        | st.dates()
        | st.datetimes(timezones=st.just(dt.UTC))
        | st.lists(st.none() | st.text())
    )
)
def test_a_row_is_its_values(row):
    """Encoding a row at once gives exactly the messages of its values."""
    assert list(values.encode_row(row).values) == [values.encode(value) for value in row]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a": 1},
        {1},
        1j,
        decimal.Decimal("NaN"),
        decimal.Decimal("0.1234567891"),
        decimal.Decimal("1e29"),
        decimal.Decimal("1e999999"),
        f"{SECRET}\ud800",
        [f"{SECRET}\ud800"],
    ],
)
def test_what_spanner_has_no_type_for_is_refused(value):
    """A value that can't be sent is a usage error that doesn't repeat it."""
    with pytest.raises(UsageError) as caught:
        values.encode(value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(UsageError):
        values.encode_row([value])


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "BOOL"),
        (1, "INT64"),
        (1.0, "FLOAT64"),
        ("x", "STRING"),
        (b"x", "BYTES"),
        (decimal.Decimal(1), "NUMERIC"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "TIMESTAMP"),
        (dt.date(2026, 1, 1), "DATE"),
        (JsonObject({}), "JSON"),
        (uuid.UUID(int=1), "UUID"),
        ([None, 1], "ARRAY<INT64>"),
    ],
)
def test_types_are_told_from_values(value, name):
    """A parameter's type follows from its Python value."""
    assert values.infer_type(value) == values.type_from_name(name)


@pytest.mark.parametrize("value", [None, [], [None]])
def test_nothing_tells_no_type(value):
    """NULL and empty lists leave the type to Spanner."""
    assert values.infer_type(value) is None


@pytest.mark.parametrize("value", [[1, "a"], [[1]], object(), {"a": 1}])
def test_types_are_not_guessed(value):
    """Mixed lists and unknown objects are refused."""
    with pytest.raises(UsageError):
        values.infer_type(value)


@pytest.mark.parametrize(
    ("name", "written", "limit"),
    [
        ("INT64", "INT64", None),
        ("string(36)", "STRING", 36),
        (" STRING(MAX) ", "STRING", None),
        ("BYTES(0x400)", "BYTES", 1024),
        ("BOOLEAN", "BOOL", None),
        ("ARRAY<STRING(5)>", "ARRAY<STRING>", 5),
        ("ARRAY<FLOAT32>(vector_length=>128)", "ARRAY<FLOAT32>", None),
    ],
)
def test_type_names(name, written, limit):
    """Types are read as INFORMATION_SCHEMA and people write them."""
    kind = values.type_from_name(name)
    assert values.type_name(kind) == written
    assert values.length_limit(name) == limit


@pytest.mark.parametrize(
    "name", ["", "TEXT", "INT64(5)", "ARRAY<ARRAY<INT64>>", "STRING(-1)", "A<"]
)
def test_unknown_types_are_refused(name):
    """What is no type is refused, with the list of those that are."""
    with pytest.raises(ValueError, match="INT64"):
        values.type_from_name(name)


def test_types_from_names_are_not_shared():
    """Whoever changes a type that was asked for changes nobody else's."""
    values.type_from_name("INT64").code = values.TypeCode.STRING
    assert values.type_from_name("INT64").code == values.TypeCode.INT64


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INT64", "-9223372036854775808", -(2**63)),
        ("INT64", "+007", 7),
        ("FLOAT64", "1e-3", 0.001),
        ("FLOAT64", "-Infinity", -math.inf),
        ("BOOL", "TRUE", True),
        ("NUMERIC", "1e2", decimal.Decimal(100)),
        ("NUMERIC", "0.10000000000", decimal.Decimal("0.1")),
        ("DATE", "2024-02-29", dt.date(2024, 2, 29)),
        ("TIMESTAMP", "2026-01-31t08:00:00z", dt.datetime(2026, 1, 31, 8, tzinfo=dt.UTC)),
        (
            "TIMESTAMP",
            "2026-01-31 08:00:00.25+02:00",
            dt.datetime(2026, 1, 31, 6, 0, 0, 250000, dt.UTC),
        ),
        ("BYTES", "AAEC/w==", b"\x00\x01\x02\xff"),
        ("STRING", " x ", " x "),
        ("JSON", '{"a": 1}', JsonObject({"a": 1})),
        ("ARRAY<STRING>", '["a", null]', ["a", None]),
        ("ARRAY<INT64>", '[1, "9223372036854775807"]', [1, 2**63 - 1]),
        (
            "UUID",
            "5F0C1F0E3C1B5D629B0C6B8D2A4C9E11",
            uuid.UUID("5f0c1f0e-3c1b-5d62-9b0c-6b8d2a4c9e11"),
        ),
    ],
)
def test_text_becomes_values(kind, text, value):
    """Text is read as its type says."""
    assert values.parse_text(text, values.type_from_name(kind)) == value


@pytest.mark.parametrize(
    "zone",
    [
        *("Z", "z", " Z", " UTC", "UTC", " utc", " GMT", "GMT", " Etc/UTC", "+00", "-00", " +00"),
        *("+0000", "-00:00", "+00:00", "+00:00:00", " +0000"),
    ],
)
@pytest.mark.parametrize("between", ["T", " "])
def test_utc_as_others_write_it(zone, between):
    """BigQuery, PostgreSQL, strftime and RFC 3339 name UTC in their own ways."""
    for fraction, micro in (("", 0), (".25", 250_000), (".123456", 123_456)):
        got = values.parse_text(f"2026-11-26{between}10:00:00{fraction}{zone}", values.TIMESTAMP)
        assert got == dt.datetime(2026, 11, 26, 10, 0, 0, micro, dt.UTC)


@pytest.mark.parametrize(
    ("zone", "hour", "minute"),
    [
        *[("+01", 9, 0), ("+0100", 9, 0), ("+01:00", 9, 0), (" +0100", 9, 0), ("-05", 15, 0)],
        *[("+0530", 4, 30), ("+05:30", 4, 30), ("-03:30", 13, 30), ("-0330", 13, 30)],
        *[("+14", 20, 0), ("+05:45:00", 4, 15)],
    ],
)
def test_offsets_as_others_write_them(zone, hour, minute):
    """An offset has hours, and minutes with or without a colon; its sign is east of Greenwich."""
    got = values.parse_text(f"2026-11-26 10:00:00{zone}", values.TIMESTAMP)
    day = 25 if zone == "+14" else 26
    assert got == dt.datetime(2026, 11, day, hour, minute, tzinfo=dt.UTC)


def test_nanoseconds_survive_every_zone():
    """The last digits of a second are kept whatever its zone."""
    got = values.parse_text("2026-11-26 10:00:00.123456789 UTC", values.TIMESTAMP)
    assert got.nanosecond == 123456789


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-11-26 10:00:00", "the zone is missing"),
        ("2026-11-26T10:00:00.5", "the zone is missing"),
        ("2026-11-26 10:00:00 Europe/Berlin", "in a zone that has a name"),
        ("2026-11-26 10:00:00 CET", "in a zone that has a name"),
        ("2026-11-26 10:00:00+25", "its zone can't be read"),
        ("2026-11-26 10:00:00+01:75", "its zone can't be read"),
        ("2026-11-26 10:00:00+1", "its zone can't be read"),
        ("2026-11-26 10:00:00  UTC", "its zone can't be read"),
        ("yesterday", "is no time such as 2026-01-31T08:00:00Z"),
        ("2026-02-30 10:00:00 UTC", "no time that exists"),
    ],
)
def test_times_that_are_refused_have_their_reason(text, reason):
    """Only a time without a zone is told that its zone is missing."""
    with pytest.raises(ValueError, match=reason) as caught:
        values.parse_text(text, values.TIMESTAMP)
    assert ("missing" in str(caught.value)) == (reason == "the zone is missing")


@pytest.mark.parametrize(
    "number",
    [
        *("0", "-0.0", "0.1", "1e20", "1E2", "100000000000000000000", "0.30000000000000004"),
        *("9007199254740993", "9223372036854775807", "-9223372036854775808"),
        *("18446744073709551615", "1.7976931348623157e308", "5e-324", "1.0"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "[{}]", '{{"a": [{{"b": {}}}]}}'])
def test_json_keeps_numbers(number, form):
    """A number that Spanner's JSON holds as it is comes through, at any depth."""
    parsed = values.parse_text(form.format(number), values.JSON)
    kept = re.search(r"-?[0-9][0-9.e+-]*", parsed.serialize()).group()
    assert decimal.Decimal(kept) == decimal.Decimal(number)


@pytest.mark.parametrize(
    "number",
    [
        *("3.14159265358979323846", "0.10000000000000001", "123456789012345678901234567890"),
        *("18446744073709551616", "-9223372036854775809", "9007199254740993.0", "1e-400"),
        *("0.1234567890123456789012", "9" * 5000),
    ],
)
@pytest.mark.parametrize("form", ["{}", "[1, {}]", '{{"a": [{{"b": {}}}]}}'])
def test_json_refuses_numbers_that_would_change(number, form):
    """What Spanner's own PARSE_JSON refuses because it doesn't round-trip is refused here too."""
    with pytest.raises(ValueError, match=r"more digits|out of the range"):
        values.parse_text(form.format(number), values.JSON)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "a": 1}}]'])
def test_json_refuses_a_key_twice(text):
    """Which of two values counts is nobody's to guess, at any depth."""
    with pytest.raises(ValueError, match="twice"):
        values.parse_text(text, values.JSON)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("FLOAT64", "3.14159265358979323846"),
        ("FLOAT64", "9007199254740993"),
        ("FLOAT64", "-9007199254740993.0"),
        ("FLOAT64", "1e-400"),
        ("FLOAT64", "1.23456789012345e-320"),
        ("FLOAT64", "0.12345678901234567"),
        ("FLOAT32", "3.14159265"),
        ("FLOAT32", "16777217"),
        ("FLOAT32", "1e-50"),
        ("NUMERIC", "0.1234567891"),
        ("INT64", "1.5"),
        ("INT64", "1e30"),
    ],
)
def test_numbers_of_json_that_a_column_cannot_hold(kind, text):
    """They are refused, alone and in an array, and not rounded."""
    with pytest.raises(ValueError, match=r"digits|whole number"):
        values.parse_json(jsontext.load(text), values.type_from_name(kind))
    with pytest.raises(ValueError, match=r"digits|whole number"):
        values.parse_text(f"[{text}]", values.type_from_name(f"ARRAY<{kind}>"))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("FLOAT64", "0.1", 0.1),
        ("FLOAT64", "0.10000000000000001", 0.1),
        ("FLOAT64", "0.1000000000000000055511151231257827021181583404541015625", 0.1),
        ("FLOAT64", "9007199254740992", 2.0**53),
        ("FLOAT64", "100000000000000000000", 1e20),
        ("FLOAT64", "5e-324", 5e-324),
        ("FLOAT64", "0.0", 0.0),
        ("FLOAT32", "0.1", 0.10000000149011612),
        ("FLOAT32", "0.10000000149011612", 0.10000000149011612),
        ("NUMERIC", "12345678901234567890.5", decimal.Decimal("12345678901234567890.5")),
    ],
)
def test_numbers_of_json_that_a_column_holds(kind, text, value):
    """However many digits a number has that stands for the value, it is that value."""
    assert values.parse_json(jsontext.load(text), values.type_from_name(kind)) == value
    assert values.parse_text(f"[{text}]", values.type_from_name(f"ARRAY<{kind}>")) == [value]


@pytest.mark.parametrize("number", [0.1, 2 / 3, 1e22, 1.5e-300, 123456.789])
def test_every_printed_form_of_a_double_is_taken(number):
    """As Python, C and JavaScript print it: 17 digits are no loss."""
    for form in (repr(number), f"{number:.17g}", f"{number:.16e}", f"{number:.6g}"):
        text = form if float(form) == number else repr(number)
        assert values.parse_json(jsontext.load(text), values.FLOAT64) == number


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("INT64", "9223372036854775808"),
        ("INT64", "1_000"),
        ("INT64", " 1"),
        ("INT64", "\u0661"),
        ("INT64", ""),
        ("INT64", "1.0"),
        ("INT64", "9" * 5000),
        ("FLOAT64", "1_0"),
        ("FLOAT64", "1e309"),
        ("FLOAT64", "0x1p3"),
        ("FLOAT32", "1e39"),
        ("BOOL", "1"),
        ("BOOL", "yes"),
        ("NUMERIC", "0.1234567891"),
        ("NUMERIC", "1" * 30),
        ("NUMERIC", "1e999"),
        ("NUMERIC", "NaN"),
        ("NUMERIC", "1e-999999999"),
        ("DATE", "2023-02-29"),
        ("DATE", "20230228"),
        ("DATE", "0000-01-01"),
        ("TIMESTAMP", "2026-01-31T08:00:00"),
        ("TIMESTAMP", "2026-01-31T24:00:01Z"),
        ("TIMESTAMP", "2026-01-31T08:00:60Z"),
        ("TIMESTAMP", "2026-01-31T08:00:00.1234567890Z"),
        ("TIMESTAMP", "0001-01-01T00:00:00+01:00"),
        ("TIMESTAMP", "9999-12-31T23:59:59-00:01"),
        ("TIMESTAMP", "2026-W05-1T08:00:00Z"),
        ("BYTES", "AAE"),
        ("BYTES", "AA\nE="),
        ("BYTES", "né=="),
        ("STRING", "\ud800"),
        ("JSON", "{'a': 1}"),
        ("JSON", "NaN"),
        ("JSON", "1e999"),
        ("JSON", '["\\ud800"]'),
        ("JSON", "[" * 100_000),
        ("ARRAY<INT64>", "1,2"),
        ("ARRAY<INT64>", '{"a": 1}'),
        ("ARRAY<INT64>", "[1.5]"),
        ("UUID", "5f0c1f0e"),
        ("INTERVAL", "1 day"),
    ],
)
def test_bad_text_is_refused(kind, text):
    """What is no value of the type is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own reason
        values.parse_text(text, values.type_from_name(kind))


@pytest.mark.parametrize(
    "kind",
    [
        "INT64",
        "FLOAT64",
        "FLOAT32",
        "NUMERIC",
        "BOOL",
        "DATE",
        "TIMESTAMP",
        "BYTES",
        "JSON",
        "UUID",
        "INTERVAL",
        "ARRAY<STRING>",
    ],
)
def test_reasons_do_not_repeat_the_value(kind):
    """A refusal can be logged: the value is neither in its text nor in its causes' output."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each has its own reason
        values.parse_text(SECRET, values.type_from_name(kind))
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        ("INT64", "9007199254740993", 9007199254740993),
        ("FLOAT64", 1, 1.0),
        ("FLOAT64", "NaN", None),
        ("NUMERIC", 0.1, decimal.Decimal("0.1")),
        ("NUMERIC", decimal.Decimal("0.123456789"), decimal.Decimal("0.123456789")),
        ("JSON", "text", JsonObject("text")),
        ("JSON", {"a": decimal.Decimal("0.5")}, JsonObject({"a": 0.5})),
        ("STRING", None, None),
        ("ARRAY<BOOL>", [True, None], [True, None]),
    ],
)
def test_json_becomes_values(kind, value, parsed):
    """JSON values are read as their type says."""
    got = values.parse_json(value, values.type_from_name(kind))
    assert got == parsed or (parsed is None and math.isnan(got))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT64", True),
        ("INT64", 1.0),
        ("INT64", 2**63),
        ("FLOAT64", True),
        ("FLOAT64", "1"),
        ("FLOAT64", 10**400),
        ("BOOL", 1),
        ("BOOL", "true"),
        ("STRING", 1),
        ("NUMERIC", True),
        ("NUMERIC", 1e300),
        ("DATE", 20260131),
        ("ARRAY<INT64>", 1),
        ("ARRAY<INT64>", [[1]]),
    ],
)
def test_bad_json_is_refused(kind, value):
    """JSON values of another type are refused, not converted."""
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own reason
        values.parse_json(value, values.type_from_name(kind))


def test_lengths():
    """STRING counts characters, BYTES bytes, arrays their elements."""
    values.check_length("ü" * 5, 5)
    values.check_length(None, 1)
    values.check_length("long", None)
    with pytest.raises(ValueError, match="6 characters, 5 are allowed"):
        values.check_length("ü" * 6, 5)
    with pytest.raises(ValueError, match="6 bytes"):
        values.check_length(b"123456", 5)
    with pytest.raises(ValueError, match="2 characters"):
        values.check_length(["a", None, "ab"], 1)


def test_json_output():
    """Values have one JSON form each: exact numbers, base64, RFC 3339."""
    row = [
        2**60,
        math.nan,
        decimal.Decimal("1.50"),
        b"\xff",
        dt.date(2026, 1, 2),
        JsonObject([1]),
        None,
    ]
    assert values.to_json(row) == [2**60, "NaN", "1.50", "/w==", "2026-01-02", [1], None]


def test_display():
    """People see NULL, plain text and JSON."""
    assert values.display(None) == "NULL"
    assert values.display("a") == "a"
    assert values.display(True) == "true"
    assert values.display(["a", None]) == '["a", null]'
    assert values.display(JsonObject("a")) == '"a"'
