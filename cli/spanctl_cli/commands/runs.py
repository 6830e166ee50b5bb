"""``spanctl runs``: flow runs, looked at, waited for, cancelled and run again."""

import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from spanctl.errors import PendingError, UsageError
from spanctl_cli import exit_codes, runs
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.options import (
    DryRunOption,
    FieldsOption,
    LimitOption,
    OutputOption,
    SinceOption,
    TimeoutOption,
    YesOption,
    seconds,
)
from spanctl_cli.output import Column, Format, Kind, Record, emit, stdout_is_terminal, stream
from spanctl_cli.prompts import confirm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanctl.orchestration.browsing import RunFilter
    from spanctl_cli.runs import recovering
    from spanctl_cli.runs.retrying import Retry

app = typer.Typer(help="List flow runs, follow, wait for, cancel and retry them.")

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A flow run's id, or its name if only one has it.")
]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Flow runs, by their ids or names.")
]
WhyOption = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the state's message.")
]


def _states() -> list[str]:
    """Return what completes a state."""
    from spanctl.orchestration.browsing import state_words

    return state_words()


class Level(StrEnum):
    """The least level of the lines that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command("list")
def list_(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="In this state, or active, ended. Repeatable.",
            autocompletion=_states,
        ),
    ] = None,
    flow: Annotated[
        str | None, typer.Option("--flow", metavar="NAME", help="Of this flow.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", "-d", metavar="NAME", help="Of this deployment.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="With this tag. Repeatable.")
    ] = None,
    since: SinceOption = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="AGE|TIME", help="The newest of interest.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Those that you asked for, here.")] = False,
    limit: LimitOption = 50,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """List flow runs, those due last first; what is due only later with --state scheduled.

    Example: spanctl runs list --state failed --since 24h -o name
    """
    from spanctl.orchestration.browsing import list_runs
    from spanctl_cli.runs import showing
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    wanted = _filter(state, flow, deployment, tag, since, until, mine)
    with connect(application) as api:
        found = list_runs(api, wanted, limit=limit)
    emit(showing.listing(found, empty="no flow runs like that"), output, fields=fields)
    if found.more:
        application.note(f"these are the newest {len(found.runs):,}; for more: --limit or --until")


def _filter(  # noqa: PLR0913, PLR0917 - the options
    state: list[str] | None,
    flow: str | None,
    deployment: str | None,
    tag: list[str] | None,
    since: str | None,
    until: str | None,
    mine: bool,
) -> "RunFilter":
    from spanctl import clock
    from spanctl.invocation import user_at_host
    from spanctl.orchestration.browsing import RunFilter

    return RunFilter(
        states=tuple(state or ()),
        flow=flow,
        deployment=deployment,
        tags=tuple(tag or ()),
        since=clock.parse_since(since) if since else None,
        until=clock.parse_since(until) if until else None,
        initiator=user_at_host() if mine else None,
    )


@app.command()
def show(
    ctx: typer.Context,
    run: RunArgument,
    *,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="Show the values of the parameters, too.")
    ] = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Show a flow run: its states, task runs with their attempts, transactions and outcomes.

    Exit 3 says that the ledger could not be asked: what Prefect knows is shown nevertheless.

    Example: spanctl runs show bold-fox -o json
    """
    from spanctl_cli.runs import ledger, showing
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    with connect(application) as api:
        found = api.find_flow_run(run)
        told = ledger.told(application, api, showing.root_of(api, found))
        record = showing.record(api, found, told, parameters=parameters)
    emit(record, output, fields=fields)
    if told.trouble is not None:
        application.warn(told.note)
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command()
def logs(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: RunArgument,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    level: Annotated[
        Level, typer.Option("--level", case_sensitive=False, help="Leave out what is below.")
    ] = Level.DEBUG,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, metavar="N", help="Only the last N lines.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Show what a run logged and what it committed, on one time line.

    Lines come from Prefect, commits and fences from the ledger; of subflow runs, too, unless the
    lines are followed. Exit 3 says that the ledger could not be asked.

    Example: spanctl runs logs bold-fox --follow
    """
    from spanctl_cli.runs import lines
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    if follow and tail is not None:
        msg = "--tail is about what there is, --follow about what comes"
        raise UsageError(msg, hint="pass one of the two")
    least = getattr(logging, level.name)
    trouble = None
    with connect(application) as api:
        found = api.find_flow_run(run)
        if follow:
            rows: Iterable[lines.Row] = lines.followed(application, api, found, least)
        else:
            told, trouble = lines.all_lines(application, api, found, least)
            rows = told[len(told) - min(tail, len(told)) :] if tail is not None else told
        listing = lines.listing(rows)
        stream(listing, output, lines.draw)
    if trouble is not None:
        application.warn(f"without the ledger: {trouble.message}")
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command()
def watch(
    ctx: typer.Context,
    run: RunArgument,
    *,
    timeout: TimeoutOption = None,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels the run.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Watch a run to its end: states, log lines and transactions; exit as the run ended.

    Ctrl-C only ends the watching. With -o jsonl every piece of news is one line. Exit 9 says that
    the run's executor is dead.

    Example: spanctl runs watch bold-fox
    """
    from spanctl_cli.runs import again
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    with connect(application) as api:
        again.watch(
            application,
            api,
            api.find_flow_run(run),
            runs.Asked(
                target=run,
                timeout=timeout,
                cancel_on_interrupt=cancel_on_interrupt,
                output=output,
            ),
        )


@app.command()
def wait(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: RunsArgument,
    *,
    until: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="STATE",
            help="Wait for this state instead of the end. Repeatable.",
            autocompletion=_states,
        ),
    ] = None,
    timeout: TimeoutOption = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Wait until runs have ended, and exit as they did; 8 when the time is over.

    Of several runs each is told apart, and the worst exit code counts. With --for, 0 says that the
    state was reached; a run that ended otherwise exits as it ended, or with 6. Of a run whose
    executor is dead nobody waits for the end: exit 9.

    Example: spanctl runs wait bold-fox --timeout 5m
    """
    from spanctl_cli.runs import waiting
    from spanctl_cli.runs.deployments import connect

    app = AppContext.of(ctx)
    with connect(app) as api:
        done = waiting.wait(app, api, waiting.find(api, run), until or (), timeout)
    listing, code = waiting.settle(done, "runs.wait")
    emit(listing, output, fields=fields)
    if code is not ExitCode.DONE:
        raise typer.Exit(code)


@app.command()
def cancel(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: RunArgument,
    *,
    reason: WhyOption = None,
    timeout: TimeoutOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Don't wait for its end.")] = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Cancel a run, wait up to 30 s for its end, and tell what became of its transactions.

    Exit 8: it goes on still. Exit 9: transactions are left in limbo, which txn resolve makes final.
    A run whose executor is dead is ended at once, with nothing of it in limbo.

    Example: spanctl runs cancel bold-fox --reason "wrong day"
    """
    from spanctl_cli.runs import stopping
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    limit = 0.0 if detach else timeout or stopping.PATIENCE
    with connect(application) as api:
        found = api.find_flow_run(run)
        stopped = stopping.cancel(application, api, found, reason, limit)
    emit(stopping.record(stopped), output, fields=fields)
    accepted = detach and isinstance(stopped.error, PendingError)
    if stopped.error is not None and not accepted:
        application.warn(stopped.error.message)
        application.note(stopped.error.hint)
        raise typer.Exit(exit_codes.of(stopped.error))


@app.command()
def retry(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Flow runs, by their ids or names."),
    ] = None,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="All that ended so. Repeatable.",
            autocompletion=_states,
        ),
    ] = None,
    flow: Annotated[
        str | None, typer.Option("--flow", metavar="NAME", help="All of this flow.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", "-d", metavar="NAME", help="All of this one.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="All with it. Repeatable.")
    ] = None,
    since: SinceOption = None,
    limit: LimitOption = 50,
    reason: WhyOption = None,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Open what was closed of it by hand.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch/--detach", help="Wait for the end, or only have it accepted.")
    ] = True,
    timeout: TimeoutOption = None,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels the run.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Have workers run runs again that failed, crashed or were cancelled.

    Each stays the same flow run: transactions that it committed are not done again, their receipts
    are found. What is told and counted is this attempt's. A run whose executor is dead is ended as
    Crashed first. What was closed by hand stays closed without --reopen, and the run is refused.

    Several runs, or those that filters pick, are listed with how many transactions each replays,
    and are only accepted; filters ask first.

    Examples: spanctl runs retry bold-fox --reason "the disk was full"
              spanctl runs retry --state crashed --since 2h --flow pay --reason INC-1 --dry-run
    """
    from spanctl_cli.runs import again, retrying
    from spanctl_cli.runs.deployments import connect
    from spanctl_cli.runs.stopping import message

    application = AppContext.of(ctx)
    filters = bool(state or flow or deployment or tag or since)
    if bool(run) == filters:
        msg = "name flow runs, or pick them by --state, --flow, --deployment, --tag or --since"
        raise UsageError(msg, hint="see what ended: spanctl runs list --state ended")
    why = message("retried", reason)
    opening = (reason or "spanctl runs retry --reopen") if reopen else None
    with connect(application) as api:
        if filters:
            wanted = _filter(state or ["ended"], flow, deployment, tag, since, None, False)
            runs_ = retrying.chosen(application, api, wanted, limit)
        else:
            runs_ = [api.find_flow_run(one) for one in run or ()]
        if filters or dry_run or len(runs_) > 1:
            planned = retrying.looked_at(application, api, runs_)
            if planned and not dry_run:
                if filters:
                    question = f"Run {runs.counted(len(planned), 'run')} again?"
                    confirm(application, question, yes=yes, hint="look with --dry-run, pass --yes")
                retrying.accept(application, api, planned, why, opening)
            emit(retrying.listing(planned), output, fields=fields)
            _say_what_is_next(application, planned)
            return
        (found,) = runs_
        found = again.ended(application, api, found)
        retrying.open_up(application, found, retrying.closed(application, found), opening)
        if watch:
            asked = runs.Asked(
                target=found.id,
                timeout=timeout,
                cancel_on_interrupt=cancel_on_interrupt,
                output=output,
            )
            again.retry(application, api, found, why, asked)
            return
        emit(again.accept(api, found, why), output, fields=fields)
    application.note(f"accepted; next: spanctl runs watch {found.id}")


def _say_what_is_next(application: AppContext, planned: "list[Retry]") -> None:
    from spanctl_cli.runs import retrying

    for one in planned:
        if one.error is not None:
            application.warn(f"flow run {one.run.id}: {one.error.message}")
            application.note(one.error.hint)
    accepted = [one.run.id for one in planned if one.outcome == "accepted"]
    if accepted:
        application.note(f"accepted; next: spanctl runs wait {' '.join(accepted)}")
    if code := retrying.code_of(planned):
        raise typer.Exit(code)


@app.command()
def recover(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Flow runs, by their ids or names."),
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Recover all that died.")] = False,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run them again also where that wasn't asked for.")
    ] = False,
    max_attempts: Annotated[
        int,
        typer.Option("--max-attempts", min=0, metavar="N", help="Run a run again N times at most."),
    ] = 3,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Run it again though DDL or partitioned DML of it may have run."
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking until Ctrl-C.")] = False,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Have Prefect's workers do it: a deployment.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            parser=seconds,
            metavar="DURATION",
            help="With --schedule: how often; 60s when left out.",
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="End the schedule.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """End flow runs whose process died, and run those again that ask for it.

    What a dead run has left open is made final first, and it ends as Crashed. It is run again where
    it has the tag spanctl.recover, from its deployment or by run --recover, or with --rerun: the
    same flow run, which does nothing twice that it has committed. One of a file goes on in a
    process of its own, on the machine where it was typed.

    Exit 9: somebody has to look before one is run again. Exit 12: one died too often.

    Examples: spanctl runs recover --all --dry-run
              spanctl runs recover bold-fox --rerun
              spanctl runs recover --schedule --every 60s
    """
    from spanctl_cli.runs import recovering

    application = AppContext.of(ctx)
    chosen = recovering.Chosen(
        runs=run or (), rerun=rerun, attempts=max_attempts, force=force, watch=watch
    )
    if schedule or remove:
        _refuse_beside_schedule(chosen, everything=everything, dry_run=dry_run)
        if remove:
            recovering.remove(application)
        else:
            emit(
                recovering.deploy(application.settings(), every, max_attempts),
                output,
                fields=fields,
            )
        return
    if everything == bool(run) and not watch:
        msg = "name flow runs, or pass --all"
        raise UsageError(msg, hint="see what died: spanctl runs recover --all --dry-run")
    if every is not None:
        msg = "--every is about the schedule"
        raise UsageError(msg, hint="pass --schedule as well, or leave --every out")
    if dry_run:
        emit(recovering.listing(recovering.plan(application, chosen)), output, fields=fields)
        return
    done = []
    for one in recovering.recover(application, chosen):
        done.append(one)
        if watch or one.action.is_alarm:
            label = application.warn if one.action.is_alarm else application.note
            label(f"flow run {one.run.id} ({one.run.name}): {one.action}: {one.note}")
            if one.hint:
                application.note(f"next: {one.hint}")
    emit(recovering.listing(done), output, fields=fields)
    if code := recovering.code_of({one.action for one in done}):
        raise typer.Exit(code)


def _refuse_beside_schedule(
    chosen: "recovering.Chosen", *, everything: bool, dry_run: bool
) -> None:
    given = {
        "a flow run": chosen.runs,
        "--all": everything,
        "--rerun": chosen.rerun,
        "--force": chosen.force,
        "--watch": chosen.watch,
        "--dry-run": dry_run,
    }
    for option, is_given in given.items():
        if is_given:
            msg = f"a schedule recovers all that asks for it: {option} has no place there"
            raise UsageError(msg, hint="leave it out, or leave --schedule out")


@app.command("open")
def open_(
    ctx: typer.Context,
    run: RunArgument,
    *,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Open a flow run's page in the browser; its address is printed, in a pipe nothing more.

    Example: spanctl runs open bold-fox
    """
    from spanctl.orchestration.pages import flow_run_page
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    with connect(application) as api:
        found = api.find_flow_run(run)
        url = flow_run_page(api.url, found.id)
    columns = (Column("url", kind=Kind.ID), Column("flow_run", title="flow run", kind=Kind.ID))
    record = Record("runs.open", columns, {"url": url, "flow_run": found.id})
    alone = output is None and fields is None and not stdout_is_terminal()
    emit(record, Format.NAME if alone else output, fields=fields)
    if stdout_is_terminal() and output is None:
        import webbrowser

        if not webbrowser.open(url):
            application.note("there is no browser here; open the address elsewhere")
