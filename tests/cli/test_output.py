"""The output: every format whole, ids never cut, data never read as markup or control codes."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl import clock
from spanctl.errors import UsageError
from spanctl_cli.output import (
    Column,
    Format,
    Kind,
    Listing,
    Record,
    Section,
    Shape,
    emit,
    emit_event,
    shaped,
)
from spanctl_cli.output.values import age, duration, human, jsonable, plain

TXN = "8c6d7a0e-5c1b-5f6e-9f3c-0123456789ab"
WHEN = datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
COLUMNS = (
    Column("txn_id", kind=Kind.ID),
    Column("committed", kind=Kind.TIME),
    Column("outcome", kind=Kind.STATE),
    Column("rows", kind=Kind.NUMBER),
    Column("reason"),
    Column("executor", extra=True),
)
ROW = {
    "txn_id": TXN,
    "committed": WHEN,
    "outcome": "COMMITTED",
    "rows": 28000,
    "reason": "fix [bold]it[/bold]\tnow\n\x1b[31mred",
    "executor": "sa@example",
}
SAFE_REASON = "fix [bold]it[/bold]\\tnow\\n\\x1b[31mred"


class Colour(StrEnum):
    RED = "red"


def listing(*rows: dict[str, Any]) -> Listing:
    return Listing("things", COLUMNS, rows, empty="nothing yet")


def written(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_a_piped_table_is_tab_separated_whole_and_in_utc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One header line, one line a row, whatever the data holds; extra fields stay out."""
    emit(listing(ROW, {"txn_id": "b"}))
    lines = written(capsys).splitlines()
    assert lines[0] == "txn_id\tcommitted\toutcome\trows\treason"
    assert lines[1].split("\t") == [
        TXN,
        "2026-01-31T06:00:00.123456Z",
        "COMMITTED",
        "28000",
        SAFE_REASON,
    ]
    assert lines[2:] == ["b\t\t\t\t"]


def test_json_is_one_versioned_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are items, every field is there, and data is as it was."""
    emit(listing(ROW, {"txn_id": "b"}), Format.JSON)
    document = json.loads(written(capsys))
    assert document["schema"] == "spanctl.things/v1"
    first, second = document["items"]
    assert first == {**ROW, "committed": "2026-01-31T06:00:00.123456Z"}
    assert second == dict.fromkeys(ROW) | {"txn_id": "b"}


def test_facts_of_a_listing_stand_beside_its_items(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said of the whole listing is in JSON too."""
    emit(Listing("things", COLUMNS[:1], [], facts={"complete": False}), Format.JSON)
    assert json.loads(written(capsys)) == {
        "schema": "spanctl.things/v1",
        "complete": False,
        "items": [],
    }


def test_jsonl_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line parses alone and names its schema."""
    emit(listing(ROW, ROW), Format.JSONL)
    lines = written(capsys).splitlines()
    assert len(lines) == 2
    assert all(json.loads(line)["schema"] == "spanctl.things/v1" for line in lines)


def test_csv_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Quoting keeps line breaks and commas inside their cell."""
    emit(listing({**ROW, "reason": 'a "b", c\nd'}), Format.CSV)
    (row,) = csv.DictReader(io.StringIO(written(capsys)))
    assert row["reason"] == 'a "b", c\nd'
    assert row["executor"] == "sa@example"


def test_name_is_the_ids_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """For xargs: the first id column, one a line."""
    emit(Listing("x", COLUMNS[::-1], [ROW, ROW]), Format.NAME)
    assert written(capsys) == f"{TXN}\n{TXN}\n"


def test_fields_choose_and_order(capsys: pytest.CaptureFixture[str]) -> None:
    """--fields works in every format, reaches extra fields, and ignores spaces."""
    emit(listing(ROW), fields="executor, rows")
    assert written(capsys) == "executor\trows\nsa@example\t28000\n"
    emit(listing(ROW), Format.JSON, fields="rows")
    assert json.loads(written(capsys))["items"] == [{"rows": 28000}]


@pytest.mark.parametrize("result", [listing(ROW), Record("thing", COLUMNS, ROW)])
def test_an_unknown_field_lists_those_that_exist(
    result: Listing | Record, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written, and the hint is the answer."""
    with pytest.raises(UsageError, match="unknown fields: nope, other") as caught:
        emit(result, fields="rows,nope,other")
    assert caught.value.hint.startswith("known are: txn_id, committed")
    assert written(capsys) == ""


def test_wide_shows_what_tables_leave_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field is there, of sections too; --fields still chooses."""
    emit(listing(ROW), Format.WIDE)
    header, row = written(capsys).splitlines()
    assert header == "txn_id\tcommitted\toutcome\trows\treason\texecutor"
    assert row.endswith("\tsa@example")
    inner = Listing("inner", (Column("a"), Column("b", extra=True)), [{"a": 1, "b": 2}])
    emit(Record("thing", COLUMNS, ROW, (Section("in", "In", inner),)), Format.WIDE)
    assert written(capsys).endswith("\nin\na\tb\n1\t2\n")
    emit(listing(ROW), Format.WIDE, fields="rows")
    assert written(capsys) == "rows\n28000\n"


@pytest.mark.parametrize("output_format", [None, Format.WIDE, Format.CSV])
def test_a_header_can_be_left_out(
    output_format: Format | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """--no-header writes rows alone, and --fields of the shape in force are heeded."""
    with shaped(Shape(fields="rows,outcome", header=False)):
        emit(listing(ROW), output_format)
        emit(Record("thing", COLUMNS, ROW), output_format)
    values = "28000,COMMITTED\n" if output_format is Format.CSV else "28000\tCOMMITTED\n"
    single = values if output_format is Format.CSV else "rows\t28000\noutcome\tCOMMITTED\n"
    assert written(capsys) == values + single
    emit(listing(ROW), output_format)
    assert written(capsys).startswith("txn_id")


@pytest.mark.parametrize("output_format", [Format.JSON, Format.JSONL, Format.NAME])
def test_formats_without_a_header_stay_as_they_are(
    output_format: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    """--no-header takes nothing from them."""
    emit(listing(ROW), output_format)
    with shaped(Shape(header=False)):
        whole = written(capsys)
        emit(listing(ROW), output_format)
    assert written(capsys) == whole


def record() -> Record:
    inner = Listing("statements", (Column("sql"),), [{"sql": "SELECT 1"}])
    return Record("thing", COLUMNS, ROW, (Section("statements", "Statements", inner),))


def test_a_record_holds_its_sections(capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON a section is a member; in a pipe it follows with a header of its own."""
    emit(record(), Format.JSON)
    document = json.loads(written(capsys))
    assert document["schema"] == "spanctl.thing/v1"
    assert document["statements"] == [{"sql": "SELECT 1"}]
    emit(record())
    assert written(capsys).endswith("\n\nstatements\nsql\nSELECT 1\n")
    emit(record(), Format.JSON, fields="statements")
    assert set(json.loads(written(capsys))) == {"schema", "statements"}


def test_rows_are_streamed(capsys: pytest.CaptureFixture[str]) -> None:
    """A long result leaves before its end is known."""

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(1000):
            yield {"rows": number}
        assert len(capsys.readouterr().out.splitlines()) > 500

    emit(Listing("x", COLUMNS, rows()), Format.JSONL)


def test_events_are_lines_under_jsonl_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Live events never spoil another format."""
    emit_event("thing.event", {"state": "Running"}, Format.JSONL)
    assert json.loads(written(capsys)) == {"schema": "spanctl.thing.event/v1", "state": "Running"}
    for other in (None, Format.TABLE, Format.JSON, Format.CSV, Format.NAME):
        emit_event("thing.event", {"state": "Running"}, other)
    assert written(capsys) == ""


@pytest.mark.parametrize("output_format", list(Format))
def test_a_narrow_encoding_loses_nothing(
    output_format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under LC_ALL=C characters are escaped, and JSON stays JSON."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    row = {"name": "Zürich 日本 \udc80"}
    emit(Listing("x", (Column("name", kind=Kind.ID),), [row]), output_format)
    text = raw.getvalue().decode("ascii")
    if output_format.is_json:
        loaded = json.loads(text)
        shown = loaded["items"][0] if output_format is Format.JSON else loaded
        assert shown["name"] == row["name"]
    else:
        assert "Z\\xfcrich \\u65e5\\u672c \\udc80" in text


class Terminal(io.StringIO):
    """A stdout that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


Draw = Callable[..., str]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Return a function that emits a result on a terminal of a width, and returns what it shows."""

    def run(result: Listing | Record, width: int, *, colour: bool = False, **options: Any) -> str:
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")
        if not colour:
            monkeypatch.setenv("NO_COLOR", "1")
        emit(result, **options)
        return screen.getvalue()

    return run


@pytest.mark.parametrize("width", [1, 20, 36, 40, 60, 80, 100, 120, 200, 400])
def test_ids_are_whole_at_any_width(draw: Draw, width: int) -> None:
    """Each id is on one line, to be copied, and nothing else is clipped either."""
    for result in (listing(ROW, ROW), record()):
        shown = draw(result, width)
        assert TXN in shown
        assert "…" not in shown
        joined = "".join(shown.split())
        for word in ("COMMITTED", "28,000", "2026-01-31"):
            assert word in joined


def test_a_wide_terminal_shows_a_table_and_a_narrow_one_blocks(draw: Draw) -> None:
    """No line of a table is wider than the terminal."""
    wide = draw(listing(ROW, ROW), 140).splitlines()
    assert wide[0].split()[:3] == ["txn", "id", "committed"]
    assert all(len(line) <= 140 for line in wide)
    narrow = draw(listing(ROW, ROW), 60).splitlines()
    assert narrow.count(f"txn id     {TXN}") == 2
    assert "" in narrow


def test_a_terminal_shows_a_table_without_its_headings(draw: Draw) -> None:
    """--no-header holds there too, and blocks keep their names: they would say nothing else."""
    with shaped(Shape(header=False)):
        assert draw(listing(ROW), 200).startswith(TXN)
        assert draw(listing(ROW), 40).startswith("txn id")


@pytest.mark.parametrize("width", [40, 80, 120, 250])
def test_wide_and_combining_characters_keep_columns_aligned(draw: Draw, width: int) -> None:
    """What takes two cells, or none, is counted as such, in data and in headings."""
    from rich.cells import cell_len

    columns = (Column("ключ", title="表", kind=Kind.ID), Column("値", title="値段"))
    words = ("日本語テキスト", "e\u0301a\u0308", "plain", "👩👧 family")
    rows = [{"ключ": TXN[: 4 + n], "値": word} for n, word in enumerate(words)]
    lines = draw(Listing("x", columns, rows), width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    starts = {
        cell_len(line[: line.index(word)]) for line, word in zip(lines[1:], words, strict=True)
    }
    assert starts == {9}
    assert cell_len(lines[0][: lines[0].index("値段")]) == 9


def test_data_is_never_markup_nor_a_control_code(draw: Draw) -> None:
    """What looks like markup is shown; what would drive the terminal is escaped."""
    for width in (60, 200):
        shown = draw(listing(ROW), width, colour=True)
        assert "[bold]it[/bold]" in shown
        assert "\x1b[31m" not in shown
        assert "\\x1b[31mred" in shown.replace("\n", "")


def test_text_wraps_below_itself(draw: Draw) -> None:
    """Between words, beside its heading; what has no such place stays in one piece for copying."""
    columns = (Column("note"), Column("path"), Column("txn_id", kind=Kind.ID))
    path = f"a path: /{'x' * 60}"
    row = {"note": "送金 was asked for by the desk, and twice", "path": path, "txn_id": TXN}
    assert draw(Record("thing", columns, row), 34).splitlines() == [
        "note    送金 was asked for by the",
        "        desk, and twice",
        f"path    {path}",
        f"txn id  {TXN}",
    ]


def test_colour_obeys_no_color_and_dumb_terminals(
    draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR and TERM=dumb mean not one escape sequence."""
    assert "\x1b[" in draw(listing(ROW), 140, colour=True)
    assert "\x1b" not in draw(listing(ROW), 140)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    emit(listing(ROW))
    assert "\x1b" not in screen.getvalue()


def test_an_empty_listing_says_so_to_people_only(
    draw: Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person reads a sentence, a script a header."""
    emit(listing())
    assert written(capsys) == "txn_id\tcommitted\toutcome\trows\treason\n"
    assert draw(listing(), 80) == "nothing yet\n"


def test_times_are_local_and_relative_on_a_terminal(
    draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People read their own clock and how long ago that was."""
    monkeypatch.setattr(clock, "now", lambda: WHEN + timedelta(minutes=3, seconds=7))
    assert "2026-01-31 06:00:00 (3 min ago)" in draw(listing(ROW), 200)


def test_other_formats_do_not_change_on_a_terminal(draw: Draw) -> None:
    """JSON is the same bytes for eyes and for pipes."""
    shown = draw(listing(ROW), 20, colour=True, output_format=Format.JSON)
    assert json.loads(shown)["items"][0]["txn_id"] == TXN


def test_a_view_is_for_terminals_alone(draw: Draw, capsys: pytest.CaptureFixture[str]) -> None:
    """A result's own drawing replaces the table, and nothing else."""
    from spanctl_cli.output import text

    result = Listing("x", COLUMNS, [ROW], view=lambda: [text("[drawn]")])
    emit(result)
    assert TXN in written(capsys)
    assert draw(result, 80) == "[drawn]\n"
    assert TXN in draw(result, 80, fields="txn_id")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_plain_value_becomes_valid_json(value: object) -> None:
    """NaN and bytes included, and the plain text of it is never an accident of repr()."""
    text = json.dumps(jsonable(value), allow_nan=False)
    assert json.loads(text) == jsonable(value)
    assert isinstance(plain(value), str)


@pytest.mark.parametrize(
    ("value", "as_json", "as_text"),
    [
        (Decimal("1.50"), "1.50", "1.50"),
        (b"\x00\xff", "AP8=", "AP8="),
        (timedelta(seconds=90), 90.0, "90.0"),
        (date(2026, 1, 31), "2026-01-31", "2026-01-31"),
        (Colour.RED, "red", "red"),
        (Path("a/b"), "a/b", "a/b"),
        (UUID(TXN), TXN, TXN),
        ({"b", "a"}, ["a", "b"], "a,b"),
        (("a", "b,c"), ["a", "b,c"], '["a", "b,c"]'),
        (float("nan"), "NaN", "NaN"),
        (float("-inf"), "-Infinity", "-Infinity"),
        (2**63 - 1, 2**63 - 1, "9223372036854775807"),
        (True, True, "true"),
        (None, None, ""),
    ],
)
def test_values_have_one_form(value: object, as_json: object, as_text: str) -> None:
    """JSON and piped text of each type are fixed."""
    assert jsonable(value) == as_json
    assert plain(value) == as_text


def test_an_unknown_type_is_a_bug_not_a_repr() -> None:
    """An object never leaks as ``<object at 0x...>``."""
    with pytest.raises(TypeError, match="no JSON for a object"):
        jsonable(object())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.42, "420 ms"),
        (3.21, "3.2 s"),
        (59.7, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90000, "1 d 1 h"),
        (400 * 86400, "1 y 35 d"),
        (-5, "-5.0 s"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    """Two units at most, the larger first."""
    assert duration(seconds) == text
    assert human(timedelta(seconds=seconds), Kind.DURATION) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=30), "30 s ago"),
        (timedelta(hours=-2), "in 2 h"),
        (timedelta(days=800), "2 y ago"),
    ],
)
def test_ages_are_relative_to_now(
    ago: timedelta, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past and future are told apart."""
    now = datetime(2026, 6, 1, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    assert age(now - ago) == text
