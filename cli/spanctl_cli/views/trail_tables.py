"""Tables of trails: transactions in a list, a timeline, sources; stacked where it is narrow."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spanctl.audit.model import Event, EventKind, Identity, Source, SourceName, told_of
from spanctl.ledger.phases import step_of
from spanctl.ledger.receipt import Receipt
from spanctl.printable import printable
from spanctl_cli.output import Kind, text
from spanctl_cli.output.rendering import terminal_width
from spanctl_cli.output.values import age
from spanctl_cli.views import pieces
from spanctl_cli.views.standing import words
from spanctl_cli.views.trail_actors import sure

_EVENTS = 40
_WIDE = 132
_WIDEST = 170
_ROOMY = 80
_KINDS = {
    EventKind.FLOW_RUN: "flow run",
    EventKind.TASK_RUN: "task run",
    EventKind.COMMIT: "commit",
    EventKind.FENCE: "fence",
}
_SOURCES = {
    SourceName.LEDGER: "ledger",
    SourceName.IDENTITY: "identity",
    SourceName.CHANGE_STREAM: "change stream",
    SourceName.PREFECT: "Prefect",
    SourceName.CLOUD_AUDIT_LOGS: "Cloud Audit Logs",
}


def listing(
    receipts: Sequence[Receipt], changes: Sequence[str], identities: Mapping[str, Identity]
) -> Iterator[RenderableType]:
    """Yield transactions, a row each; on a narrow terminal what they changed goes below.

    Args:
        receipts: The transactions.
        changes: What each of them did, in a few words.
        identities: Of each, by txn ID, how sure it is who asked.
    """
    width = terminal_width()
    wide, widest = width >= _WIDE, width >= _WIDEST
    reason = ["reason"] if widest else []
    heads = ("txn id", "committed", "outcome", "rows", "asked by", "changes", "by", *reason)
    table = pieces.grid(*heads, rigid=4)
    table.columns[3].justify = "right"
    for receipt, change in zip(receipts, changes, strict=True):
        origin = receipt.provenance
        step = step_of(receipt)
        by = f"{origin.flow} / {step}" if origin.flow else origin.reason or step
        standing = identities[receipt.txn_id].initiator
        asked = sure(origin.initiator, words(standing, origin.initiator_chain))
        when, outcome = age(receipt.commit_timestamp), text(told_of(receipt), Kind.STATE)
        bounds = {"most": receipt.rows_at_most}
        if wide:
            rows = pieces.rows(receipt.rows, least=receipt.rows_at_least, **bounds)
            identifier = text(receipt.txn_id, Kind.ID)
            why = [text(origin.reason)] if widest else []
            table.add_row(identifier, when, outcome, rows, asked, text(change), text(by), *why)
            continue
        yield text(receipt.txn_id, Kind.ID)
        line = Text("  ").append_text(outcome).append(f"  {when}  ")
        told = pieces.least(receipt.rows, bound=receipt.rows_at_least, **bounds)
        yield pieces.whole(line.append(told))
        if said := "  ".join(one for one in (change, by) if one):
            yield Padding(Text(printable(said), style="dim"), (0, 0, 0, 2), expand=False)
        if asked:
            yield pieces.whole(Text("  asked by ", style="dim").append_text(asked))
    if wide:
        yield table


def timeline(events: Sequence[Event]) -> Iterator[RenderableType]:
    """Yield what happened, in order of time; of many events the first and the last."""
    if not events:
        return
    yield pieces.heading("Timeline", f"{events[0].timestamp.astimezone():%Y-%m-%d, %Z}")
    if terminal_width() < _ROOMY:
        yield from _stacked_timeline(events)
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (len("00:00:00.000"), None, None, None):
        table.add_column(overflow="fold", min_width=width)
    for event in pieces.both_ends(events, _EVENTS):
        if event is None:
            more = f"... {len(events) - _EVENTS:,} more: -o json for all"
            table.add_row("", "", "", Text(more, style="yellow"))
            continue
        what = _what(event)
        table.add_row(
            pieces.clock(event.timestamp),
            Text(_KINDS[event.kind], style="dim"),
            text(event.state, Kind.STATE),
            what,
        )
    yield pieces.indented(table)


def _stacked_timeline(events: Sequence[Event]) -> Iterator[RenderableType]:
    for event in pieces.both_ends(events, _EVENTS):
        if event is None:
            more = f"  ... {len(events) - _EVENTS:,} more: -o json for all"
            yield pieces.whole(Text(more, style="yellow"))
            continue
        line = pieces.clock(event.timestamp).append(f"  {_KINDS[event.kind]}  ", style="dim")
        yield from pieces.stacked(line.append_text(text(event.state, Kind.STATE)), _what(event))


def _what(event: Event) -> Text:
    what = text(event.name)
    if event.rows is not None:
        what.append(f"  {pieces.count(event.rows, 'row')}", style="dim")
    return what


def sources(asked: Sequence[Source]) -> Iterator[RenderableType]:
    """Yield what was asked, and what came of it."""
    yield pieces.heading("Sources")
    if terminal_width() < _ROOMY:
        for source in asked:
            line = Text(_SOURCES[source.name]).append("  ")
            line.append_text(text(source.coverage, Kind.STATE)).append("  ")
            line.append_text(text(source.link, Kind.STATE))
            yield from pieces.stacked(line, Text(printable(source.note), style="dim"))
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (None, len("unsupported"), len("claimed"), None):
        table.add_column(overflow="fold", min_width=width)
    for source in asked:
        table.add_row(
            _SOURCES[source.name],
            text(source.coverage, Kind.STATE),
            text(source.link, Kind.STATE),
            Text(printable(source.note), style="dim"),
        )
    yield pieces.indented(table)
