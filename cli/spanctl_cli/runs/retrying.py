"""``spanctl runs retry``: which runs, what each does once more, and what was closed by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from spanctl.errors import ConflictError, SpanctlError
from spanctl_cli import exit_codes
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.output import Column, Kind, Listing
from spanctl_cli.runs import again, counted, ledger
from spanctl_cli.txns import reopening

if TYPE_CHECKING:
    from spanctl.ledger.keys import OperationKey
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.browsing import RunFilter
    from spanctl.orchestration.model import FlowRun
    from spanctl.spanner.client import Database

COLUMNS: Final = (
    Column("flow_run", title="flow run", kind=Kind.ID),
    Column("name"),
    Column("flow"),
    Column("state", kind=Kind.STATE),
    Column("committed", title="replays", kind=Kind.NUMBER),
    Column("open", kind=Kind.NUMBER),
    Column("closed", kind=Kind.NUMBER),
    Column("outcome", kind=Kind.STATE),
    Column("message"),
)


@dataclass(slots=True, kw_only=True)
class Retry:
    """A flow run that is to be run again.

    Attributes:
        run: The run.
        flow: Its deployment's name, or its flow's.
        committed: How many of its transactions are committed: these are found, not done again.
        open: How many have no outcome yet.
        closed: Which operations were closed by hand, by their databases.
        outcome: What became of it: planned, accepted or refused.
        error: Why it was refused.
    """

    run: "FlowRun"
    flow: str | None
    committed: int | None = None
    open: int | None = None
    closed: "list[tuple[Database, OperationKey]]" = field(default_factory=list)
    outcome: str = "planned"
    error: SpanctlError | None = None


def chosen(app: AppContext, api: "PrefectApi", wanted: "RunFilter", limit: int) -> "list[FlowRun]":
    """Return the runs that filters pick and that can be run again: ended, and not completed.

    Raises:
        SpanctlError: Prefect could not be asked, or knows no such flow, deployment or state.
    """
    from spanctl.orchestration.browsing import list_runs

    found = list_runs(api, wanted, limit=limit)
    runs = [one.run for one in found.runs]
    fit = [run for run in runs if _can_be_run_again(run)]
    if left := len(runs) - len(fit):
        app.note(f"{counted(left, 'run')} left out: not ended, completed, or of no deployment")
    if found.more:
        app.warn(f"only the newest {len(found.runs):,} were looked at; for more: --limit")
    return fit


def _can_be_run_again(run: "FlowRun") -> bool:
    ended = run.state is not None and run.state.type.is_final and run.state.name != "Completed"
    return ended and run.deployment_id is not None and run.parent_task_run_id is None


def looked_at(app: AppContext, api: "PrefectApi", runs: "Sequence[FlowRun]") -> list[Retry]:
    """Return each run with what the ledger says of it."""
    from spanctl.ledger.receipt import Outcome
    from spanctl.orchestration.browsing import named

    found = []
    for one in named(api, runs):
        retry = Retry(run=one.run, flow=one.deployment or one.flow)
        told = ledger.told(app, api, one.run)
        if told.trouble is None:
            outcomes = [each.outcome for each in told.transactions]
            retry.committed = outcomes.count(Outcome.COMMITTED)
            retry.open = outcomes.count(Outcome.UNKNOWN)
            retry.closed = closed(app, one.run)
        try:
            if ledger.dead(app, api, one.run) is None:
                api.refuse_retry(one.run)
        except SpanctlError as error:
            retry.outcome, retry.error = "refused", error
        found.append(retry)
    return found


def closed(app: AppContext, run: "FlowRun") -> "list[tuple[Database, OperationKey]]":
    """Return the operations of a run that were closed by hand, with their databases.

    Where a ledger can't be asked, a warning says so.
    """
    try:
        databases = [ledger.reached(app, name) for name in ledger.databases_of(run)]
        return [(one, key) for one in databases for key in reopening.closed_of_run(one, run.id)]
    except SpanctlError as error:
        app.warn(f"whether something of it is closed was not asked: {error.message}")
        return []


def open_up(
    app: AppContext,
    run: "FlowRun",
    found: "Sequence[tuple[Database, OperationKey]]",
    reason: str | None,
) -> None:
    """Open what was closed by hand, and say so; refuse where nobody asked for that.

    Args:
        app: The context.
        run: The run.
        found: What was closed of it.
        reason: Why it is opened; None where nobody asked for it.

    Raises:
        ConflictError: It wasn't asked for: the run would end at the first of them.
        SpanctlError: A ledger could not be written.
    """
    from spanctl.spanner.fence import standing

    if not found:
        return
    if reason is None:
        first = standing(*found[0]).call
        more = f", and {len(found) - 1:,} more" if len(found) > 1 else ""
        msg = f"transaction {first.txn_id} of flow run {run.id}{more} was closed by hand"
        hint = f"open what is closed with it: spanctl runs retry {run.id} --reopen --reason WHY"
        raise ConflictError(msg, hint=hint, flow_run=run.id, txn_id=first.txn_id)
    for database, key in found:
        row = reopening.reopen(database, key, reason)
        app.note(f"opened {row['step']}: {row['reopens']} was closed, it runs as {row['txn_id']}")


def accept(
    app: AppContext,
    api: "PrefectApi",
    planned: Sequence[Retry],
    why: str,
    reopen: str | None,
) -> None:
    """Have workers run each of them again; what is refused has its error.

    Args:
        app: The context.
        api: Prefect.
        planned: The runs.
        why: What their states say of it.
        reopen: Why what was closed by hand is opened; None where nobody asked for it.
    """
    for one in planned:
        if one.error is not None:
            continue
        try:
            ended = again.ended(app, api, one.run)
            open_up(app, ended, one.closed, reopen)
            again.accept(api, ended, why)
            one.outcome = "accepted"
        except SpanctlError as error:
            one.outcome, one.error = "refused", error


def listing(retries: Sequence[Retry]) -> Listing:
    """Return what is printed of several."""
    rows = [_row(one) for one in retries]
    return Listing("runs.retry", COLUMNS, rows, empty="no runs like that can be run again")


def code_of(retries: Sequence[Retry]) -> ExitCode:
    """Return the worst exit code."""
    return exit_codes.worst(
        exit_codes.of(one.error) if one.error else ExitCode.DONE for one in retries
    )


def _row(one: Retry) -> dict[str, Any]:
    return {
        "flow_run": one.run.id,
        "name": one.run.name,
        "flow": one.flow,
        "state": one.run.state.name if one.run.state else None,
        "committed": one.committed,
        "open": one.open,
        "closed": len(one.closed),
        "outcome": one.outcome,
        "message": one.error.message if one.error else None,
    }
