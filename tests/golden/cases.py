"""What is drawn into golden files: results with all that makes drawing hard, at a fixed time."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

from spanctl import clock, errors
from spanctl.ledger.receipt import Outcome
from spanctl.ledger.report import TransactionReport
from spanctl_cli import boundary
from spanctl_cli.commands import audit
from spanctl_cli.creds import facts
from spanctl_cli.output import Format, Listing, Record, Section, Shape, emit, shaped
from spanctl_cli.runs import summary
from spanctl_cli.txns.facts import LISTED

FOLDER: Final = Path(__file__).parent
NOW: Final = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
WHEN: Final = NOW - timedelta(minutes=3, seconds=7.123456)
DATABASE: Final = "projects/p/instances/i/databases/bank"
IDS: Final = (
    "8c6d7a0e-5c1b-5f6e-9f3c-0123456789ab",
    "f88aa00d-df12-5f07-8cb0-fd4f27fa981d",
    "0b4ff1c3-77a2-5b1e-a1d0-5e8b0d3c2a11",
)


def transactions() -> Listing:
    """Rows with markup, wide, combining and invisible characters, and control codes."""
    told: tuple[dict[str, Any], ...] = (
        {
            "outcome": "COMMITTED",
            "rows": 28_000,
            "changes": "update accounts, insert [bold]corrections[/bold]",
            "flow": "送金フロー",
            "reason": "ticket 4711: Zürich → 東京, cafe\u0301",
            "executor": "runner@p.iam.gserviceaccount.com",
        },
        {
            "outcome": "NOT_COMMITTED",
            "rows": 0,
            "flow": "transfer",
            "reason": 'a "quoted", line\nand \x1b[31mred\u202egnp',
        },
        {
            "outcome": "AT_LEAST_ONCE",
            "rows": 1,
            "changes": "ddl t: finished",
            "step": "ddl finished",
        },
    )
    rows = [
        {"txn_id": txn_id, "commit_timestamp": WHEN - timedelta(days=number), **one}
        for number, (txn_id, one) in enumerate(zip(IDS, told, strict=True))
    ]
    return Listing("audit.list", audit._LISTING, rows, empty="no transactions")  # noqa: SLF001 - its columns


def run() -> Record:
    """A run's summary, with its own drawing for terminals and a section."""
    seen = [
        TransactionReport(
            txn_id=IDS[0],
            database=DATABASE,
            step="pay",
            outcome=Outcome.COMMITTED,
            commit_timestamp=WHEN,
            rows=2,
        ),
        TransactionReport(
            txn_id=IDS[1],
            database=DATABASE,
            step="ddl finished",
            outcome=Outcome.COMMITTED,
            at_least_once=True,
            commit_timestamp=WHEN,
            replayed=True,
        ),
    ]
    told = {"flow_run": IDS[2], "name": "amber-dolphin", "flow": "transfer", "state": "Completed"}
    return summary({**told, "seconds": 2.345, "ledger": "present"}, seen)


def credential() -> Record:
    """A record whose sections are tables."""
    values = {
        "name": "spanner-runner",
        "state": "ready",
        "principal": "runner@p.iam.gserviceaccount.com",
        "kind": "access token",
        "version": 7,
        "expires": NOW + timedelta(minutes=12),
        "seconds_left": 720.0,
        "chain": ["ops@example.com"],
        "secret": "projects/p/secrets/spanner-runner",
    }
    versions = [
        {"version": 7, "state": "enabled", "aliases": ["current"], "created": WHEN},
        {
            "version": 6,
            "state": "enabled",
            "aliases": ["previous"],
            "created": WHEN - timedelta(hours=1),
            "next": "disable",
            "after": NOW + timedelta(hours=1),
        },
    ]
    section = Section("versions", "Versions", Listing("creds.versions", facts._VERSIONS, versions))  # noqa: SLF001
    return Record("creds", facts.FIELDS, values, (section,))


def nothing() -> Listing:
    """No rows at all."""
    return Listing("txn.list", LISTED, [], empty="nothing is in limbo")


RESULTS: Final[dict[str, Callable[[], Listing | Record]]] = {
    "transactions": transactions,
    "run": run,
    "credential": credential,
    "nothing": nothing,
}


class _Screen(io.StringIO):
    """A stdout or stderr of a given encoding, on a terminal or not."""

    def __init__(self, *, is_terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        text.encode(self._encoding)
        return super().write(text)


@contextmanager
def _shown(screen: _Screen, width: int, environment: dict[str, str]) -> Iterator[None]:
    variables = {"COLUMNS": str(width), "TERM": "xterm-256color", "NO_COLOR": "1", **environment}
    with (
        mock.patch.dict(os.environ, variables),
        mock.patch.object(clock, "now", return_value=NOW),
        mock.patch.object(sys, "stdout", screen),
        mock.patch.object(sys, "stderr", screen),
    ):
        yield


def _drawn(  # noqa: PLR0913 - how a result is drawn
    result: Listing | Record,
    output_format: Format,
    width: int = 80,
    *,
    is_terminal: bool = False,
    encoding: str = "utf-8",
    shape: Shape | None = None,
    **environment: str,
) -> str:
    screen = _Screen(is_terminal=is_terminal, encoding=encoding)
    with _shown(screen, width, environment), shaped(shape or Shape()):
        emit(result, output_format)
    return screen.getvalue()


def files() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each golden file."""
    for name, make in RESULTS.items():
        for width in (40, 80, 200):
            for how in (Format.TABLE, Format.WIDE):
                text = _drawn(make(), how, width, is_terminal=True)
                yield f"{name}/terminal-{width}-{how.value}.txt", text
        ascii_only = _drawn(make(), Format.TABLE, 200, is_terminal=True, encoding="ascii")
        yield f"{name}/terminal-200-ascii.txt", ascii_only
        yield (
            f"{name}/terminal-200-colour.ansi",
            _drawn(make(), Format.TABLE, 200, is_terminal=True, NO_COLOR="", COLORTERM="truecolor"),
        )
        for how, ending in _PIPED.items():
            yield f"{name}/{how.value}.{ending}", _drawn(make(), how)
        bare = Shape(header=False)
        yield f"{name}/no-header.tsv", _drawn(make(), Format.TABLE, shape=bare)
        yield f"{name}/ascii.tsv", _drawn(make(), Format.TABLE, encoding="ascii")
    yield "error/error.json", _told(as_json=True)
    yield "error/error.txt", _told(as_json=False)
    yield "error/terminal.txt", _told(as_json=False, is_terminal=True)


_PIPED: Final = {
    Format.TABLE: "tsv",
    Format.WIDE: "tsv",
    Format.JSON: "json",
    Format.JSONL: "jsonl",
    Format.CSV: "csv",
    Format.NAME: "txt",
}


def _told(*, as_json: bool, is_terminal: bool = False) -> str:
    error = errors.KeyClosedError(
        f"transaction {IDS[0]} was fenced\nby \x1b[1mada", hint="look", txn_id=IDS[0]
    )
    screen = _Screen(is_terminal=is_terminal)
    with _shown(screen, 80, {}):
        boundary.failure_of(error).tell(as_json=as_json)
    return screen.getvalue()
