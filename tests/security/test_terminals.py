"""What others wrote reaches no terminal as it is: any format, any source of text."""

import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from spanctl.printable import UNSAFE
from spanctl_cli import talk
from spanctl_cli.boundary import Failure
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.output import Column, Format, Kind, Listing, Record, Section, emit, emit_event
from spanctl_cli.views.trail import record
from spanctl_cli.views.trail_html import page
from tests.cli import trails

STRINGS: Final = 10_000
_POOL: Final = [
    char
    for code in range(0x110000)
    if UNSAFE.match(char := chr(code)) and not 0xD800 <= code < 0xE000
]
_COLUMNS: Final = tuple(Column(f"c{number}", extra=number > 2) for number in range(4))
Show = Callable[[Callable[[], None]], str]


def hostile(dice: random.Random) -> str:
    """Return text that is half of unsafe characters, with whole sequences among them."""
    parts = [
        dice.choice([dice.choice(_POOL), dice.choice(_POOL), "a", "\x1b]0;x\x07", "\x9b2J", "é"])
        for _ in range(dice.randint(1, 8))
    ]
    return "".join(parts)


class Screen(io.StringIO):
    """A terminal that keeps what it got."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture(params=["terminal", "pipe"])
def show(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Return a function that has something written to stdout and stderr, and returns that."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")

    def run(write: Callable[[], None]) -> str:
        screen = Screen() if request.param == "terminal" else io.StringIO()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        write()
        return screen.getvalue()

    run.terminal = request.param == "terminal"  # type: ignore[attr-defined]
    return run


def texts(count: int) -> Iterator[list[str]]:
    """Yield rows of four strings; ``count`` strings in all."""
    dice = random.Random(20)  # noqa: S311 - no secret
    for _ in range(count // 4):
        yield [hostile(dice) for _ in range(4)]


def check(shown: str, *, but: str = "\n") -> None:
    """Fail unless all of it may be shown."""
    found = UNSAFE.search(shown.translate({ord(char): None for char in but}))
    assert found is None, ascii(shown[max(0, found.start() - 40) : found.start() + 40])


@pytest.mark.parametrize("chosen", list(Format))
def test_results_in_every_format(show: Show, chosen: Format) -> None:
    """Cells, names of columns, facts and sections; CSV for a program is the data as it is."""
    rows = [{f"c{number}": cell for number, cell in enumerate(row)} for row in texts(STRINGS)]
    assert any(UNSAFE.search(cell) for row in rows for cell in row.values()), "the control"
    raw = chosen is Format.CSV and not show.terminal  # type: ignore[attr-defined]

    def write() -> None:
        emit(Listing("x", _COLUMNS, rows, facts={"note": rows[0]["c0"]}), chosen)
        for row in rows[:50]:
            named = (Column(row["c0"]), *_COLUMNS)
            inner = Listing("y", _COLUMNS, [row], empty=row["c2"])
            emit(
                Record("x", named, {row["c0"]: [row], **row}, [Section("s", row["c1"], inner)]),
                chosen,
            )
            emit_event("x", {"text": row, row["c3"]: 1}, chosen)

    shown = show(write)
    if raw:
        assert UNSAFE.search(shown.replace("\n", ""))
    else:
        check(shown, but="\n\t")


def test_json_is_the_data_all_the_same(show: Show) -> None:
    """The escapes are JSON's own: a program reads back what there is."""
    rows = [dict(zip(("c0", "c1", "c2", "c3"), row, strict=True)) for row in texts(400)]
    shown = show(lambda: emit(Listing("x", _COLUMNS, rows), Format.JSON))
    assert json.loads(shown)["items"] == rows


def test_what_is_said_to_people(show: Show) -> None:
    """Notes, warnings, progress, errors with their hints and quotations, in both forms."""

    def write() -> None:
        for first, second, third, fourth in texts(STRINGS):
            talk.say(first, label="warning")
            failure = Failure(
                "failed", first, ExitCode.FAILED, hint=second, details={third: fourth}, quoted=third
            )
            failure.tell(as_json=False)
            failure.tell(as_json=True)

    check(show(write))


def test_trails_drawn_and_as_a_page(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, messages, keys and values of a trail, on a terminal and as HTML."""
    dice = random.Random(21)  # noqa: S311 - no secret
    for _ in range(60):
        monkeypatch.setattr(trails, "HOSTILE", hostile(dice))
        for make in (trails.transaction_trail, trails.run_trail):
            found = record(make(), rows=10)
            for chosen in (Format.TABLE, Format.WIDE, Format.JSON):
                check(show(lambda found=found, chosen=chosen: emit(found, chosen)), but="\n\t")
            check(page(found, read_at=datetime(2026, 1, 31, tzinfo=UTC), version="0", limit=None))


def test_ids_are_shown_whole_and_harmless(show: Show) -> None:
    """A column of ids is never cut, and is no exception."""
    column = (Column("id", kind=Kind.ID),)
    values: list[dict[str, Any]] = [{"id": text} for row in texts(400) for text in row]
    for chosen in (Format.TABLE, Format.NAME):
        check(show(lambda chosen=chosen: emit(Listing("x", column, values), chosen)))
