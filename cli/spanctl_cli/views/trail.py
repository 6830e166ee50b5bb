"""A trail as a result: fields and sections for programs, and a page for people."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from spanctl.audit.model import Coverage, Source, SourceName, Subject, Trail, told_of
from spanctl.audit.trail import totals, watching
from spanctl.ledger.fences import reopened_by
from spanctl.ledger.phases import ASSUMED, CHECKED
from spanctl.ledger.receipt import Statement, StatementKind
from spanctl.spanner.changes import RowChange
from spanctl.spanner.values import to_json
from spanctl_cli.output import Column, Kind, Listing, Record, Section
from spanctl_cli.views.standing import words
from spanctl_cli.views.trail_parts import (
    behind,
    changed,
    gaps_of,
    is_complete,
    part_values,
    rows_changed,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_TRANSACTION = (
    Column("subject", extra=True),
    Column("txn_id", kind=Kind.ID),
    Column("outcome", kind=Kind.STATE),
    Column("at_least_once", kind=Kind.STATE),
    Column("paired_with", kind=Kind.ID),
    Column("commit_timestamp", kind=Kind.TIME),
    Column("initiator"),
    Column("initiator_standing", kind=Kind.STATE),
    Column("initiator_claim"),
    Column("signed_by"),
    Column("executor"),
    Column("executor_standing", kind=Kind.STATE),
    Column("executor_chain"),
    Column("executor_chain_standing"),
    Column("executor_claim"),
    Column("identity"),
    Column("reason"),
    Column("flow"),
    Column("flow_run", kind=Kind.ID),
    Column("flow_run_name"),
    Column("flow_run_state", kind=Kind.STATE),
    Column("root_run", kind=Kind.ID),
    Column("deployment", kind=Kind.ID),
    Column("task"),
    Column("task_run", kind=Kind.ID),
    Column("task_run_state", kind=Kind.STATE),
    Column("attempt", kind=Kind.NUMBER),
    Column("rows_changed", kind=Kind.NUMBER),
    Column("rows_at_least", kind=Kind.FLAG),
    Column("operation"),
    Column("idempotent"),
    Column("changes_complete", kind=Kind.FLAG),
    Column("not_watched"),
    Column("gaps"),
    Column("rows_unchanged", kind=Kind.NUMBER),
    Column("operation_key"),
    Column("epoch", kind=Kind.NUMBER),
    Column("tag"),
    Column("undoes", kind=Kind.ID),
    Column("fenced_by"),
    Column("operation_now", kind=Kind.STATE),
    Column("goes_on_as", kind=Kind.ID),
    Column("reopens", kind=Kind.ID),
    Column("api_transaction_id"),
    Column("server_transaction_id"),
    Column("arguments_digest", extra=True),
    Column("result", extra=True),
    Column("client_version"),
)
_RUN = (
    Column("subject", extra=True),
    Column("run", kind=Kind.ID),
    Column("name"),
    Column("flow"),
    Column("state", kind=Kind.STATE),
    Column("created", kind=Kind.TIME),
    Column("start_time", kind=Kind.TIME),
    Column("end_time", kind=Kind.TIME),
    Column("run_count", kind=Kind.NUMBER),
    Column("deployment", kind=Kind.ID),
    Column("created_by"),
    Column("tags"),
    Column("initiator"),
    Column("initiator_standing", kind=Kind.STATE),
    Column("executor"),
    Column("executor_standing", kind=Kind.STATE),
    Column("reason"),
    Column("committed", kind=Kind.NUMBER),
    Column("fenced", kind=Kind.NUMBER),
    Column("rows_changed", kind=Kind.NUMBER),
    Column("changes_complete", kind=Kind.FLAG),
    Column("gaps"),
)
_STATEMENTS = (
    Column("kind"),
    Column("tables"),
    Column("rows", kind=Kind.NUMBER),
    Column("rows_at_least", kind=Kind.FLAG, extra=True),
    Column("times", kind=Kind.NUMBER),
    Column("more", kind=Kind.FLAG, extra=True),
    Column("sql"),
    Column("parameters"),
    Column("digest", extra=True),
)
_ROWS = (
    Column("table"),
    Column("change"),
    Column("keys", kind=Kind.DATA),
    Column("before", kind=Kind.DATA),
    Column("after", kind=Kind.DATA),
)
_RUN_ROWS = (Column("txn_id", kind=Kind.ID, extra=True), *_ROWS)
_TIMELINE = (
    Column("timestamp", kind=Kind.TIME),
    Column("kind"),
    Column("state", kind=Kind.STATE),
    Column("name"),
    Column("id", kind=Kind.ID),
    Column("rows", kind=Kind.NUMBER),
    Column("message"),
)
_TRANSACTIONS = (
    Column("txn_id", kind=Kind.ID),
    Column("commit_timestamp", title="committed", kind=Kind.TIME),
    Column("outcome", kind=Kind.STATE),
    Column("rows", kind=Kind.NUMBER),
    Column("rows_at_least", kind=Kind.FLAG, extra=True),
    Column("task"),
    Column("step"),
    Column("operation_key"),
    Column("flow_run", extra=True),
    Column("attempt", extra=True),
    Column("initiator"),
    Column("initiator_standing", kind=Kind.STATE),
    Column("executor"),
    Column("executor_standing", kind=Kind.STATE),
    Column("reason"),
    Column("changes_complete", kind=Kind.FLAG, extra=True),
)
_SOURCES = (
    Column("source"),
    Column("coverage", kind=Kind.STATE),
    Column("link", kind=Kind.STATE),
    Column("note"),
)
_NEXT = (Column("command"),)


def record(trail: Trail, rows: int | None) -> Record:
    """Return a trail as a result.

    Args:
        trail: What was found.
        rows: How many changed rows to show; None for all.
    """
    transaction = trail.subject is Subject.TRANSACTION

    def view() -> "Iterable[RenderableType]":
        from spanctl_cli.views.trail_page import page

        return page(trail, rows, steps(trail))

    return Record(
        "trail",
        _TRANSACTION if transaction else _RUN,
        _transaction(trail) if transaction else _run(trail),
        tuple(_sections(trail, rows)),
        view=view,
    )


def _transaction(trail: Trail) -> dict[str, Any]:
    receipt, changes, facts = trail.receipt, trail.changes, trail.facts
    identity = trail.identity
    if receipt is None or identity is None:
        return {}
    origin = receipt.provenance
    chain = origin.executor_chain_standing if origin.executor_chain else None
    run_state = facts.run.state if facts else None
    task_state = trail.task_run.state if trail.task_run else None
    return {
        "subject": trail.subject,
        "txn_id": receipt.txn_id,
        "outcome": told_of(receipt),
        "at_least_once": trail.outside.words if trail.outside else None,
        "paired_with": trail.outside.pair if trail.outside else None,
        "commit_timestamp": receipt.commit_timestamp,
        "initiator": origin.initiator,
        "initiator_standing": words(identity.initiator, origin.initiator_chain),
        "initiator_claim": origin.initiator_claim,
        "signed_by": list(origin.initiator_chain) or None,
        "executor": origin.executor,
        "executor_standing": identity.executor,
        "executor_chain": list(origin.executor_chain) or None,
        "executor_chain_standing": chain,
        "executor_claim": origin.executor_claim,
        "identity": identity.source.link,
        "reason": origin.reason,
        "flow": origin.flow or (facts.flow if facts else None),
        "flow_run": origin.flow_run,
        "flow_run_name": facts.run.name if facts else None,
        "flow_run_state": run_state.name if run_state else None,
        "root_run": origin.root_run,
        "deployment": origin.deployment,
        "task": origin.task,
        "task_run": origin.task_run,
        "task_run_state": task_state.name if task_state else None,
        "attempt": origin.attempt,
        "rows_changed": rows_changed(receipt, changes),
        "rows_unchanged": changes.unchanged if changes else None,
        "rows_at_least": receipt.rows_at_least,
        "operation": trail.outside.operation if trail.outside else None,
        "idempotent": _idempotent(trail),
        "changes_complete": is_complete(trail),
        "not_watched": list(changes.unwatched) if changes else None,
        "gaps": [str(gap) for gap in changes.gaps] if changes else None,
        "operation_key": receipt.operation_key,
        "epoch": receipt.epoch,
        "tag": origin.tag,
        "undoes": receipt.undoes,
        "fenced_by": trail.fencing.author if trail.fencing else None,
        "operation_now": trail.fencing.now if trail.fencing else None,
        "goes_on_as": _goes_on_as(trail),
        "reopens": reopened_by(receipt),
        "api_transaction_id": receipt.api_transaction_id,
        "server_transaction_id": changes.server_transaction_id if changes else None,
        "arguments_digest": receipt.arguments_digest,
        "result": receipt.result,
        "client_version": receipt.client_version,
    }


def _goes_on_as(trail: Trail) -> str | None:
    fencing = trail.fencing
    return fencing.txn_id if fencing and fencing.txn_id != trail.id else None


def _idempotent(trail: Trail) -> str | None:
    if trail.outside is None or trail.outside.kind is not StatementKind.PARTITIONED_DML:
        return None
    return ASSUMED if trail.outside.assumed else CHECKED


def _run(trail: Trail) -> dict[str, Any]:
    committed, fenced = totals(trail.transactions)
    values: dict[str, Any] = {
        "subject": trail.subject,
        "run": trail.id,
        **behind(trail.parts),
        "committed": committed,
        "fenced": fenced,
        "rows_changed": sum(rows_changed(one.receipt, one.changes) for one in trail.parts),
        "changes_complete": is_complete(trail) if trail.parts else None,
        "gaps": list(dict.fromkeys(str(gap) for one in trail.parts for gap in gaps_of(one))),
    }
    if trail.facts:
        run = trail.facts.run
        values |= {
            "name": run.name,
            "flow": trail.facts.flow,
            "state": run.state.name if run.state else None,
            "created": run.created,
            "start_time": run.start_time,
            "end_time": run.end_time,
            "run_count": run.run_count,
            "deployment": run.deployment_id,
            "created_by": run.created_by,
            "tags": list(run.tags),
        }
    elif trail.transactions:
        values["flow"] = trail.transactions[0].provenance.flow
    return values


def _sections(trail: Trail, rows: int | None) -> Iterable[Section]:
    if trail.receipt:
        statements = [_statement(one) for one in trail.receipt.statements]
        yield Section(
            "statements", "Statements", Listing("trail.statements", _STATEMENTS, statements)
        )
    else:
        parts = [part_values(one) for one in trail.parts]
        yield Section(
            "transactions",
            "Transactions",
            Listing("trail.transactions", _TRANSACTIONS, parts),
        )
    columns = _ROWS if trail.receipt else _RUN_ROWS
    shown = [_row(txn_id, row) for txn_id, row in islice(changed(trail), rows)]
    shown = [{column.key: row[column.key] for column in columns} for row in shown]
    yield Section("rows", "Rows", Listing("trail.rows", columns, shown))
    events = [
        {
            "timestamp": event.timestamp,
            "kind": event.kind,
            "state": event.state,
            "name": event.name,
            "id": event.id,
            "rows": event.rows,
            "message": event.message or None,
        }
        for event in trail.timeline
    ]
    yield Section("timeline", "Timeline", Listing("trail.timeline", _TIMELINE, events))
    sources = [_source(source) for source in trail.sources]
    yield Section("sources", "Sources", Listing("trail.sources", _SOURCES, sources))
    commands = [{"command": command} for command in steps(trail)]
    yield Section("next", "Next", Listing("trail.next", _NEXT, commands))


def _statement(statement: Statement) -> dict[str, Any]:
    return {
        "kind": statement.kind,
        "tables": list(statement.tables),
        "rows": statement.rows,
        "rows_at_least": statement.is_least,
        "times": statement.times,
        "more": statement.more,
        "sql": statement.sql,
        "parameters": list(statement.parameters),
        "digest": statement.digest,
    }


def _row(txn_id: str, row: RowChange) -> dict[str, Any]:
    return {
        "txn_id": txn_id,
        "table": row.table,
        "change": row.mod_type,
        "keys": _values(row.keys),
        "before": _values(row.before),
        "after": _values(row.after),
    }


def _values(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else {name: to_json(value) for name, value in values.items()}


def _source(source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "coverage": source.coverage,
        "link": source.link,
        "note": source.note,
    }


def steps(trail: Trail) -> Sequence[str]:
    """Return the commands that a person may want to type next."""
    commands = []
    if trail.receipt:
        origin = trail.receipt.provenance
        known = trail.source(SourceName.PREFECT).coverage is Coverage.PRESENT
        run = origin.flow_run if known and trail.facts else origin.root_run
        if run:
            commands.append(f"spanctl audit {run}")
        if trail.fencing:
            commands.append(trail.fencing.step)
        if reopens := reopened_by(trail.receipt):
            commands.append(f"spanctl audit {reopens}")
        if trail.receipt.undoes:
            commands.append(f"spanctl audit {trail.receipt.undoes}")
        if trail.outside and trail.outside.pair:
            commands.append(f"spanctl audit {trail.outside.pair}")
        if options := watching(trail.changes) if trail.changes else []:
            commands.append(f"spanctl init {' '.join(options)}")
    elif trail.parts:
        changing = [one for one in trail.transactions if one.rows] or trail.transactions
        commands.append(f"spanctl audit {changing[-1].txn_id}")
        tables = dict.fromkeys(
            option for one in trail.parts if one.changes for option in watching(one.changes)
        )
        if tables:
            commands.append(f"spanctl init {' '.join(tables)}")
    return commands
