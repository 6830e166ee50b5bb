"""``spanctl runs logs``: what Prefect and the ledger tell of a run, on one time line."""

import heapq
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from spanctl.clock import monotonic
from spanctl.errors import SpanctlError
from spanctl.printable import printable
from spanctl_cli.context import AppContext
from spanctl_cli.output import Column, Kind, Listing, reader_gone

if TYPE_CHECKING:
    from rich.console import RenderableType

    from spanctl.ledger.receipt import Receipt
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun, Log

_POLL: Final = 0.3
_BATCH: Final = 3.0
"""Seconds in which a process sends the lines that it has logged."""
_COLUMNS: Final = (
    Column("timestamp", kind=Kind.TIME),
    Column("source"),
    Column("level"),
    Column("message"),
    Column("txn_id", kind=Kind.ID),
    Column("logger", extra=True),
    Column("flow_run", extra=True),
    Column("task_run", extra=True),
)
_STYLES: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "dim"}

Row = Mapping[str, Any]


def listing(rows: Iterable[Row]) -> Listing:
    """Return lines as a listing, to be streamed."""
    return Listing("runs.logs", _COLUMNS, rows)


def all_lines(
    app: AppContext, api: "PrefectApi", run: "FlowRun", level: int
) -> tuple[list[Row], SpanctlError | None]:
    """Return every line of a run and its subflow runs, and why the ledger's are missing if so."""
    from spanctl.orchestration.browsing import family

    told = [_logged(one) for one in api.logs(*family(api, run.id)) if one.level >= level]
    kept, trouble = _receipts(app, api, run)
    return list(heapq.merge(told, kept, key=lambda row: row["timestamp"])), trouble


def _receipts(
    app: AppContext, api: "PrefectApi", run: "FlowRun"
) -> tuple[list[Row], SpanctlError | None]:
    from spanctl_cli.runs.ledger import databases_of
    from spanctl_cli.runs.showing import root_of

    root = root_of(api, run)
    if not databases_of(root):
        return [], None
    try:
        from spanctl.audit.runtransactions import written
        from spanctl.spanner.client import Database, Target

        with Database(Target.from_settings(app.settings())) as database:
            found = written(database, root)
    except SpanctlError as error:
        return [], error
    mine = [one for one in found if run.id in {root.id, one.provenance.flow_run}]
    return [_committed(one) for one in mine], None


def followed(app: AppContext, api: "PrefectApi", run: "FlowRun", level: int) -> Iterator[Row]:
    """Yield the lines of a run as they come, until it has ended.

    Prefect's lines come late, commits are seen at once: these wait for the lines before them.
    """
    from contextlib import ExitStack

    from spanctl.audit.watch import Follower, Following
    from spanctl_cli.runs.watching import ledger

    fresh: list[Row] = []

    def log(line: "Log") -> None:
        if line.level >= level:
            fresh.append(_logged(line))

    def receipt(one: "Receipt") -> None:
        fresh.append(_committed(one))

    follower = Follower(state=lambda _: None, log=log, receipt=receipt, note=app.warn)
    with ExitStack() as stack:
        database = ledger(app, stack)
        following, waiting = Following(api, database, run, follower), _Waiting()
        while True:
            following.look()
            yield from waiting.ready(fresh, all_of_them=following.is_over)
            fresh.clear()
            if following.is_over or reader_gone():
                break
            time.sleep(_POLL)
    state = following.run.state
    app.note(f"flow run {run.id} ended as {state.name if state else 'unknown'}")


class _Waiting:
    """Commits that lines of Prefect with an earlier time may still come before."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, Row]] = []
        self._reached = datetime.min.replace(tzinfo=UTC)

    def ready(self, rows: Iterable[Row], *, all_of_them: bool) -> list[Row]:
        """Take new rows, and return those that are to be told, in the order of time."""
        now = monotonic()
        self._rows += [(now, row) for row in rows]
        logged = (row["timestamp"] for _, row in self._rows if row["source"] != "ledger")
        self._reached = max((self._reached, *logged))

        def is_due(came: float, row: Row) -> bool:
            return all_of_them or row["timestamp"] <= self._reached or now - came >= _BATCH

        due = [row for came, row in self._rows if is_due(came, row)]
        self._rows = [(came, row) for came, row in self._rows if not is_due(came, row)]
        return sorted(due, key=lambda row: row["timestamp"])


def _logged(line: "Log") -> Row:
    from spanctl.credentials.redact import redact

    return {
        "timestamp": line.timestamp,
        "source": "prefect",
        "level": logging.getLevelName(line.level),
        "message": redact(line.message),
        "txn_id": None,
        "logger": line.logger,
        "flow_run": None,
        "task_run": line.task_run_id,
    }


def _committed(one: "Receipt") -> Row:
    from spanctl.audit.model import told_of
    from spanctl.ledger.phases import step_of
    from spanctl_cli.runs import counted

    rows = f" · {counted(one.rows, 'row')}" if one.rows else ""
    return {
        "timestamp": one.commit_timestamp,
        "source": "ledger",
        "level": "INFO",
        "message": f"{told_of(one)} {step_of(one)}{rows}",
        "txn_id": one.txn_id,
        "logger": None,
        "flow_run": one.provenance.flow_run,
        "task_run": one.provenance.task_run,
    }


def draw(row: Row) -> "RenderableType":
    """Return one line as a person reads it; what spans lines stays so, set off."""
    from rich.text import Text

    from spanctl_cli.output.rendering import hanging, terminal_width

    first, *rest = str(row["message"]).splitlines() or [""]
    style = "cyan" if row["source"] == "ledger" else _STYLES.get(row["level"], "")
    stamp = row["timestamp"].astimezone()
    clock = Text(f"{stamp:%H:%M:%S}.{stamp.microsecond // 1000:03d} ", style="dim")
    line = Text(overflow="fold")
    if row["source"] != "ledger" and row["level"] != "INFO":
        line.append(f"{row['level']} ", style=style or "default")
    line.append(printable(first), style=style or "default")
    if row["txn_id"]:
        line.append(f" {row['txn_id']}", style="cyan not dim")
    for more in rest:
        line.append(f"\n  {printable(more)}", style=style or "default")
    beside = hanging(clock, line, terminal_width())
    return beside or Text(overflow="fold").append_text(clock).append_text(line)
