"""What is printed of transactions in flight, in limbo, settled and reopened."""

from typing import TYPE_CHECKING, Any

from spanctl_cli.output import Column, Kind

if TYPE_CHECKING:
    from spanctl.audit.owners import DeadRun
    from spanctl.audit.settling import Settled, Unsettled
    from spanctl.ledger.keys import OperationKey
    from spanctl.ledger.receipt import Receipt

LISTED = (
    Column("txn_id", kind=Kind.ID),
    Column("state", kind=Kind.STATE),
    Column("age", kind=Kind.DURATION),
    Column("step"),
    Column("owner", kind=Kind.STATE),
    Column("note"),
    Column("flow_run", title="flow run"),
    Column("run_name", title="run name"),
    Column("host"),
    Column("pid"),
    Column("executors", kind=Kind.NUMBER, extra=True),
    Column("since", kind=Kind.TIME, extra=True),
    Column("epoch", kind=Kind.NUMBER, extra=True),
    Column("operation_key", extra=True),
)
SETTLED = (
    Column("txn_id", kind=Kind.ID),
    Column("outcome", kind=Kind.STATE),
    Column("how"),
    Column("step"),
    Column("owner", kind=Kind.STATE),
    Column("commit_timestamp", title="at", kind=Kind.TIME),
    Column("note"),
    Column("flow_run", title="flow run", extra=True),
    Column("epoch", kind=Kind.NUMBER, extra=True),
    Column("operation_key", extra=True),
)
REOPENED = (
    Column("txn_id", kind=Kind.ID),
    Column("reopens", kind=Kind.ID),
    Column("recorded_by", title="recorded by", kind=Kind.ID),
    Column("commit_timestamp", title="at", kind=Kind.TIME),
    Column("step"),
    Column("reason"),
    Column("epoch", kind=Kind.NUMBER, extra=True),
    Column("operation_key", extra=True),
)


def listed(one: "Unsettled") -> dict[str, Any]:
    """Return a row of :data:`LISTED`."""
    from spanctl.clock import now

    operation, owned = one.operation, one.owned
    return {
        "txn_id": operation.txn_id,
        "state": one.phase,
        "age": max(0.0, (now() - operation.since).total_seconds()),
        "step": operation.step,
        "owner": owned.verdict,
        "note": owned.note,
        "flow_run": operation.root_run,
        "run_name": owned.run.name if owned.run else None,
        "host": owned.lease.host,
        "pid": owned.lease.pid,
        "executors": len(operation.leases),
        "since": operation.since,
        "epoch": operation.epoch,
        "operation_key": str(operation.key),
    }


def dead_run(one: "DeadRun") -> dict[str, Any]:
    """Return what JSON tells of a flow run that has not ended and whose executor is dead."""
    return {
        "flow_run": one.run.id,
        "name": one.run.name,
        "state": one.run.state.name if one.run.state else None,
        "owner": one.verdict,
        "executor_id": one.executor.executor_id if one.executor else None,
        "host": one.process.host if one.process else None,
        "pid": one.process.pid if one.process else None,
        "heartbeat": one.heard,
        "note": one.note,
    }


def settled(one: "Settled") -> dict[str, Any]:
    """Return a row of :data:`SETTLED`."""
    from spanctl.ledger.keys import step_of

    entry: Receipt | None = one.entry
    return {
        "txn_id": one.txn_id,
        "outcome": one.outcome,
        "how": one.way,
        "step": step_of(one.key),
        "owner": one.owned.verdict if one.owned else None,
        "commit_timestamp": entry.commit_timestamp if entry else None,
        "note": one.note,
        "flow_run": one.owned.lease.root_run if one.owned else None,
        "epoch": entry.epoch if entry else None,
        "operation_key": str(one.key),
    }


def reopened(key: "OperationKey", fenced: "Receipt", entry: "Receipt") -> dict[str, Any]:
    """Return a row of :data:`REOPENED`: what was closed, and what reopens it."""
    from spanctl.ledger.keys import step_of
    from spanctl.spanner.operation import Call

    opened = Call(key, fenced.epoch + 1)
    return {
        "txn_id": opened.txn_id,
        "reopens": fenced.txn_id,
        "recorded_by": entry.txn_id,
        "commit_timestamp": entry.commit_timestamp,
        "step": step_of(key),
        "reason": entry.provenance.reason,
        "epoch": opened.epoch,
        "operation_key": str(key),
    }
