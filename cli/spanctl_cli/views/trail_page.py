"""A trail as a page for people: what happened first, then who, what, when and how sure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spanctl.audit.model import Link, Part, Trail, outcome_of, told_of
from spanctl.audit.trail import totals
from spanctl.ledger.fences import reopened_by
from spanctl.ledger.phases import Phase, step_of, step_words
from spanctl.ledger.receipt import Outcome, Receipt, Statement
from spanctl.printable import printable
from spanctl.spanner.changes import ModType, RowChange
from spanctl.spanner.values import display
from spanctl_cli.output import Kind, text
from spanctl_cli.output.rendering import terminal_width
from spanctl_cli.output.values import duration
from spanctl_cli.views import pieces
from spanctl_cli.views.trail_actors import actors, sure
from spanctl_cli.views.trail_parts import behind, changed, is_complete, rows_changed
from spanctl_cli.views.trail_tables import sources, timeline

_ROOMY = 80
_LISTED = 40
_LABEL = 12
_MARKS = {
    ModType.INSERT: ("+", "green", "inserted"),
    ModType.UPDATE: ("~", "yellow", "updated"),
    ModType.DELETE: ("-", "red", "deleted"),
}
_ENDS = {
    Phase.FINISHED: ("✓", "bold green"),
    Phase.FAILED: ("✗", "bold red"),
    Phase.UNKNOWN: ("?", "bold yellow"),
}


def page(trail: Trail, rows: int | None, steps: Sequence[str]) -> Iterator[RenderableType]:
    """Yield what to print, from top to bottom."""
    if trail.receipt:
        yield from _transaction(trail, trail.receipt)
    else:
        yield from _run(trail)
    yield from _rows(trail, rows)
    yield from timeline(trail.timeline)
    yield from sources(trail.sources)
    if steps:
        yield pieces.heading("Next")
        for step in steps:
            yield pieces.whole(Text(f"  {step}", style="cyan"))


# -- the top


def _transaction(trail: Trail, receipt: Receipt) -> Iterator[RenderableType]:
    outcome = outcome_of(receipt)
    committed = outcome is Outcome.COMMITTED
    mark, style = ("✓", "bold green") if committed else ("✗", "bold yellow")
    words = outcome.value.replace("_", " ")
    if pair := trail.outside:
        mark, style = _ENDS[pair.phase]
        words = step_words(pair.kind, pair.said).upper()
    headline = Text(f"{mark} {words}", style=style)
    headline.append(f"  {pieces.moment(receipt.commit_timestamp)}", style="default not bold")
    yield pieces.whole(headline)
    if trail.fencing:
        yield pieces.whole(Text(f"  {trail.fencing.words}", style="dim"))
    if pair:
        status = f" ({pair.status})" if pair.status else ""
        yield pieces.whole(Text(f"  at least once: {pair.words}{status}", style=style))
        if pair.assumed:
            yield Text("  That twice does no harm was assumed, not checked.", style="dim")
        yield Text("  Outside of every transaction: this entry only tells of it.", style="dim")
    yield pieces.whole(Text(f"  {receipt.txn_id}", style="cyan"))
    origin = receipt.provenance
    facts = trail.facts
    run = pieces.named(facts.run.name if facts else None, origin.flow_run)
    if facts and facts.run.state:
        run.append("  ").append_text(text(facts.run.state.name, Kind.STATE))
    task = pieces.named(origin.task, None)
    if trail.task_run and trail.task_run.state:
        task.append("  ").append_text(text(trail.task_run.state.name, Kind.STATE))
    yield Text()
    yield from _facts(
        [
            *actors(trail),
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
            ("reopens", pieces.named(None, reopened_by(receipt))),
            ("ddl operation", pieces.named(None, pair.operation if pair else None)),
            ("other entry", pieces.named(None, pair.pair if pair else None)),
            ("tag", pieces.plain(origin.tag)),
        ]
    )
    yield from _statements(receipt)


def _run(trail: Trail) -> Iterator[RenderableType]:
    run = trail.facts.run if trail.facts else None
    committed, fenced = totals(trail.transactions)
    number = sum(rows_changed(one.receipt, one.changes) for one in trail.parts)
    headline = Text(style="bold")
    if run and run.state:
        headline.append_text(text(run.state.name, Kind.STATE)).append("  ")
    headline.append(printable(run.name if run else "run"))
    yield pieces.whole(headline)
    yield pieces.whole(Text(f"  {printable(trail.id)}", style="cyan"))
    yield Text()
    ended = run.end_time - run.start_time if run and run.start_time and run.end_time else None
    counts = f"{pieces.count(committed, 'transaction')} committed"
    counts = f"{counts}, {pieces.count(number, 'row')} changed"
    if fenced:
        counts = f"{counts}, {fenced:,} fenced"
    message = run.state.message if run and run.state else ""
    yield from _facts(
        [
            ("outcome", Text(counts)),
            *_behind(trail),
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
    yield from _transactions(trail.parts)


def _facts(pairs: Iterable[tuple[str, Text]]) -> Iterator[RenderableType]:
    shown = [(name, value) for name, value in pairs if value.plain]
    width = max([_LABEL, *(len(name) + 2 for name, _ in shown)])
    for name, value in shown:
        yield pieces.whole(Text(f"  {name:<{width}}", style="dim").append_text(value))


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
        if terminal_width() < _ROOMY:
            yield from _statement(statement)
            continue
        table.add_row(
            text(statement.kind.value.replace("_", " ")),
            text(list(statement.tables)),
            pieces.rows(statement.rows, least=statement.is_least),
            text(_words_of(statement)),
        )
    if table.row_count:
        yield pieces.indented(table)


def _words_of(statement: Statement) -> str:
    """Return the text of a statement, and how often it was executed where that was not once."""
    if statement.more:
        return f"{statement.times:,} more"
    words = statement.sql or ", ".join(statement.parameters)
    return words if statement.times == 1 else f"{statement.times:,} x {words}"


def _statement(statement: Statement) -> Iterator[RenderableType]:
    words = [statement.kind.value.replace("_", " "), ", ".join(statement.tables)]
    if statement.rows is not None:
        words.append(f" {pieces.least(statement.rows, bound=statement.is_least)}")
    told = Text(printable(" ".join(word for word in words if word)))
    sql = Text(printable(_words_of(statement)), style="dim")
    yield from pieces.stacked(told, sql)


def _behind(trail: Trail) -> Iterator[tuple[str, Text]]:
    told = behind(trail.parts)
    if trail.parts:
        yield "asked by", sure(told["initiator"], told["initiator_standing"])
        yield "written by", sure(told["executor"], told["executor_standing"])
        yield "reason", pieces.plain(told["reason"])


def _rows(trail: Trail, limit: int | None) -> Iterator[RenderableType]:
    found = list(changed(trail))
    known = [trail.changes, *(one.changes for one in trail.parts)]
    same = sum(one.unchanged for one in known if one)
    complete = is_complete(trail)
    if not found:
        written = any(one and one.rows for one in [trail.receipt, *trail.transactions])
        if written:
            note = "none changed" if complete else "not known: see the change stream below"
            yield pieces.heading("Rows", note)
        return
    notes = [f"{len(found):,} changed"]
    notes += [f"{pieces.count(same, 'row')} written as they were"] if same else []
    if not complete:
        notes.append("not complete: see the change stream below")
    yield pieces.heading("Rows", printable("; ".join(notes)))
    last = trail.id
    for txn_id, row in found[:limit]:
        if txn_id != last:
            yield Text(f"  {txn_id}", style="cyan")
            last = txn_id
        yield from _row(row)
    if limit is not None and (left := len(found) - limit) > 0:
        yield Text(f"  {left:,} more rows: --rows N, or -o json for all", style="yellow")


def _row(row: RowChange) -> Iterator[RenderableType]:
    mark, style, word = _MARKS[row.mod_type]
    keys = ", ".join(f"{name}={display(value)}" for name, value in row.keys.items())
    title = Text(f"  {mark} ", style=f"bold {style}")
    title.append(printable(f"{row.table} {keys}"), style="bold").append(f"  {word}", style=style)
    yield pieces.whole(title)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    same = 0
    for name in row.after or row.before or {}:
        old = _shown(row.before, name)
        new = _shown(row.after, name)
        if row.mod_type is not ModType.UPDATE:
            value = new if row.after is not None else old
            if value is not None and value != display(None):
                table.add_row(printable(name), Text(printable(value), style=style))
        elif old == new:
            same += 1
        else:
            diff = Text(printable(old or "?"), style="red").append(" → ", style="dim")
            table.add_row(printable(name), diff.append(printable(new or "?"), style="green"))
    if table.row_count:
        yield Padding(table, (0, 0, 0, 6), expand=False)
    if same:
        yield Text(f"      {pieces.count(same, 'column')} unchanged", style="dim")


def _shown(values: Any, name: str) -> str | None:  # noqa: ANN401 - a row, or None
    return display(values[name]) if values is not None and name in values else None


def _transactions(parts: Sequence[Part]) -> Iterator[RenderableType]:
    yield pieces.heading("Transactions", "" if parts else "none: this run committed nothing")
    if not parts:
        return
    if terminal_width() < _ROOMY:
        yield from _stacked(parts)
        return
    table = pieces.grid("txn id", "committed", "outcome", "rows", "step", rigid=1)
    table.columns[3].justify = "right"
    for part in pieces.both_ends(parts, _LISTED):
        if part is None:
            more = f"... {len(parts) - _LISTED:,} more: -o json for all"
            table.add_row(Text(more, style="yellow"), "", "", "", "")
            continue
        receipt = part.receipt
        table.add_row(
            text(receipt.txn_id, Kind.ID),
            pieces.clock(receipt.commit_timestamp),
            text(told_of(receipt), Kind.STATE),
            pieces.rows(rows_changed(receipt, part.changes), least=receipt.rows_at_least),
            text(step_of(receipt)),
        )
    yield pieces.indented(table)


def _stacked(parts: Sequence[Part]) -> Iterator[RenderableType]:
    for part in pieces.both_ends(parts, _LISTED):
        if part is None:
            more = f"  ... {len(parts) - _LISTED:,} more: -o json for all"
            yield Text(more, style="yellow")
            continue
        receipt = part.receipt
        yield text(receipt.txn_id, Kind.ID)
        line = Text().append_text(text(told_of(receipt), Kind.STATE))
        line.append("  ").append_text(pieces.clock(receipt.commit_timestamp))
        number = rows_changed(receipt, part.changes)
        line.append(f"  {pieces.least(number, bound=receipt.rows_at_least)}")
        yield from pieces.stacked(line, Text(printable(step_of(receipt)), style="dim"))
