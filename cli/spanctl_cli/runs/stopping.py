"""``spanctl runs cancel``: ask for it, wait for it, and tell what became of open transactions."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spanctl.clock import monotonic
from spanctl.errors import (
    ConflictError,
    OutcomeUnknownError,
    PendingError,
    SpanctlError,
    UnreachableError,
)
from spanctl.invocation import user_at_host
from spanctl_cli.context import AppContext
from spanctl_cli.output import Column, Kind, Record
from spanctl_cli.runs import ledger

if TYPE_CHECKING:
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun

PATIENCE: Final = 30.0
"""Seconds that a worker has to end a run."""
_POLL: Final = 0.4
_COLUMNS: Final = (
    Column("flow_run", title="flow run", kind=Kind.ID),
    Column("name"),
    Column("state", kind=Kind.STATE),
    Column("ledger", kind=Kind.STATE),
    Column("transactions_note", title="transactions"),
)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of a flow run that was to be cancelled.

    Attributes:
        run: The flow run, as it is now.
        told: What the ledger says of it.
        error: Why the command does not end with 0; None when it does.
    """

    run: "FlowRun"
    told: ledger.Told
    error: SpanctlError | None


def message(verb: str, reason: str | None) -> str:
    """Return what a state says of who proposed it, and why."""
    told = f"{verb} by {user_at_host()} with spanctl"
    return f"{told}: {reason}" if reason else told


def cancel(
    app: AppContext, api: "PrefectApi", run: "FlowRun", reason: str | None, timeout: float
) -> Stopped:
    """Ask for a flow run to be cancelled, wait until it has ended, and look at its transactions.

    One whose executor is dead is ended at once.

    Args:
        app: The invocation.
        api: Prefect.
        run: The flow run.
        reason: Why; kept in the state's message.
        timeout: Seconds to wait for its end; 0 not to wait.

    Raises:
        ConflictError: It has ended before.
        SpanctlError: Prefect could not be asked.
    """
    if run.state is not None and run.state.type.is_final:
        msg = f"flow run {run.id} has ended already, as {run.state.name}"
        raise ConflictError(msg, hint=f"look: spanctl runs show {run.id}", flow_run=run.id)
    if (dead := ledger.dead(app, api, run)) is not None:
        # Nobody is there to be asked.
        ended = ledger.end_dead(app, api, dead, cancelled=message("cancelled", reason))
    else:
        api.cancel(run.id, message("cancelled", reason))
        ended = _ended(api, run, timeout)
    told = ledger.told(app, api, api.root_of(ended) if ended.parent_task_run_id else ended)
    return Stopped(ended, told, _trouble(ended, told))


def _ended(api: "PrefectApi", run: "FlowRun", timeout: float) -> "FlowRun":
    deadline = monotonic() + timeout
    while True:
        now = api.flow_run(run.id)
        if (now.state and now.state.type.is_final) or monotonic() >= deadline:
            return now
        time.sleep(_POLL)


def _trouble(run: "FlowRun", told: ledger.Told) -> SpanctlError | None:
    if run.state is None or not run.state.type.is_final:
        msg = f"flow run {run.id} is to be cancelled, and goes on still"
        where = "the process that executes it" if run.deployment_id is None else "its worker"
        hint = f"{where} has to end it; wait: spanctl runs wait {run.id}"
        return PendingError(msg, hint=hint, flow_run=run.id)
    if limbo := [one.txn_id for one in told.transactions if one.in_limbo]:
        more = f", and of {len(limbo) - 1} more" if len(limbo) > 1 else ""
        msg = f"the outcome of transaction {limbo[0]}{more} is UNKNOWN: in limbo"
        hint = f"make them final: spanctl txn resolve --flow-run {run.id}"
        return OutcomeUnknownError(msg, hint=hint, flow_run=run.id, txn_ids=limbo)
    if told.trouble is not None:
        hint = f"when it can be asked: spanctl runs show {run.id}"
        return UnreachableError(told.note, hint=hint, flow_run=run.id)
    if run.state.name == "Completed":
        msg = f"flow run {run.id} completed before it could be cancelled"
        return ConflictError(msg, hint=f"look: spanctl runs show {run.id}", flow_run=run.id)
    return None


def record(one: Stopped) -> Record:
    """Return what is printed of one."""
    return Record("runs.cancel", _COLUMNS, _values(one), sections=(one.told.section,))


def _values(one: Stopped) -> dict[str, Any]:
    return {
        "flow_run": one.run.id,
        "name": one.run.name,
        "state": one.run.state.name if one.run.state else None,
        "ledger": one.told.coverage,
        "transactions_note": one.told.note,
    }
