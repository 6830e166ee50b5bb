"""``spanctl txn``: what is in flight or in limbo, and the last word on it."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from spanctl.clock import now
from spanctl.errors import ConflictError, SpanctlError, UsageError
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.options import FieldsOption, OutputOption, seconds
from spanctl_cli.output import Listing, emit
from spanctl_cli.sources import sources
from spanctl_cli.txns import facts, reopening

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spanctl.audit.owners import DeadRun
    from spanctl.audit.settling import Settled, Survey, Unsettled
    from spanctl.ledger.keys import OperationKey
    from spanctl.ledger.receipt import Provenance
    from spanctl.orchestration.api import PrefectApi
    from spanctl.spanner.client import Database

app = typer.Typer(help="List transactions in flight or in limbo, and make them final.")


class ListedOwner(StrEnum):
    """How the executor that owns an operation may be."""

    ALIVE = "alive"
    NOT_KNOWN = "not_known"
    PRESUMED_DEAD = "presumed_dead"
    GONE = "gone"


_FlowRunOption = Annotated[
    str | None,
    typer.Option("--flow-run", metavar="ID|NAME", help="Only those of this root flow run."),
]
_Id = Annotated[
    str | None,
    typer.Argument(
        metavar="ID", help="A txn ID or 8 or more of its first characters, or an operation key."
    ),
]
_WhyOption = Annotated[str | None, typer.Option("--reason", help="Why; kept in the ledger.")]


@app.command("list")
def list_(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    unresolved: Annotated[
        bool,
        typer.Option("--unresolved", help="Only those in limbo; exit 9 while there are any."),
    ] = False,
    flow_run: _FlowRunOption = None,
    owner: Annotated[
        ListedOwner | None,
        typer.Option("--owner", case_sensitive=False, help="Only those whose executor is so."),
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", metavar="TEXT", help="Only steps named like this.")
    ] = None,
    older: Annotated[
        float | None,
        typer.Option(
            "--older-than", parser=seconds, metavar="DURATION", help="Only those leased before."
        ),
    ] = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """List what is leased and has no receipt, the oldest first, and how its executor is.

    What an executor that is alive sees to is in flight; all else is in limbo. So is a flow run that
    has not ended and whose executor is dead, also where none of its transactions is open.

    Example: spanctl txn list --unresolved -o name
    """
    app_context = AppContext.of(ctx)
    with sources(app_context) as (database, api):
        from spanctl.audit.settling import survey

        found = survey(database, api)
        _tell_trouble(app_context, found)
        wanted = _of_run(api, found.limbo if unresolved else found.operations, flow_run)
        dead = _dead_runs(api, found, flow_run) if step is None else []
        is_hidden = found.owners.hides_dead_runs
    dead = [
        one
        for one in dead
        if (owner is None or one.verdict.value == owner.value)
        and (older is None or (now() - (one.heard or now())).total_seconds() > older)
    ]
    wanted = [
        one
        for one in wanted
        if (owner is None or one.owned.verdict.value == owner.value)
        and (step is None or step in one.operation.step)
    ]
    rows = [facts.listed(one) for one in wanted]
    rows = [row for row in rows if older is None or row["age"] > older]
    empty = "nothing is in limbo" if unresolved else "nothing is in flight or in limbo"
    listing = Listing(
        "txn.list",
        facts.LISTED,
        rows,
        empty="" if dead else empty,
        facts={"runs": [facts.dead_run(one) for one in dead]},
    )
    emit(listing, output, fields=fields)
    for one in dead:
        app_context.warn(f"flow run {one.run.id} ({one.run.name}) is dead: {one.note}")
    if dead:
        app_context.note("next: spanctl runs recover --all")
    elif rows and unresolved:
        app_context.note("next: spanctl txn resolve --all")
    if unresolved and (rows or dead):
        raise typer.Exit(ExitCode.UNKNOWN)
    if unresolved and is_hidden:
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command()
def resolve(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    wanted: _Id = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Resolve all that is in limbo.")
    ] = False,
    flow_run: _FlowRunOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Fence also what a run may go on with.")
    ] = False,
    reason: _WhyOption = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Make outcomes final: find each receipt, or fence what has none.

    What is fenced can never commit any more, and its operation is closed until it is reopened.
    Nothing is fenced whose executor is alive. Flow runs that have not ended and whose executor is
    dead are ended as Crashed. With --all, exit 0 says that nothing is left in limbo.

    Example: spanctl txn resolve --all
    """
    if (wanted is None) == (not everything and flow_run is None):
        msg = "name one transaction, or pass --all or --flow-run"
        raise UsageError(msg, hint="see what there is: spanctl txn list")
    app_context = AppContext.of(ctx)
    with sources(app_context) as (database, api):
        from spanctl.audit import settling
        from spanctl.audit.operations import operation

        found = settling.survey(database, api)
        if wanted is None:
            _tell_trouble(app_context, found)
        keys: Sequence[OperationKey]
        if wanted is not None:
            keys = [operation(database, wanted)]
            _tell_strange(app_context, (database, api), keys, found)
        else:
            keys = [one.operation.key for one in _of_run(api, found.operations, flow_run)]
            settling.supersede(database, found)
        held = {owned.lease.root_run for key in keys if (owned := found.owned(key))}
        dead = {one.run.id for one in _dead_runs(api, found, flow_run)} if not wanted else set()
        _keep_ended(app_context, api, held | dead)
        done = [
            settling.settle(
                database,
                key,
                found.owned(key),
                provenance=_provenance(found, key, reason or "spanctl txn resolve"),
                force=force,
            )
            for key in keys
        ]
        if wanted is None:
            _end_dead(app_context, api, _dead_runs(api, found, flow_run))
            found = settling.survey(database, api)
        settling.tidy(database, found, force=force)
    if wanted is not None:
        _refuse_left(done)
    _emit_settled(app_context, done, output, fields)


@app.command()
def fence(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    wanted: _Id = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", metavar="KEY", help="What is open under it, or one --step of it."
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            "--step", metavar="STEP", help="With --idempotency-key: pay, pay#2 or pay=alice."
        ),
    ] = None,
    reason: _WhyOption = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Close an operation for good, whatever its run does: it can't commit any more.

    A run that tries ends with exit 6, until the operation is reopened. It may be named before
    anything has run, by its operation key or by an idempotency key and a step; then you are warned
    that nothing has used it yet.

    Examples: spanctl txn fence 3f2a9c1e --reason "wrong amount"
              spanctl txn fence --idempotency-key payday --step transfer --reason "not this year"
    """
    if (wanted is None) == (idempotency_key is None) or (step and idempotency_key is None):
        msg = "name one operation, or pass --idempotency-key, with or without --step"
        raise UsageError(msg, hint="see what there is: spanctl txn list")
    app_context = AppContext.of(ctx)
    with sources(app_context) as (database, api):
        from spanctl.audit import settling, unused
        from spanctl.audit.operations import operation
        from spanctl.ledger.receipt import Outcome

        found = settling.survey(database, api)
        if wanted is not None:
            keys = [operation(database, wanted)]
        elif step is not None:
            keys = [unused.under_key(str(idempotency_key), step)]
        else:
            keys = unused.all_under_key(database, str(idempotency_key), found.leases)
        _tell_strange(app_context, (database, api), keys, found)
        done = [
            settling.settle(
                database,
                key,
                found.owned(key),
                provenance=_provenance(found, key, reason or "spanctl txn fence"),
                force=True,
            )
            for key in keys
        ]
        settling.tidy(database, found)
    for one in done:
        if one.outcome is Outcome.COMMITTED:
            msg = f"transaction {one.txn_id} is committed: there is nothing left to fence"
            raise ConflictError(msg, hint=f"run: spanctl audit {one.txn_id}", txn_id=one.txn_id)
    _emit_settled(app_context, done, output, fields)


@app.command()
def reopen(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    wanted: _Id = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")],
    flow_run: Annotated[
        str | None,
        typer.Option("--flow-run", metavar="ID|NAME", help="All that is closed of this run."),
    ] = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Let an operation run again that was fenced by hand; it gets a new txn ID.

    Example: spanctl txn reopen 3f2a9c1e --reason "the amount was right"
    """
    if (wanted is None) == (flow_run is None):
        msg = "name one transaction, or pass --flow-run"
        raise UsageError(msg, hint="see what is closed: spanctl audit list --outcome not_committed")
    if not reason.strip():
        msg = "a reason can't be empty"
        raise UsageError(msg)
    app_context = AppContext.of(ctx)
    with sources(app_context) as (database, api):
        keys = _closed(database, api, wanted, flow_run)
        rows = [reopening.reopen(database, key, reason) for key in keys]
        steps = reopening.next_steps(api, [row.pop("root_run") for row in rows])
    empty = f"nothing of {flow_run} is closed"
    emit(Listing("txn.reopen", facts.REOPENED, rows, empty=empty), output, fields=fields)
    for step in steps if rows else ():
        app_context.note(f"next: {step}")


def _closed(
    database: "Database", api: "PrefectApi | None", wanted: str | None, flow_run: str | None
) -> "list[OperationKey]":
    from spanctl.audit.operations import operation, root_of

    _ = database.ledger  # says what to do where there is none
    if wanted is not None:
        return [operation(database, wanted)]
    return reopening.closed_of_run(database, root_of(api, str(flow_run)))


def _tell_trouble(app_context: AppContext, found: "Survey") -> None:
    if found.owners.hides_dead_runs or (found.owners.trouble and found.limbo):
        app_context.warn(f"{found.owners.trouble}: which runs have ended isn't known")


def _dead_runs(api: "PrefectApi | None", found: "Survey", flow_run: str | None) -> "list[DeadRun]":
    from spanctl.audit.operations import root_of

    if flow_run is None:
        return list(found.dead_runs)
    root = root_of(api, flow_run)
    return [one for one in found.dead_runs if one.run.id == root]


def _end_dead(app_context: AppContext, api: "PrefectApi | None", dead: "Sequence[DeadRun]") -> None:
    from spanctl.audit import deaths

    if api is None:
        return
    for one in dead:
        name = f"flow run {one.run.id} ({one.run.name})"
        try:
            app_context.note(f"{name} is {deaths.close(api, one).name} now: {one.note}")
        except SpanctlError as error:  # it may have ended just now
            app_context.warn(f"{name} was not ended: {error.message}")


def _keep_ended(
    app_context: AppContext, api: "PrefectApi | None", root_runs: "Iterable[str | None]"
) -> None:
    """Have runs that are settled by hand not be run again by themselves."""
    from spanctl.invocation import RECOVER_TAG, SETTLED_LABEL, user_at_host

    roots = sorted(set(filter(None, root_runs)))
    if api is None or not roots:
        return
    try:
        for run in api.flow_runs(roots):
            if RECOVER_TAG in run.tags:
                api.add_labels(run.id, {SETTLED_LABEL: f"txn resolve by {user_at_host()}"})
    except SpanctlError as error:
        app_context.warn(f"runs recover may run it again by itself: {error.message}")


def _tell_strange(
    app_context: AppContext,
    where: "tuple[Database, PrefectApi | None]",
    keys: "Sequence[OperationKey]",
    found: "Survey",
) -> None:
    """Warn of operations that nothing has used: a key may be mistyped."""
    from spanctl.audit import unused

    for key in keys:
        if told := unused.strange(*where, key, found.leases):
            app_context.warn(told)


def _of_run(
    api: "PrefectApi | None", operations: "Sequence[Unsettled]", flow_run: str | None
) -> "list[Unsettled]":
    from spanctl.audit.operations import is_of_run, root_of

    if flow_run is None:
        return list(operations)
    root = root_of(api, flow_run)
    return [one for one in operations if is_of_run(one.operation, root)]


def _provenance(found: "Survey", key: "OperationKey", reason: str) -> "Provenance":
    from spanctl.ledger.keys import is_txn_id

    owned = found.owned(key)
    # Of what nobody has leased, the key tells the run: flow runs' ids look like txn IDs.
    root_run = owned.lease.root_run if owned else key.root if is_txn_id(key.root) else None
    return reopening.claimed(root_run, reason)


def _refuse_left(done: "Sequence[Settled]") -> None:
    from spanctl.audit.settling import Way

    for one in done:
        if one.way is Way.LEFT:
            msg = f"transaction {one.txn_id} was left as it is: {one.note}"
            hint = f"wait for its run, or: spanctl txn resolve {one.txn_id} --force"
            raise ConflictError(msg, hint=hint, txn_id=one.txn_id)


def _emit_settled(
    app_context: AppContext,
    done: "Sequence[Settled]",
    output: OutputOption,
    fields: FieldsOption,
) -> None:
    from spanctl.audit.settling import Way
    from spanctl.ledger.fences import closes
    from spanctl.spanner.liveness import Verdict

    rows = [facts.settled(one) for one in done]
    empty = "nothing is in limbo"
    emit(Listing("txn.resolve", facts.SETTLED, rows, empty=empty), output, fields=fields)
    left = [one for one in done if one.way is Way.LEFT]
    in_charge = [one for one in left if one.owned and one.owned.verdict is Verdict.ALIVE]
    if in_charge:
        app_context.note(f"{len(in_charge):,} in flight: left to their runs")
    if len(left) > len(in_charge):
        app_context.note("what is left may still be run: look, then pass --force")
        raise typer.Exit(ExitCode.UNKNOWN)
    fenced = [one for one in done if one.entry is not None and closes(one.entry)]
    runs = sorted({one.owned.lease.root_run or "" for one in fenced if one.owned})
    if len(fenced) > 1 and all(runs):
        which = f"--flow-run {runs[0]}" if len(runs) == 1 else "--flow-run RUN for each run"
        app_context.note(f"to let them run again: spanctl txn reopen {which} --reason WHY")
    elif fenced:
        app_context.note(f"to let it run again: spanctl txn reopen {fenced[0].txn_id} --reason WHY")
