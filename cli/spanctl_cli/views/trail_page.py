"""A trail as a page for people: what happened first, then who, what, when and how sure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spanctl.audit.model import Event, EventKind, Link, SourceName, Trail, outcome_of
from spanctl.audit.trail import totals
from spanctl.ledger.receipt import Outcome, Receipt
from spanctl.spanner.changes import ModType, RowChange
from spanctl.spanner.values import display
from spanctl_cli.output import Kind, text
from spanctl_cli.output.rendering import terminal_width
from spanctl_cli.output.values import age, duration, safe
from spanctl_cli.views import pieces

_EVENTS = 40
_WIDE = 112
_ROOMY = 80
_LISTED = 40
_MARKS = {
    ModType.INSERT: ("+", "green", "inserted"),
    ModType.UPDATE: ("~", "yellow", "updated"),
    ModType.DELETE: ("-", "red", "deleted"),
}
_KINDS = {
    EventKind.FLOW_RUN: "flow run",
    EventKind.TASK_RUN: "task run",
    EventKind.COMMIT: "commit",
    EventKind.FENCE: "fence",
}
_SOURCES = {
    SourceName.LEDGER: "ledger",
    SourceName.CHANGE_STREAM: "change stream",
    SourceName.PREFECT: "Prefect",
    SourceName.CLOUD_AUDIT_LOGS: "Cloud Audit Logs",
}


def page(trail: Trail, rows: int | None, steps: Sequence[str]) -> Iterator[RenderableType]:
    """Yield what to print, from top to bottom."""
    if trail.receipt:
        yield from _transaction(trail, trail.receipt)
        yield from _rows(trail, rows)
    else:
        yield from _run(trail)
    yield from _timeline(trail.timeline)
    yield from _sources(trail)
    if steps:
        yield pieces.heading("Next")
        for step in steps:
            yield pieces.whole(Text(f"  {step}", style="cyan"))


def listing(receipts: Sequence[Receipt], changes: Sequence[str]) -> Iterator[RenderableType]:
    """Yield transactions, a row each; on a narrow terminal what they changed goes below.

    Args:
        receipts: The transactions.
        changes: What each of them did, in a few words.
    """
    wide = terminal_width() >= _WIDE
    table = pieces.grid("txn id", "committed", "outcome", "rows", "changes", "by")
    table.columns[3].justify = "right"
    for receipt, change in zip(receipts, changes, strict=True):
        origin = receipt.provenance
        by = " / ".join(name for name in (origin.flow, origin.task) if name) or origin.reason
        when, outcome = age(receipt.commit_timestamp), text(outcome_of(receipt), Kind.STATE)
        if wide:
            rows = text(receipt.rows, Kind.NUMBER)
            identifier = text(receipt.txn_id, Kind.ID)
            table.add_row(identifier, when, outcome, rows, text(change), text(by))
            continue
        yield text(receipt.txn_id, Kind.ID)
        line = Text("  ").append_text(outcome).append(f"  {when}  ")
        yield pieces.whole(line.append(pieces.count(receipt.rows, "row")))
        if said := "  ".join(words for words in (change, by) if words):
            yield Padding(Text(safe(said), style="dim"), (0, 0, 0, 2), expand=False)
    if wide:
        yield table


# -- the top


def _transaction(trail: Trail, receipt: Receipt) -> Iterator[RenderableType]:
    outcome = outcome_of(receipt)
    committed = outcome is Outcome.COMMITTED
    mark, style = ("✓", "bold green") if committed else ("✗", "bold yellow")
    headline = Text(f"{mark} {outcome.value.replace('_', ' ')}", style=style)
    headline.append(f"  {pieces.moment(receipt.commit_timestamp)}", style="default not bold")
    yield pieces.whole(headline)
    if not committed:
        yield Text("  Fenced: the operation never commits in this epoch.", style="dim")
    yield pieces.whole(Text(f"  {receipt.txn_id}", style="cyan"))
    origin = receipt.provenance
    facts = trail.facts
    claimed = f"  {Link.CLAIMED.value}"
    run = pieces.named(facts.run.name if facts else None, origin.flow_run)
    if facts and facts.run.state:
        run.append("  ").append_text(text(facts.run.state.name, Kind.STATE))
    task = pieces.named(origin.task, None)
    if trail.task_run and trail.task_run.state:
        task.append("  ").append_text(text(trail.task_run.state.name, Kind.STATE))
    yield Text()
    yield from _facts(
        [
            ("asked by", pieces.plain(origin.initiator, claimed)),
            ("written by", pieces.plain(origin.executor, claimed)),
            ("reason", pieces.plain(origin.reason)),
            ("flow", pieces.plain(origin.flow or (facts.flow if facts else None))),
            ("flow run", run),
            (
                "root run",
                pieces.named(None, origin.root_run if origin.root_run != origin.flow_run else None),
            ),
            ("deployment", pieces.named(None, origin.deployment)),
            ("task", task),
            ("task run", pieces.named(None, origin.task_run)),
            ("attempt", pieces.plain(origin.attempt)),
            ("operation", pieces.plain(receipt.operation_key)),
            ("undoes", pieces.named(None, receipt.undoes)),
            ("tag", pieces.plain(origin.tag)),
        ]
    )
    yield from _statements(receipt)


def _run(trail: Trail) -> Iterator[RenderableType]:
    run = trail.facts.run if trail.facts else None
    committed, fenced, changed = totals(trail.transactions)
    headline = Text(style="bold")
    if run and run.state:
        headline.append_text(text(run.state.name, Kind.STATE)).append("  ")
    headline.append(safe(run.name if run else "run"))
    yield pieces.whole(headline)
    yield pieces.whole(Text(f"  {safe(trail.id)}", style="cyan"))
    yield Text()
    ended = run.end_time - run.start_time if run and run.start_time and run.end_time else None
    counts = f"{pieces.count(committed, 'transaction')} committed"
    counts = f"{counts}, {pieces.count(changed, 'row')} changed"
    if fenced:
        counts = f"{counts}, {fenced:,} fenced"
    message = run.state.message if run and run.state else ""
    yield from _facts(
        [
            ("outcome", Text(counts)),
            ("flow", pieces.plain(trail.facts.flow if trail.facts else None)),
            (
                "started",
                pieces.plain(pieces.moment(run.start_time) if run and run.start_time else None),
            ),
            ("took", pieces.plain(duration(ended.total_seconds()) if ended else None)),
            ("runs", pieces.plain(run.run_count if run and run.run_count > 1 else None)),
            ("deployment", pieces.named(None, run.deployment_id if run else None)),
            (
                "created by",
                pieces.plain(run.created_by if run else None, f"  {Link.CLAIMED.value}"),
            ),
            ("tags", pieces.plain(", ".join(run.tags) if run else None)),
            ("message", pieces.plain(message)),
        ]
    )
    yield from _transactions(trail.transactions)


def _facts(pairs: Iterable[tuple[str, Text]]) -> Iterator[RenderableType]:
    for name, value in pairs:
        if value.plain:
            yield pieces.whole(Text(f"  {name:<12}", style="dim").append_text(value))


# -- tables


def _statements(receipt: Receipt) -> Iterator[RenderableType]:
    count = len(receipt.statements)
    yield pieces.heading(
        "Statements", "" if count else "none: the transaction wrote nothing but its receipt"
    )
    if not count:
        return
    table = pieces.grid("kind", "tables", "rows", "statement")
    table.columns[2].justify = "right"
    for statement in receipt.statements:
        table.add_row(
            text(statement.kind.value.replace("_", " ")),
            text(list(statement.tables)),
            text(statement.rows, Kind.NUMBER),
            text(statement.sql or ", ".join(statement.parameters)),
        )
    yield pieces.indented(table)


def _rows(trail: Trail, limit: int | None) -> Iterator[RenderableType]:
    changed = trail.changes.rows if trail.changes else ()
    if not changed:
        if trail.receipt and trail.receipt.rows:
            yield pieces.heading("Rows", "not known: see the change stream below")
        return
    note = f"{len(changed):,} changed"
    if trail.changes and trail.changes.unwatched:
        note = f"{note} in watched tables; not watched: {', '.join(trail.changes.unwatched)}"
    yield pieces.heading("Rows", safe(note))
    shown = list(islice(changed, limit))
    for row in shown:
        yield from _row(row)
    if left := len(changed) - len(shown):
        yield Text(f"  {left:,} more rows: --rows N, or -o json for all", style="yellow")


def _row(row: RowChange) -> Iterator[RenderableType]:
    mark, style, word = _MARKS[row.mod_type]
    keys = ", ".join(f"{name}={display(value)}" for name, value in row.keys.items())
    title = Text(f"  {mark} ", style=f"bold {style}")
    title.append(safe(f"{row.table} {keys}"), style="bold").append(f"  {word}", style=style)
    yield pieces.whole(title)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    same = 0
    for name in row.after or row.before or {}:
        old = _shown(row.before, name)
        new = _shown(row.after, name)
        if row.mod_type is not ModType.UPDATE:
            value = new if row.after is not None else old
            if value is not None and value != display(None):
                table.add_row(safe(name), Text(safe(value), style=style))
        elif old == new:
            same += 1
        else:
            diff = Text(safe(old or "?"), style="red").append(" → ", style="dim")
            table.add_row(safe(name), diff.append(safe(new or "?"), style="green"))
    if table.row_count:
        yield Padding(table, (0, 0, 0, 6), expand=False)
    if same:
        yield Text(f"      {pieces.count(same, 'column')} unchanged", style="dim")


def _shown(values: Any, name: str) -> str | None:  # noqa: ANN401 - a row, or None
    return display(values[name]) if values is not None and name in values else None


def _transactions(receipts: Sequence[Receipt]) -> Iterator[RenderableType]:
    yield pieces.heading("Transactions", "" if receipts else "none: this run committed nothing")
    if not receipts:
        return
    if terminal_width() < _ROOMY:
        yield from _stacked(receipts)
        return
    table = pieces.grid("txn id", "committed", "outcome", "rows", "task")
    table.columns[3].justify = "right"
    for receipt in pieces.both_ends(receipts, _LISTED):
        if receipt is None:
            more = f"... {len(receipts) - _LISTED:,} more: -o json for all"
            table.add_row(Text(more, style="yellow"), "", "", "", "")
            continue
        table.add_row(
            text(receipt.txn_id, Kind.ID),
            pieces.clock(receipt.commit_timestamp),
            text(outcome_of(receipt), Kind.STATE),
            text(receipt.rows, Kind.NUMBER),
            text(receipt.provenance.task or receipt.operation_key),
        )
    yield pieces.indented(table)


def _stacked(receipts: Sequence[Receipt]) -> Iterator[RenderableType]:
    for receipt in pieces.both_ends(receipts, _LISTED):
        if receipt is None:
            more = f"  ... {len(receipts) - _LISTED:,} more: -o json for all"
            yield Text(more, style="yellow")
            continue
        yield text(receipt.txn_id, Kind.ID)
        line = Text("  ").append_text(text(outcome_of(receipt), Kind.STATE))
        line.append("  ").append_text(pieces.clock(receipt.commit_timestamp))
        yield pieces.whole(line.append(f"  {pieces.count(receipt.rows, 'row')}"))


def _timeline(events: Sequence[Event]) -> Iterator[RenderableType]:
    if not events:
        return
    yield pieces.heading("Timeline", f"{events[0].timestamp.astimezone():%Y-%m-%d, %Z}")
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (len("00:00:00.000"), None, None, None):
        table.add_column(overflow="fold", min_width=width)
    for event in pieces.both_ends(events, _EVENTS):
        if event is None:
            more = f"... {len(events) - _EVENTS:,} more: -o json for all"
            table.add_row("", "", "", Text(more, style="yellow"))
            continue
        what = text(event.name)
        if event.rows is not None:
            what.append(f"  {pieces.count(event.rows, 'row')}", style="dim")
        table.add_row(
            pieces.clock(event.timestamp),
            Text(_KINDS[event.kind], style="dim"),
            text(event.state, Kind.STATE),
            what,
        )
    yield pieces.indented(table)


def _sources(trail: Trail) -> Iterator[RenderableType]:
    yield pieces.heading("Sources")
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (None, len("unsupported"), len("claimed"), None):
        table.add_column(overflow="fold", min_width=width)
    for source in trail.sources:
        table.add_row(
            _SOURCES[source.name],
            text(source.coverage, Kind.STATE),
            text(source.link, Kind.STATE),
            Text(safe(source.note), style="dim"),
        )
    yield pieces.indented(table)
